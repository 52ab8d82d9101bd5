"""Schedules in plain English, and nothing that is not so."""

from __future__ import annotations

import pytest
from celery import Celery
from celery.schedules import crontab, schedule, solar

from pgjobs_celery.beat import english
from pgjobs_celery.beat.cron import cron
from pgjobs_celery.beat.english import describe, short_interval
from pgjobs_celery.beat.form import write_when
from pgjobs_celery.beat.spec import to_spec

pytest.importorskip("cron_descriptor", reason="the extra web is not installed")

CRONS = {
    "0 2 * * *": "At 02:00, every day",
    "@daily": "At 00:00, every day",
    "*/5 * * * *": "Every 5 minutes",
    "0 * * * *": "Every hour",
    "0 */2 * * *": "Every 2 hours",
    "30 */2 * * *": "At 30 minutes past the hour, every 2 hours",
    "0 8-18 1 * mon": "Every hour, between 08:00 and 18:59, on day 1 of the month, or on Monday",
    "0 9-17 * * 1-5": "Every hour, between 09:00 and 17:59, Monday through Friday",
    "30 4 1,15 * *": "At 04:30, on day 1 and 15 of the month",
    "0 0 l * *": "At 00:00, on the last day of the month",
    # cron takes a day of either kind.
    "0 0 13 * 5": "At 00:00, on day 13 of the month, or on Friday",
    # A step beyond the end leads nowhere.
    "*/90 * * * *": "Every hour",
    "0 */30 * * *": "At 00:00, every day",
    "5,10/70 3 * * *": "At 5 and 10 minutes past the hour, at 03:00",
}


@pytest.mark.parametrize("expression", CRONS)
def test_a_cron_expression(expression):
    assert describe(to_spec(cron(expression))) == CRONS[expression]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"minute": "0", "hour": "2"}, "At 02:00, every day"),
        ({"minute": 0, "hour": [1, 2, 3]}, "Every hour, between 01:00 and 03:59"),
        ({"minute": 30, "hour": {8, 12}}, "At 08:30 and 12:30, every day"),
        # Celery asks for both.
        (
            {"minute": 0, "hour": 0, "day_of_month": 13, "day_of_week": "fri"},
            "At 00:00, on day 13 of the month, only on Friday",
        ),
    ],
)
def test_a_crontab(fields, words):
    assert describe(to_spec(crontab(**fields))) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "Every second"),
        (0.5, "Every 0.5 seconds"),
        (60, "Every minute"),
        (90, "Every 1 minute 30 seconds"),
        (7200, "Every 2 hours"),
        (90061, "Every 1 day 1 hour 1 minute 1 second"),
    ],
)
def test_an_interval(seconds, words):
    assert describe(to_spec(schedule(seconds))) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "0.5 s"),
        (0.000001, "0.000001 s"),
        (59.123456, "59.123456 s"),
        (30, "30 s"),
        (300, "5 min"),
        (90.25, "1 min 30.25 s"),
        (90061, "1 d 1 h 1 min 1 s"),
        (0, ""),
        (1e11, ""),
    ],
)
def test_an_interval_in_a_narrow_column(seconds, words):
    assert short_interval(seconds) == words


def test_an_interval_that_goes_by_the_clock():
    assert describe(to_spec(schedule(3600, relative=True))) == "Every hour, by the clock"


def test_the_sun():
    where = {"lat": -33.9, "lon": 18.4, "app": Celery(set_as_current=False)}
    assert describe(to_spec(solar("sunset", **where))) == "At sunset, at 33.9° S, 18.4° E"
    assert describe(to_spec(solar("dawn_civil", **where))).startswith("At civil dawn, at")


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"type": "other", "repr": "<moon>"},
        {"type": "cron", "expression": "1--9 * * * *"},
        {"type": "cron", "expression": "1," * 200 + "1 * * * *"},
        {"type": "cron", "expression": 5},
        {"type": "crontab", "minute": "x"},
        {"type": "crontab", **dict.fromkeys(english._FIELDS, "nonsense")},
        {"type": "interval", "every": "often"},
        {"type": "interval", "every": float("inf")},
        {"type": "interval", "every": -1},
        {"type": "solar", "event": "sunset", "lat": None, "lon": 1},
    ],
)
def test_nothing_is_said_of_what_cannot_be_read(spec):
    assert describe(spec) == ""
    assert isinstance(write_when(spec), tuple)


def test_without_the_library_crons_are_shown_as_they_are(monkeypatch):
    monkeypatch.setattr(english, "get_description", None)
    assert describe(to_spec(cron("0 2 * * *"))) == ""
    assert describe(to_spec(schedule(60))) == "Every minute"

"""``celery pgjobs history`` tells of each task or queue, for people and for machines."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest
from celery.bin.celery import celery
from click.testing import CliRunner, Result

from pgjobs_celery.cli.history import span
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.history import HistoryKey, Period


@pytest.fixture
def counted(database: Database, connection) -> None:
    """Eight of ten jobs of mail.send have succeeded."""
    connection.execute("DELETE FROM pgjobs.fold")
    database.metrics.begin_fold()
    # Now, and not when the module was imported: what lies before counting began is not shown.
    now = round(datetime.now(timezone.utc).timestamp()) // 60 * 60
    period = Period(succeeded=8, failed=2, waits=[0, 0, 10], runs=[0, 0, 0, 10], ran=0.08)
    database.history.add(
        "now",
        {
            HistoryKey("task", "mail.send", now): period,
            HistoryKey("task", "\x1b[31mred", now): Period(retried=3),
            HistoryKey("queue", "mail", now): period,
        },
    )


def history(url: str, *words: str) -> Result:
    return CliRunner().invoke(celery, ["pgjobs", "history", "--url", url, *words])


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("window", ["hour", "day", "week"])
def test_each_task_has_a_line(url, window):
    done = history(url, "--range", window)
    assert done.exit_code == 0, done.output
    (line,) = (line for line in done.output.splitlines() if "mail.send" in line)
    assert "2 (20 %)" in line
    assert "3.75 ms" in line  # waited between 2.5 and 5 ms
    assert "\x1b" not in done.output
    assert done.output.index("mail.send") < done.output.index("red")


@pytest.mark.usefixtures("counted")
def test_queues_come_as_json(url):
    found = json.loads(history(url, "--by", "queue", "--json").output)
    assert found["seconds"] == 3600
    queue = found["queue"]["mail"]
    assert (queue["succeeded"], queue["failed"], queue["ended"]) == (8, 2, 10)
    assert queue["run"]["p50"] == pytest.approx(0.0075)
    assert len(queue["runs"]) <= len(found["bounds"]) + 1


def test_nothing_is_told_of_nothing(url):
    assert history(url).output == "Nothing ended in this time.\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0.00423, "4.23 ms"), (1.234, "1.23 s"), (3600, "1:00:00")]
)
def test_durations_are_short(seconds, text):
    assert span(seconds) == text

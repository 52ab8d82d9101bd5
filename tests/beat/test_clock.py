"""The clock that beats go by: the server's, or one that begins somewhere else and is faster."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from pgjobs_celery.beat.clock import read_clock
from pgjobs_celery.errors import InvalidOption, UnknownOption

NOW = datetime(2026, 12, 1, 8, 0, 30, tzinfo=timezone.utc)


def test_it_is_the_servers_unless_told_otherwise():
    clock = read_clock({})
    assert clock.at(NOW) == NOW
    assert clock.seconds(timedelta(seconds=5)) == 5


@pytest.mark.parametrize("given", [str, datetime.fromisoformat])
def test_it_begins_elsewhere_at_the_same_moment_for_all(given):
    clock = read_clock({
        "pgjobs_beat_clock_origin": given("2027-03-28T00:00:00+01:00"),
        "pgjobs_beat_clock_anchor": given("2026-12-01T09:00:00+01:00"),
        "pgjobs_beat_clock_speed": 1440,
    })  # fmt: skip
    assert clock.at(NOW).isoformat() == "2027-03-28T12:00:00+01:00"
    assert clock.seconds(timedelta(days=1)) == 60
    # What begins with it before that moment sees the time before the origin.
    assert clock.at(NOW - timedelta(seconds=31)) < datetime(2027, 3, 27, 23, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"origin": "2027-03-28T00:00:00"}, "with its offset"),
        ({"origin": "tomorrow"}, "with its offset"),
        ({"origin": 5}, "with its offset"),
        ({"origin": "2027-03-28T00:00:00+01:00"}, "needs pgjobs_beat_clock_anchor"),
        ({"anchor": "2027-03-28T00:00:00+01:00"}, "which is not set"),
        ({"speed": 2}, "which is not set"),
        ({"speed": 0}, "above 0"),
        ({"speed": "fast"}, "a number"),
    ],
)
def test_what_makes_no_clock_is_refused(given, message):
    with pytest.raises(InvalidOption, match=message):
        read_clock({f"pgjobs_beat_clock_{name}": value for name, value in given.items()})


def test_a_misspelt_setting_is_named():
    with pytest.raises(UnknownOption, match="did you mean 'pgjobs_beat_clock_speed'"):
        read_clock({"pgjobs_beat_clock_sped": 2})

"""The limits that a process knows are read again when they may have changed, and only then."""

from __future__ import annotations

import pytest

from pgjobs_celery.job.rows import Slots
from pgjobs_celery.node.limits import KnownLimits


def test_limits_are_read_once_until_they_expire():
    limits, read = KnownLimits(), []

    def look() -> dict[str, int]:
        read.append(len(read))
        return {"q": len(read)}

    limits.refresh(look)
    limits.refresh(look)
    assert (limits.shared, read) == ({"q": 1}, [0])
    limits.expire()
    limits.refresh(look)
    assert limits.shared == {"q": 2}


def test_limits_that_could_not_be_read_are_read_later():
    limits = KnownLimits()

    def fail() -> dict[str, int]:
        raise ConnectionError("cut off")

    with pytest.raises(ConnectionError):
        limits.refresh(fail)
    limits.refresh(lambda: {"q": 1})
    assert limits.shared == {"q": 1}


def test_a_change_while_limits_are_read_is_read_too():
    limits = KnownLimits()

    def change() -> dict[str, int]:
        limits.expire()
        return {"q": 1}

    limits.refresh(change)
    limits.refresh(lambda: {"q": 2})
    assert limits.shared == {"q": 2}


def test_a_queue_is_full_until_a_claim_finds_a_place_in_it():
    limits = KnownLimits()
    limits.share({"q": 2, "other": 1})
    limits.learn({"q": Slots(2, 2), "unlimited": Slots(0, 0)}, ["q", "q"])
    assert limits.full == {"q": True, "other": False}
    limits.share({"q": 2})
    assert limits.full == {"q": True}
    limits.learn({"q": Slots(1, 0)}, [])
    assert limits.full == {"q": False}

"""Which jobs from lanes have ended, for others that wait for their places."""

from __future__ import annotations

from typing import Any

from pgjobs_celery.db.rows.claims import Pending, Turn
from pgjobs_celery.db.rows.flow import LaneLook
from pgjobs_celery.job.outcome import completed
from pgjobs_celery.job.rows import Bucket, Claim
from pgjobs_celery.node import lanes
from pgjobs_celery.node.lanes import KnownLanes

LANES = Bucket("q", is_laned=True)


def claims(*ids: int) -> list[Claim]:
    return [Claim(id, 1, 20, "q", 0, id, False, "", b"") for id in ids]


def turn(*ids: int, is_laned: bool = True) -> Turn:
    look = LaneLook("q", False, None, False, False, True) if is_laned else None
    return Turn(claims(*ids), [], {}, {}, look)


def pending(*ids: int) -> Pending:
    return Pending(outcomes=[completed(claim) for claim in claims(*ids)])


def test_only_what_came_from_lanes_and_whose_lanes_are_not_looked_at_is_told_of() -> None:
    known = KnownLanes()
    known.learn(turn(1, 2), [LANES])
    known.learn(turn(3, is_laned=False), [Bucket("q")])
    assert known.ended(pending(1, 3), []) == [1]
    assert known.ended(pending(1, 3), [Bucket("q")]) == [1]
    assert known.ended(pending(1, 3), [LANES]) == []
    assert known.ended(pending(1, 3), [LANES._replace(queue="r")]) == [1]
    known.forget(pending(1, 3))
    assert known.ended(pending(1, 2), []) == [2]


def test_what_has_no_outcome_is_not_remembered_for_ever(monkeypatch: Any) -> None:
    monkeypatch.setattr(lanes, "MOST", 2)
    known = KnownLanes()
    for id in range(4):
        known.learn(turn(id), [LANES])
    assert known.ended(pending(*range(4)), []) == [3]

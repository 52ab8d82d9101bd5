"""Whatever somebody has written into a row by hand, no statement over many rows fails of it."""

from __future__ import annotations

from uuid import UUID

import pytest

from pgjobs_celery.db.database import Database
from pgjobs_celery.job.outcome import (
    completed,
    discarded,
    error_entry,
    released,
    requeued,
    retried,
    snoozed,
)
from pgjobs_celery.job.rows import Bucket, ClaimKey, Fence
from pgjobs_celery.job.states import State
from tests.conftest import Connection
from tests.support.rows import put, states

pytestmark = pytest.mark.usefixtures("living_nodes")

A, B = UUID(int=1), UUID(int=2)

#: What a row may hold that no statement of ours would write.
ODD = {
    "attempts": "attempt = 2147483647, max_attempts = 2147483647",
    "no attempts": "attempt = 0, max_attempts = 0",
    "never expires": "expires_at = 'infinity'",
    "has always been expired": "expires_at = '-infinity'",
    "scheduled for ever": "scheduled_at = 'infinity'",
    "no message": "message = NULL, body = NULL",
    "no JSON": "message = '{', body = '\\x00ff'",
    "empty": "task = '', queue = 'celery', attempted_by = ''",
    "last in line": "seq = 9223372036854775807, priority = 255",
    "first in line": "seq = -9223372036854775808",
    "meta that is a list": "meta = '[1]'",
    "meta that is a text": "meta = '\"x\"'",
    "odd meta": 'meta = \'{"snoozed": "often"}\'',
    "odd tags": "tags = '{{a,NULL},{b,c}}'",
    "odd errors": "errors = '[null, 1, {}]'",
    "long errors": "errors = (SELECT jsonb_agg(repeat('x', 1000)) FROM generate_series(1, 200))",
}


@pytest.fixture
def odd(database: Database, connection: Connection) -> list[str]:
    """A waiting job of each kind; their ids."""
    for name, columns in ODD.items():
        put(database, name)
        connection.execute(f"UPDATE pgjobs.jobs SET {columns} WHERE task_id = '{name}'")
    return list(ODD)


def claim_all(database: Database, node: UUID = A) -> dict[str, tuple[int, int]]:
    claims, _ = database.claims.claim_jobs(node, "node", [Bucket("celery")], 100)
    return {str(claim.id): (claim.id, claim.attempt) for claim in claims}


def test_they_are_claimed_with_all_others(
    odd: list[str], database: Database, connection: Connection
) -> None:
    put(database, "sound")
    assert len(claim_all(database)) == len(odd) + 1
    assert set(states(connection).values()) == {"executing"}


@pytest.mark.parametrize(
    "outcome",
    [
        completed,
        released,
        requeued,
        lambda claim: snoozed(claim, 60.0),
        lambda claim: retried(claim, 60.0, error_entry("Odd", "row")),
        lambda claim: discarded(claim, error_entry("Odd", "row")),
        lambda claim: requeued(claim)._replace(error=error_entry("Odd", "row")),
    ],
)
def test_they_are_settled_with_all_others(
    outcome: object, odd: list[str], database: Database, connection: Connection
) -> None:
    claims = claim_all(database)
    assert (
        database.claims.settle_jobs(A, [outcome(ClaimKey(*claim)) for claim in claims.values()])
        == []
    )  # type: ignore[operator]
    assert "executing" not in states(connection).values()


@pytest.mark.parametrize("name", ["meta that is a list", "meta that is a text"])
def test_meta_that_is_no_object_counts_as_empty(
    name: str, odd: list[str], database: Database
) -> None:
    claim_all(database)
    assert database.held.get_meta(name) == {}
    assert database.held.merge_meta(name, Fence(A, 1), '{"sent": 1}') == {"sent": 1}
    assert database.held.get_meta(name) == {"sent": 1}


def test_they_are_rescued_with_all_others(
    odd: list[str], database: Database, connection: Connection
) -> None:
    assert len(claim_all(database)) == len(odd)
    connection.execute("UPDATE pgjobs.jobs SET acks_late = length(task_id) % 2 = 0")
    connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = '-infinity' WHERE node = %s", [A])
    rescue = database.claims.rescue_jobs()
    assert rescue.returned + rescue.discarded == len(odd)
    assert "executing" not in states(connection).values()
    without = "SELECT task_id FROM pgjobs.jobs WHERE errors = '[]'"
    assert connection.execute(without).fetchall() == []


def test_they_are_put_back_when_nobody_knows_of_the_claim(
    odd: list[str], database: Database, connection: Connection
) -> None:
    claim_all(database)
    connection.execute("UPDATE pgjobs.jobs SET attempt = 0 WHERE task_id = 'empty'")
    assert database.claims.release_unknown_jobs(A, ["celery"], []) == len(odd)
    assert set(states(connection).values()) == {"available"}


def test_they_are_staged_with_all_others_and_infinity_is_never(
    odd: list[str], database: Database, connection: Connection
) -> None:
    connection.execute("UPDATE pgjobs.jobs SET state = 'scheduled', due_at = '-infinity'")
    put(database, "parked")
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'scheduled', due_at = 'infinity' WHERE task_id = 'parked'"
    )
    due = database.claims.next_due()
    assert due is not None
    assert due < 0
    assert database.claims.stage_jobs(100) == {"celery": len(odd)}
    assert database.claims.next_due() is None
    assert states(connection).pop("parked") == "scheduled"


def test_they_are_purged_and_pruned_with_all_others(
    odd: list[str], database: Database, connection: Connection
) -> None:
    assert database.jobs.count_ready("celery") == len(odd)
    assert database.jobs.purge_jobs("celery") == len(odd)
    connection.execute("UPDATE pgjobs.jobs SET finished_at = '-infinity' WHERE id % 2 = 0")
    connection.execute(
        "UPDATE pgjobs.jobs SET finished_at = now() - interval '1 h' WHERE id % 2 = 1"
    )
    count, _ = database.claims.prune_jobs(State.CANCELLED, 60.0, None, None, 100)
    assert count == len(odd)

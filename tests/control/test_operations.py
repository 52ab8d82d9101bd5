"""Actions on all that match, in steps: whatever happens between two, a job is acted on once."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest

from pgjobs_celery.config import Options
from pgjobs_celery.control.acting import acting_as
from pgjobs_celery.control.audit import audit
from pgjobs_celery.control.jobs import ACTS_ON, jobs
from pgjobs_celery.control.operations import RECORDED, Operation, OperationGone, Operations
from pgjobs_celery.control.search import InvalidSearch
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows import filtered
from pgjobs_celery.errors import InvalidOption
from tests.conftest import Connection
from tests.support.rows import put, states


class Crash(BaseException):
    """The process is gone: nothing behind it runs."""


@pytest.fixture
def operations(database: Database, monkeypatch: pytest.MonkeyPatch) -> Operations:
    """With batches of three."""
    monkeypatch.setattr(filtered, "BATCH", 3)
    return Operations(database)


@pytest.fixture
def another(database: Database) -> Operations:
    """Those of another process."""
    return Operations(Database(database.conninfo, Options()))


def crash_after(batches: int):
    def on_batch(operation: Operation) -> None:
        if operation.batches >= batches:
            raise Crash

    return on_batch


def test_every_action_has_its_name_in_the_audit():
    assert set(RECORDED) == set(ACTS_ON)


def test_an_operation_goes_through_all_that_match_and_tells_how_far_it_is(
    operations, database, connection
):
    put(database, *(f"t{n}" for n in range(8)), queue="mail")
    put(database, "other")
    with acting_as("alice"):
        begun = operations.begin("cancel", "queue:mail", {"reason": "why"}, expected="8", actor="a")
        put(database, "late", queue="mail")
        seen: list[Operation] = []
        ended = operations.go_on(begun.id, seen.append)
    assert [(each.changed, each.batches) for each in seen] == [(3, 1), (6, 2), (8, 3)]
    assert (ended.state, ended.changed, ended.share) == ("ended", 8, 1.0)
    assert 0 < seen[0].share < seen[1].share <= 1
    assert operations.look(begun.id).operation == ended
    alive = {task_id for task_id, state in states(connection).items() if state == "available"}
    assert alive == {"other", "late"}
    (entry,) = audit(database).list()
    assert (entry.actor, entry.action, entry.jobs) == ("alice", "cancel_jobs", 8)
    assert entry.details == {"reason": "why"}
    rows = connection.execute("SELECT action_id::text, batch FROM pgjobs.audit ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [(begun.id, n) for n in range(3)]
    # Once more is not at all.
    assert operations.go_on(begun.id) == ended


def test_after_a_crash_another_process_acts_on_no_job_twice(
    operations, another, database, connection
):
    put(database, *(f"t{n}" for n in range(8)))
    connection.execute("UPDATE pgjobs.jobs SET state = 'discarded', finished_at = now()")
    begun = operations.begin("retry", "state:discarded")
    with pytest.raises(Crash):
        operations.go_on(begun.id, crash_after(2))
    # Those that were retried have failed once more, and match again.
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'discarded', finished_at = now(), attempt = attempt + 1"
        " WHERE state = 'available'"
    )
    ended = another.go_on(begun.id)
    assert (ended.state, ended.changed, ended.batches) == ("ended", 8, 3)
    assert sorted(states(connection).values()) == ["available"] * 2 + ["discarded"] * 6
    (entry,) = audit(database).list()
    assert entry.jobs == 8


def test_what_takes_over_waits_for_the_batch_that_is_under_way_and_the_first_gives_way(
    operations, another, database, connection, monkeypatch
):
    put(database, *(f"t{n}" for n in range(9)))
    begun = operations.begin("cancel", "")
    took_over = threading.Event()
    within = filtered.Matches._record

    def record_late(self, action, batch, **given):
        if action.batches == 1 and not took_over.is_set():
            took_over.set()
            # In the middle of the second batch of the first process.
            turn = another.take_turn(begun.id)
            assert turn > 0
        within(self, action, batch, **given)

    monkeypatch.setattr(filtered.Matches, "_record", record_late)
    first = operations.go_on(begun.id)
    assert took_over.is_set()
    assert (first.state, first.changed) == ("running", 3)
    assert sorted(states(connection).values()).count("cancelled") == 3
    ended = another.go_on(begun.id)
    assert (ended.state, ended.changed, ended.batches) == ("ended", 9, 3)


def test_an_operation_is_stopped_after_its_batch_and_gone_on_with(
    operations, another, database, connection
):
    put(database, *(f"t{n}" for n in range(8)))
    begun = operations.begin("move", "", {"queue": "other"})

    def stop(operation: Operation) -> None:
        if operation.batches == 1:
            assert another.look(begun.id).is_alive
            another.stop(begun.id)
            assert another.look(begun.id).is_stopping

    stopped = operations.go_on(begun.id, stop)
    assert (stopped.state, stopped.changed) == ("stopped", 3)
    seen = another.look(begun.id)
    assert (seen.operation.state, seen.is_alive, seen.is_stopping) == ("stopped", False, False)
    assert operations.go_on(begun.id).changed == 8
    another.stop(begun.id)
    assert another.look(begun.id).operation.state == "ended"


def test_what_nobody_goes_on_with_is_stopped_at_once(operations, database):
    put(database, "a")
    begun = operations.begin("delete", "")
    operations.stop(begun.id)
    assert operations.look(begun.id).operation.state == "stopped"


def test_what_fails_says_why_and_can_be_gone_on_with(operations, database, connection):
    put(database, *(f"t{n}" for n in range(5)))
    begun = operations.begin("delete", "")
    connection.execute("ALTER TABLE pgjobs.audit RENAME TO gone")
    try:
        with pytest.raises(Exception, match="audit"):
            operations.go_on(begun.id)
    finally:
        connection.execute("ALTER TABLE pgjobs.gone RENAME TO audit")
    failed = operations.look(begun.id).operation
    assert (failed.state, failed.changed) == ("failed", 0)
    assert "audit" in failed.error
    assert operations.go_on(begun.id).changed == 5


@pytest.mark.parametrize(
    ("action", "search", "options"),
    [
        ("move", "", {"queue": "x" * 3000}),
        ("move", "", {}),
        ("set_priority", "", {"priority": 256}),
        ("reschedule", "", {"eta": "soon"}),
        ("reschedule", "", {}),
        ("cancel", "", {"reasn": "x"}),
        ("explode", "", {}),
    ],
)
def test_what_cannot_be_done_is_refused_before_it_begins(operations, action, search, options):
    with pytest.raises(InvalidOption):
        operations.begin(action, search, options)


def test_what_was_never_begun_is_not_there(operations, database):
    with pytest.raises(InvalidSearch):
        operations.begin("cancel", "stat:x")
    for id in (str(uuid4()), "", "é\x00", "x" * 3000):
        with pytest.raises(OperationGone):
            operations.look(id)
    database.entries.set_entry(b"pgjobs-operation:odd", b"[1]", 60)
    with pytest.raises(OperationGone):
        operations.look("odd")


def test_a_time_is_kept_as_text(operations, database, connection: Connection):
    put(database, "a")
    begun = operations.begin("reschedule", "", {"eta": "2100-01-31T06:00+01:00"})
    assert operations.go_on(begun.id).changed == 1
    assert states(connection) == {"a": "scheduled"}


def test_a_cancellation_is_taken_back_with_the_times_that_jobs_had(
    operations, another, database, connection
):
    put(database, *(f"t{n}" for n in range(5)))
    put(database, *(f"later{n}" for n in range(3)), eta=3600)
    before = connection.execute("SELECT scheduled_at FROM pgjobs.jobs WHERE task_id = 'later1'")
    time = before.fetchone()["scheduled_at"]
    put(database, "mine")
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'executing', claimed_by = gen_random_uuid(), attempt = 1,"
        " attempted_at = now() WHERE task_id = 't0'"
    )
    done = operations.go_on(operations.begin("cancel", "").id)
    assert (done.changed, done.batches, done.can_be_undone) == (9, 3, True)
    jobs(database).filter(id="mine").retry()
    jobs(database).filter(id="mine").delete()
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'cancelled', claimed_by = NULL, finished_at = now()"
        " WHERE task_id = 't0'"
    )
    undoing = operations.begin_undoing(done.id)
    with pytest.raises(Crash):
        operations.go_on(undoing.id, crash_after(1))
    undone = another.go_on(undoing.id)
    assert (undone.state, undone.changed, undone.share) == ("ended", 7, 1.0)
    found = states(connection)
    assert {found.pop(f"later{n}") for n in range(3)} == {"scheduled"}
    # What ran was told to stop, and did: that cannot be taken back.
    assert found.pop("t0") == "cancelled"
    assert set(found.values()) == {"available"}
    row = connection.execute(
        "SELECT scheduled_at, due_at FROM pgjobs.jobs WHERE task_id = 'later1'"
    ).fetchone()
    assert (row["scheduled_at"], row["due_at"]) == (time, time)
    with pytest.raises(InvalidOption):
        operations.begin_undoing(undone.id)

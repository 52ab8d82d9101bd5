"""Saved groups, and chords: how much of a header has finished stands in the rows of its tasks."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from pgjobs_celery.config import Settings
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.groups import Chord
from pgjobs_celery.job.envelope import LAST_INDEX
from pgjobs_celery.job.outcome import Result, cancelled, completed, discarded, error_entry
from pgjobs_celery.job.rows import Bucket
from pgjobs_celery.job.states import State
from pgjobs_celery.maintenance.prune import Prune
from tests.conftest import Connection
from tests.support.rows import alive, put

pytestmark = pytest.mark.usefixtures("living_nodes")

A, B = UUID(int=1), UUID(int=2)
BODY = Chord(b'{"task": "body"}', None, "application/json")


def put_header(database: Database, count: int, group_id: str = "g", *, sized: bool = True) -> None:
    """A chord with ``count`` tasks in its header, called ``<group>0`` and so on."""
    database.groups.open_chord(group_id, BODY, 0, is_repeated=False)
    for index in range(count):
        put(database, f"{group_id}{index}", group_id=group_id, group_index=index)
    if sized:
        database.groups.size_chord(group_id, count)


def finish(database: Database, count: int = 1, result: bytes = b"1") -> None:
    claims, _ = database.claims.claim_jobs(A, "node", [Bucket("celery")], count)
    assert len(claims) == count
    for claim in claims:
        stored = Result("", result, "application/json", None, None, None)
        database.claims.settle_jobs(A, [completed(claim, stored)])


def age(connection: Connection, seconds: float) -> None:
    """Everything there is was there so much earlier."""
    connection.execute(
        "UPDATE pgjobs.groups SET inserted_at = inserted_at - %s * interval '1 s'", (seconds,)
    )
    connection.execute(
        "UPDATE pgjobs.jobs SET finished_at = finished_at - %s * interval '1 s'", (seconds,)
    )


# -- saved groups --------------------------------------------------------------------------------


def test_a_group_is_kept_as_it_was_saved_last(database):
    assert database.groups.get_group("g") is None
    database.groups.save_group("g", b"\x00\xff", "application/x-python-serialize")
    database.groups.save_group("g", b"[1]", "application/json")
    assert database.groups.get_group("g") == (b"[1]", "application/json")
    database.groups.delete_group("g")
    database.groups.delete_group("g")
    assert database.groups.get_group("g") is None


def test_deleting_what_was_saved_leaves_the_chord(database):
    put_header(database, 1)
    database.groups.save_group("g", b"[1]", "application/json")
    database.groups.delete_group("g")
    assert database.groups.get_group("g") is None
    assert database.groups.count_missing("g") == 1


# -- how much is missing -------------------------------------------------------------------------


def test_a_chord_is_complete_when_all_of_its_header_has_finished(database):
    put_header(database, 3)
    assert database.groups.count_missing("g") == 3
    finish(database, 2)
    assert database.groups.count_missing("g") == 1
    finish(database)
    assert database.groups.count_missing("g") == 0


@pytest.mark.parametrize("outcome", [
    lambda claim: discarded(claim, error_entry("E", "m")),
    lambda claim: cancelled(claim, "no"),
])  # fmt: skip
def test_what_failed_has_finished(database, outcome):
    put_header(database, 1)
    ((claim,), _) = database.claims.claim_jobs(A, "node", [Bucket("celery")], 1)
    assert database.groups.count_missing("g") == 1
    database.claims.settle_jobs(A, [outcome(claim)])
    assert database.groups.count_missing("g") == 0


def test_nothing_is_complete_before_its_size_is_known(database):
    put_header(database, 1, sized=False)
    finish(database)
    assert database.groups.count_missing("g") is None
    assert database.groups.find_chords(None, 10) == []
    database.groups.size_chord("g", 2)
    assert database.groups.count_missing("g") == 1


def test_a_task_that_was_delivered_again_counts_once(database):
    put_header(database, 2)
    ((claim,), _) = database.claims.claim_jobs(A, "node", [Bucket("celery")], 1)
    database.nodes.delete_node(A)
    database.claims.rescue_jobs()
    finish_as(database, B, 1)
    late = completed(claim)
    assert database.claims.settle_jobs(A, [late]) == [late]
    assert database.groups.count_missing("g") == 1


def finish_as(database: Database, node: UUID, count: int) -> None:
    claims, _ = database.claims.claim_jobs(node, "node", [Bucket("celery")], count)
    database.claims.settle_jobs(node, [completed(claim) for claim in claims])


def test_tasks_that_are_added_are_waited_for(database):
    put_header(database, 1)
    database.groups.extend_chord("g")
    finish(database)
    assert database.groups.count_missing("g") == 1
    put(database, "more", group_id="g", group_index=LAST_INDEX)
    finish(database)
    assert database.groups.count_missing("g") == 0
    assert [part.result.task_id for part in database.groups.get_parts("g")] == ["g0", "more"]


def test_other_groups_are_not_counted(database):
    put_header(database, 2, "g")
    put_header(database, 1, "h")
    finish(database, 3)
    assert [database.groups.count_missing(group) for group in "gh"] == [0, 0]
    assert [part.result.task_id for part in database.groups.get_parts("g")] == ["g0", "g1"]


def test_parts_come_in_the_order_of_the_header(database):
    database.groups.open_chord("g", BODY, 0, is_repeated=False)
    for index in (2, 0, 1):
        put(database, f"g{index}", group_id="g", group_index=index)
    database.groups.size_chord("g", 3)
    finish(database, 3)
    assert [part.result.task_id for part in database.groups.get_parts("g")] == ["g0", "g1", "g2"]


# -- who publishes the body ----------------------------------------------------------------------


def test_one_has_the_chord_until_its_transaction_ends(database):
    put_header(database, 1)
    other = Database(database.conninfo, database.options)
    with database.transaction():
        assert database.groups.lock_chord("g") == BODY
        assert other.groups.lock_chord("g") is None
    with other.transaction():
        assert other.groups.lock_chord("g") == BODY
        other.groups.close_chord("g")
    assert database.groups.lock_chord("g") is None
    assert database.groups.count_missing("g") is None
    other.close()


def test_who_dies_leaves_the_chord_to_others(database):
    put_header(database, 1)
    finish(database)
    with pytest.raises(RuntimeError), database.transaction():  # noqa: PT012
        assert database.groups.lock_chord("g") == BODY
        put(database, "body")
        database.groups.close_chord("g")
        raise RuntimeError("died")
    assert database.groups.find_chords(None, 10) == [("g", False)]
    assert database.results.get_results(["body"]) == []


def test_a_chord_is_told_from_other_groups(database):
    put_header(database, 1)
    database.groups.save_group("saved", b"[]", "application/json")
    assert database.groups.pick_chord(["unknown", "saved", "g"]) == "g"
    assert database.groups.pick_chord(["unknown", "saved"]) is None
    finish(database)
    database.groups.close_chord("g")
    assert database.groups.pick_chord(["g"]) == "g"


def test_a_chord_that_was_done_is_done(database, connection):
    put_header(database, 1)
    finish(database)
    database.groups.close_chord("g")
    assert database.groups.find_chords(0, 10) == []
    assert database.groups.try_chord("g") is None
    database.groups.size_chord("g", 5)
    assert database.groups.count_missing("g") is None
    (row,) = connection.execute("SELECT body, header, size FROM pgjobs.groups").fetchall()
    assert row == {"body": None, "header": None, "size": 1}


def test_a_chord_that_is_published_again_runs_again(database):
    put_header(database, 1)
    finish(database)
    database.groups.close_chord("g")
    put_header(database, 1)
    assert database.groups.count_missing("g") == 1
    finish(database)
    assert database.groups.count_missing("g") == 0


def test_a_chord_that_was_delivered_again_does_not(database):
    put_header(database, 2)
    finish(database)
    database.groups.open_chord("g", BODY, 0, is_repeated=True)
    assert database.groups.count_missing("g") == 1
    finish(database)
    database.groups.close_chord("g")
    database.groups.open_chord("g", BODY, 0, is_repeated=True)
    assert database.groups.lock_chord("g") is None


def test_a_complete_chord_is_found(database):
    put_header(database, 2, "g")
    put_header(database, 1, "h")
    finish(database, 2)
    assert database.groups.find_chords(3600, 10) == [("g", False)]
    assert [database.groups.try_chord("g") for _ in range(2)] == [1, 2]


def test_a_chord_of_which_nothing_is_heard_is_found(database, connection):
    put_header(database, 2)
    finish(database)
    age(connection, 100)
    assert database.groups.find_chords(None, 10) == []
    assert database.groups.find_chords(200, 10) == []
    assert database.groups.find_chords(50, 10) == [("g", True)]
    put(database, "x", group_id="g", group_index=7)
    finish_all(database)
    assert database.groups.find_chords(50, 10) == [("g", False)]


def finish_all(database: Database) -> None:
    finish_as(database, A, 100)


# -- what is kept --------------------------------------------------------------------------------


def test_what_a_body_waits_for_is_neither_pruned_nor_forgotten(database, connection):
    put_header(database, 2)
    put(database, "plain")
    database.groups.save_group("saved", b"[]", "application/json")
    put(database, "member", group_id="saved", group_index=0)
    finish_as(database, A, 1)
    connection.execute("UPDATE pgjobs.jobs SET seq = 0 WHERE task_id IN ('plain', 'member')")
    finish_as(database, A, 2)
    age(connection, 100)
    database.results.forget_result("g0")
    count, _ = database.claims.prune_jobs(State.COMPLETED, 50, None, None, 10)
    assert (count, names(connection)) == (2, {"g0", "g1"})
    finish_all(database)
    database.groups.close_chord("g")
    database.results.forget_result("g0")
    age(connection, 100)
    count, _ = database.claims.prune_jobs(State.COMPLETED, 50, None, None, 10)
    assert (count, names(connection)) == (1, set())


def names(connection: Connection) -> set[str]:
    return {row["task_id"] for row in connection.execute("SELECT task_id FROM pgjobs.jobs")}


def test_groups_go_when_their_results_do(database, connection):
    put_header(database, 1, "done")
    database.groups.close_chord("done")
    put_header(database, 1, "open")
    database.groups.save_group("saved", b"[]", "application/json")
    age(connection, 100)
    database.groups.save_group("new", b"[]", "application/json")
    Prune(Settings(prune_max_age=200, chord_max_age=50)).run(database)
    Prune(Settings(prune_max_age=50, chord_max_age=200)).run(database)
    Prune(Settings(prune_max_age=0, chord_max_age=50)).run(database)
    Prune(Settings(prune_max_age=50, chord_max_age=0)).run(database)
    assert groups(connection) == {"done", "open", "saved", "new"}
    Prune(Settings(prune_max_age=50, chord_max_age=50)).run(database)
    assert groups(connection) == {"open", "new"}


def groups(connection: Connection) -> set[str]:
    return {row["group_id"] for row in connection.execute("SELECT group_id FROM pgjobs.groups")}


# -- transactions --------------------------------------------------------------------------------


def test_a_transaction_is_there_as_a_whole(database, connection):
    with database.transaction():
        put(database, "a", "b")
        assert names(connection) == set()
    assert names(connection) == {"a", "b"}


def test_a_transaction_within_another_is_a_savepoint(database, connection):
    with database.transaction():
        put(database, "a")
        with pytest.raises(RuntimeError), database.transaction():  # noqa: PT012
            put(database, "b")
            raise RuntimeError
        with database.transaction():
            put(database, "c")
    assert names(connection) == {"a", "c"}


def test_what_was_refused_takes_along_its_savepoint_only(database, connection):
    with database.transaction():
        put(database, "a")
        with pytest.raises(Exception, match="priority"), database.transaction():
            put(database, "b", priority=999)
        put(database, "c")
    assert names(connection) == {"a", "c"}


def test_nothing_is_tried_again_without_the_rest_of_its_transaction(database, connection):
    calls: list[Any] = []

    def work() -> None:
        calls.append(database.fetch("ping"))
        put(database, "b")

    with pytest.raises(Exception, match="connection"), database.transaction():  # noqa: PT012
        put(database, "a")
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE state = 'idle in transaction' AND application_name = 'pgjobs-celery'"
        )
        database.retrying(work)
    assert (calls, names(connection)) == ([], set())
    put(database, "c")
    assert names(connection) == {"c"}


def test_who_waits_is_woken_by_the_commit(database):
    listener = database.listen_for_work()
    listener.announce(["celery"])
    with database.transaction():
        put(database, "a")
        assert listener.wait(0.2) == set()
    assert listener.wait(10) == {"jcelery"}
    listener.close()
    alive(database, A)

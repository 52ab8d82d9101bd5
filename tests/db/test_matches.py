"""What each action makes of every kind of row, in batches and against others who hold the rows."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from pgjobs_celery.config import Options
from pgjobs_celery.control.filters import Filters
from pgjobs_celery.control.jobs import ACTS_ON, Selection, jobs
from pgjobs_celery.db import notify
from pgjobs_celery.db.connection import prepared
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows import filtered as matches
from pgjobs_celery.db.sql import statement
from pgjobs_celery.job.outcome import completed
from pgjobs_celery.job.rows import Bucket
from pgjobs_celery.job.states import State
from tests.conftest import Connection
from tests.db.test_odd_rows import ODD
from tests.db.test_plans import FILL, _walk
from tests.support.rows import put, row, states

pytestmark = pytest.mark.usefixtures("living_nodes")

A, B = UUID(int=1), UUID(int=2)
FUTURE = datetime.now(timezone.utc) + timedelta(hours=1)
PAST = datetime.now(timezone.utc) - timedelta(hours=1)

ACTIONS: dict[str, Callable[[Selection], list[str]]] = {
    "cancel": lambda jobs: jobs.cancel("why"),
    "retry": lambda jobs: jobs.retry(),
    "delete": lambda jobs: jobs.delete(),
    "reschedule": lambda jobs: jobs.reschedule(eta=FUTURE),
    "reschedule to the past": lambda jobs: jobs.reschedule(eta=PAST),
    "set_priority": lambda jobs: jobs.set_priority(3),
    "move": lambda jobs: jobs.move("other"),
}

#: From each state to which, per action; a state that is not there is left alone.
BECOMES = {
    "cancel": {
        "scheduled": "cancelled",
        "available": "cancelled",
        "retryable": "cancelled",
        "executing": "executing",
    },
    "retry": dict.fromkeys(
        ["scheduled", "retryable", "completed", "discarded", "cancelled"], "available"
    ),
    "delete": dict.fromkeys(
        ["scheduled", "available", "retryable", "completed", "discarded", "cancelled"]
    ),
    "reschedule": {
        "scheduled": "scheduled",
        "available": "scheduled",
        "retryable": "retryable",
    },
    "reschedule to the past": dict.fromkeys(["scheduled", "available", "retryable"], "available"),
    "set_priority": {state: state for state in ("scheduled", "available", "retryable")},
    "move": {state: state for state in ("scheduled", "available", "retryable")},
}


@pytest.fixture
def one_of_each(database: Database, connection: Connection) -> None:
    """A job in each state, its id the state's name; those that have run have run once."""
    put(database, *(state.value for state in State if state is not State.SCHEDULED))
    put(database, "scheduled", eta=3600)
    ran = "attempt = 1, attempted_at = now()"
    left = "result = 'r', result_type = 't', traceback = 'tb', children = '[]'"
    connection.execute(
        f"UPDATE pgjobs.jobs SET state = task_id, finished_at = now(), {ran}, {left} "
        "WHERE task_id IN ('completed', 'discarded', 'cancelled')"
    )
    connection.execute(
        f"UPDATE pgjobs.jobs SET state = 'retryable', due_at = now() + interval '1 hour', {ran}, "
        f"{left}, reported_state = 'RETRY' WHERE task_id = 'retryable'"
    )
    connection.execute(
        f"UPDATE pgjobs.jobs SET state = 'executing', claimed_by = '{A}', {ran}, "
        "reported_state = 'PROGRESS' WHERE task_id = 'executing'"
    )


def rows(connection: Connection) -> dict[str, dict[str, Any]]:
    found = connection.execute("SELECT * FROM pgjobs.jobs").fetchall()
    return {each["task_id"]: each for each in found}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.usefixtures("one_of_each")
def test_each_action_does_to_each_state_what_the_table_says(database, connection, action):
    before = rows(connection)
    changed = ACTIONS[action](jobs(database))
    after = rows(connection)
    becomes = BECOMES[action]
    assert sorted(changed) == sorted(becomes)
    assert {State(state) for state in becomes} == ACTS_ON[action.split()[0]]
    for state in State:
        if state in becomes:
            assert (after[state]["state"] if state in after else None) == becomes[state]
        else:
            assert after[state] == before[state]


@pytest.mark.usefixtures("one_of_each")
def test_what_waited_and_is_cancelled_says_why_and_keeps_nothing_of_an_attempt(
    database, connection
):
    assert jobs(database).filter(state="retryable").cancel("unsubscribed") == ["retryable"]
    job = row(connection, "retryable")
    assert job["finished_at"] is not None
    assert job["cancel_reason"] == "unsubscribed"
    for column in ("due_at", "reported_state", "result", "result_type", "traceback"):
        assert job[column] is None, column
    (entry,) = job["errors"]
    assert datetime.fromisoformat(entry.pop("at"))
    assert entry == {
        "attempt": 1,
        "type": "TaskRevokedError",
        "module": "celery.exceptions",
        "message": "unsubscribed",
    }


@pytest.mark.usefixtures("one_of_each")
def test_without_a_reason_the_error_says_revoked(database, connection):
    jobs(database).filter(id="available").cancel()
    assert row(connection, "available")["errors"][0]["message"] == "revoked"
    assert row(connection, "available")["cancel_reason"] is None


@pytest.mark.usefixtures("one_of_each")
def test_what_runs_is_only_asked_to_stop_and_may_be_asked_again_with_a_signal(database, connection):
    before = row(connection, "executing")
    running = jobs(database).filter(state="executing")
    assert running.cancel("first") == ["executing"]
    asked = row(connection, "executing")
    assert asked["cancel_requested_at"] is not None
    assert (asked["cancel_reason"], asked["cancel_signal"]) == ("first", None)
    ours = {"cancel_requested_at", "cancel_reason", "cancel_signal"}
    assert {name for name in before if asked[name] != before[name]} == ours - {"cancel_signal"}
    running.cancel(terminate=True, signal="kill")
    again = row(connection, "executing")
    assert again["cancel_requested_at"] > asked["cancel_requested_at"]
    assert (again["cancel_reason"], again["cancel_signal"]) == ("first", "SIGKILL")
    running.cancel("third")
    assert row(connection, "executing")["cancel_signal"] == "SIGKILL"


@pytest.mark.usefixtures("one_of_each")
def test_a_retry_is_the_same_job_with_nothing_left_but_its_errors(database, connection):
    connection.execute(
        'UPDATE pgjobs.jobs SET max_attempts = 1, errors = \'[{"type": "Failed"}]\', '
        "cancel_reason = 'r', cancel_signal = 'SIGTERM', cancel_requested_at = now(), "
        "scheduled_at = '2000-01-01', redelivered = true WHERE task_id = 'discarded'"
    )
    before = row(connection, "discarded")
    newest = connection.execute("SELECT max(seq) AS seq FROM pgjobs.jobs").fetchone()["seq"]
    assert jobs(database).filter(id="discarded").retry() == ["discarded"]
    after = row(connection, "discarded")
    kept = ("id", "attempt", "errors", "message", "body", "inserted_at", "queue", "priority")
    assert [after[name] for name in kept] == [before[name] for name in kept]
    assert after["max_attempts"] == 2
    assert after["seq"] > newest
    assert after["scheduled_at"] > before["finished_at"]
    assert not after["redelivered"]
    for column in (
        "due_at", "finished_at", "reported_state", "result", "result_type", "traceback", "children",
        "cancel_requested_at", "cancel_reason", "cancel_signal",
    ):  # fmt: skip
        assert after[column] is None, column
    ((claim,), _) = database.claims.claim_jobs(A, "n", [Bucket("celery", floor=newest + 1)], 10)
    assert (claim.id, claim.attempt) == (after["id"], 2)


def test_many_retries_keep_their_order(database, connection):
    put(database, *"abcde")
    connection.execute("UPDATE pgjobs.jobs SET state = 'discarded', finished_at = now()")
    assert jobs(database).retry() == [*"abcde"]
    found = connection.execute("SELECT task_id FROM pgjobs.jobs ORDER BY seq").fetchall()
    assert [each["task_id"] for each in found] == [*"abcde"]


def test_what_has_no_message_is_not_put_in_line_and_nobody_can_be_told_to_stop_it(
    database, connection
):
    put(database, "result", "report")
    connection.execute(
        "UPDATE pgjobs.jobs SET message = NULL, state = 'completed', finished_at = now() "
        "WHERE task_id = 'result'"
    )
    connection.execute(
        f"UPDATE pgjobs.jobs SET message = NULL, state = 'executing', claimed_by = '{UUID(int=0)}' "
        "WHERE task_id = 'report'"
    )
    before = rows(connection)
    assert jobs(database).retry() == []
    assert jobs(database).cancel() == []
    assert rows(connection) == before


@pytest.mark.parametrize(
    ("successor", "is_retried"), [("available", False), ("completed", True), (None, True)]
)
def test_a_job_whose_successor_is_still_to_run_is_left_alone(
    database, connection, successor, is_retried
):
    put(database, "old", *(["new"] if successor else []))
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'cancelled', finished_at = now(), superseded_by = 'new' "
        "WHERE task_id = 'old'"
    )
    if successor == "completed":
        connection.execute(
            "UPDATE pgjobs.jobs SET state = 'completed', finished_at = now() WHERE task_id = 'new'"
        )
    assert jobs(database).filter(id="old").retry() == (["old"] if is_retried else [])


@pytest.mark.usefixtures("one_of_each")
def test_another_time_by_the_databases_clock(database, connection):
    before = rows(connection)
    jobs(database).filter(state=["available", "retryable"]).reschedule(countdown=60)
    for task_id in ("available", "retryable"):
        after = row(connection, task_id)
        assert after["due_at"] == after["scheduled_at"]
        assert 55 < (after["due_at"] - datetime.now(timezone.utc)).total_seconds() <= 60
        assert after["seq"] == before[task_id]["seq"]
    jobs(database).filter(id="retryable").reschedule(countdown=0)
    assert row(connection, "retryable")["seq"] > max(each["seq"] for each in before.values())


def test_another_time_that_is_past_leaves_what_is_ready_in_its_place(database, connection):
    put(database, "a", "b")
    before = rows(connection)
    assert sorted(jobs(database).filter(id="a").reschedule(eta=PAST)) == ["a"]
    after = row(connection, "a")
    assert (after["seq"], after["due_at"]) == (before["a"]["seq"], None)
    assert after["scheduled_at"] == PAST


def test_another_queue_is_entered_at_its_end(database, connection):
    put(database, "first", "second")
    put(database, "third", queue="mail")
    assert jobs(database).move("mail") == ["first", "second"]
    claims, _ = database.claims.claim_jobs(A, "n", [Bucket("mail")], 10)
    ids = {each["id"]: task_id for task_id, each in rows(connection).items()}
    assert [ids[claim.id] for claim in claims] == ["third", "first", "second"]


def test_another_priority_goes_by_the_order_of_the_transport(url, connection):
    for order, expected in (("asc", 3), ("desc", 252)):
        database = Database(parse_url(url), Options(priority_order=order))
        put(database, order)
        assert jobs(database).filter(id=order).set_priority(3) == [order]
        assert row(connection, order)["priority"] == expected
        assert jobs(database).filter(id=order).set_priority(3) == []
        database.close()


# Batches


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matches, "BATCH", 7)
    monkeypatch.setattr(matches, "PAGE", 7)


def put_many(connection: Connection, count: int) -> None:
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, message, body) "
        "SELECT 'm' || n, 'task', 'celery', '{}', '[[], {}, {}]' "
        "FROM generate_series(1, %s) AS n",
        (count,),
    )


def test_10000_jobs_are_changed_in_ten_transactions_and_each_once(database, connection):
    put_many(connection, 10_000)
    batches: list[int] = []
    changed = jobs(database).cancel(on_batch=batches.append)
    assert len(changed) == len(set(changed)) == 10_000
    assert batches == [1000] * 10 + [0]
    writers = connection.execute(
        "SELECT count(DISTINCT xmin::text) AS n, count(*) AS jobs FROM pgjobs.jobs "
        "WHERE state = 'cancelled' AND jsonb_array_length(errors) = 1"
    ).fetchone()
    assert writers == {"n": 10, "jobs": 10_000}


@pytest.mark.usefixtures("small_batches")
def test_an_action_that_leaves_its_jobs_in_the_selection_meets_none_twice(database, connection):
    put_many(connection, 50)
    selection = jobs(database).filter(state="available")
    assert len(set(selection.set_priority(5))) == 50
    assert [*selection] == sorted(selection, key=lambda job: job.id or 0)
    assert [job.id for job in selection.list(None)] == [job.id for job in selection][::-1]
    assert len(selection.list(20)) == 20
    assert len(set(selection.move("other"))) == 50


@pytest.mark.usefixtures("small_batches")
def test_an_action_ends_although_others_publish(database, connection):
    put_many(connection, 30)

    def publish(_: int) -> None:
        put(database, *(f"new{time.monotonic()}{number}" for number in range(10)))

    assert len(jobs(database).cancel(on_batch=publish)) == 30


def test_the_odd_rows_are_shown_and_changed_with_all_others(database, connection):
    for name, columns in ODD.items():
        put(database, name)
        connection.execute(f"UPDATE pgjobs.jobs SET {columns} WHERE task_id = '{name}'")
    huge = "1" + "0" * 5000
    put(database, "huge", body=f"[[{huge}], {{}}, {{}}]".encode())
    connection.execute("UPDATE pgjobs.jobs SET meta = '[1]' WHERE task_id = 'huge'")
    names = {*ODD, "huge"}
    shown = {job.task_id: job for job in jobs(database)}
    assert shown.keys() == names
    assert shown["scheduled for ever"].scheduled_at is None
    assert (shown["no JSON"].args, shown["no JSON"].kwargs) == (None, None)
    assert (shown["huge"].args, shown["huge"].meta) == (None, {})
    assert shown["odd errors"].errors == [{}]
    assert jobs(database).filter(kwargs={"a": 1}).count() == 0
    for act in (
        lambda all_jobs: all_jobs.set_priority(9),
        lambda all_jobs: all_jobs.reschedule(countdown=9),
        lambda all_jobs: all_jobs.move("elsewhere"),
        lambda all_jobs: all_jobs.cancel(),
    ):
        assert set(act(jobs(database))) == names
    assert set(jobs(database).retry()) == names - {"no message"}
    assert set(jobs(database).delete()) == names


# Against others


@pytest.fixture
def other(url: str) -> Iterator[psycopg.Connection]:
    """Somebody else's transaction; ended by the test."""
    with psycopg.connect(parse_url(url)) as connection:
        yield connection
        connection.rollback()


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(work()))
    thread.start()
    return thread, result


CLAIM = (
    "UPDATE pgjobs.jobs SET state = 'executing', attempt = attempt + 1, "
    f"claimed_by = '{A}' WHERE task_id = 'a'"
)


def test_a_job_that_is_just_being_claimed_is_told_to_stop_and_not_passed_over(
    database, connection, other
):
    put(database, "a", "b")
    other.execute(CLAIM)
    thread, result = in_thread(jobs(database).cancel)
    time.sleep(0.5)
    other.commit()
    thread.join(10)
    assert result == [["a", "b"]]
    assert states(connection) == {"a": "executing", "b": "cancelled"}
    assert row(connection, "a")["cancel_requested_at"] is not None


def test_a_job_that_is_claimed_first_is_not_waiting_any_more(database, connection, other):
    put(database, "a", "b")
    other.execute(CLAIM)
    thread, result = in_thread(jobs(database).filter(state="available").cancel)
    time.sleep(0.3)
    other.commit()
    thread.join(10)
    assert result == [["b"]]
    assert row(connection, "a")["cancel_requested_at"] is None


def test_a_claim_passes_over_what_is_being_cancelled(database, connection, other):
    put(database, "a")
    other.execute("SELECT FROM pgjobs.jobs WHERE task_id = 'a' FOR NO KEY UPDATE")
    assert database.claims.claim_jobs(A, "n", [Bucket("celery")], 10) == ([], [])


@pytest.mark.parametrize("name", ["cancel", "retry", "delete"])
def test_a_job_that_is_finished_meanwhile_is_what_it_is_then(database, connection, other, name):
    put(database, "a")
    database.claims.claim_jobs(A, "n", [Bucket("celery")], 10)
    other.execute(
        "UPDATE pgjobs.jobs SET state = 'completed', finished_at = now(), claimed_by = NULL"
    )
    thread, result = in_thread(lambda: ACTIONS[name](jobs(database)))
    time.sleep(0.3)
    other.commit()
    thread.join(10)
    assert result == [[]]  # it ran when they looked
    assert states(connection) == {"a": "completed"}


def test_a_retry_and_a_rescue_do_not_both_put_a_job_back(database, connection, other):
    """It is rescued while the retry looks on: then it is in line, and no retry's business."""
    put(database, "a")
    database.claims.claim_jobs(A, "n", [Bucket("celery")], 10)
    seq = row(connection, "a")["seq"]
    other.execute(
        "UPDATE pgjobs.jobs SET state = 'available', claimed_by = NULL, redelivered = true"
    )
    thread, result = in_thread(jobs(database).retry)
    time.sleep(0.2)
    other.commit()
    thread.join(10)
    assert result == [[]]
    assert (row(connection, "a")["seq"], states(connection)) == (seq, {"a": "available"})


def test_a_discarding_rescue_can_be_retried_at_once(database, connection):
    put(database, "a")
    database.claims.claim_jobs(A, "n", [Bucket("celery")], 10, late=[])
    connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = '-infinity'")
    assert database.claims.rescue_jobs().discarded == 1
    assert jobs(database).filter(state="discarded").retry() == ["a"]
    assert row(connection, "a")["errors"][0]["type"] == "WorkerLostError"


def test_a_worker_that_settles_in_another_order_is_never_the_one_to_fail(database, connection):
    put(database, *(str(number) for number in range(200)))
    claims, _ = database.claims.claim_jobs(A, "n", [Bucket("celery")], 200)
    outcomes = [completed(claim) for claim in reversed(claims)]
    with psycopg.connect(database.conninfo) as worker:
        # Row by row, as slowly as needs be to cross the other's way.
        worker.execute("SET deadlock_timeout = '1s'")
        thread, result = None, []
        for number, outcome in enumerate(outcomes):
            worker.execute(
                "UPDATE pgjobs.jobs SET state = 'completed', finished_at = now(), "
                "claimed_by = NULL WHERE id = %s",
                (outcome.id,),
            )
            if number == 100:
                thread, result = in_thread(jobs(database).cancel)
                time.sleep(0.05)
        worker.commit()
    thread.join(20)
    assert len(result) == 1
    assert {each["state"] for each in rows(connection).values()} == {"completed"}


# Who is woken


@pytest.fixture
def work(database: Database) -> Iterator[notify.Listener]:
    """A worker that sleeps, in all queues."""
    listener = database.listen_for_work()
    listener.announce(["", "celery", "mail"])
    yield listener
    listener.close()


def test_a_worker_is_told_of_what_it_runs_and_a_client_of_what_waited(database, work):
    put(database, "a", "b")
    database.claims.claim_jobs(A, "n", [Bucket("celery")], 1)
    results = database.listen_for_results()
    results.announce([notify.waiter("a"), notify.waiter("b")])
    work.wait(0.2)
    jobs(database).cancel()
    assert work.wait(10) == {notify.CANCEL}
    assert results.wait(10) == {f"{notify.RESULT}b"}
    results.close()


def test_sleeping_workers_are_woken_for_what_becomes_ready(database, connection, work):
    put(database, "a", "b")
    while work.wait(0.2):
        pass  # each of the two jobs was told of
    jobs(database).filter(id="a").reschedule(countdown=60)
    assert work.wait(10) == {notify.DUE}
    jobs(database).filter(id="a").retry()
    assert work.wait(10) == {f"{notify.BACK}celery"}
    jobs(database).filter(id="b").set_priority(1)
    assert work.wait(10) == {f"{notify.BACK}celery"}
    jobs(database).filter(id="b").move("mail")
    assert work.wait(10) == {f"{notify.BACK}mail"}
    jobs(database).cancel()
    assert work.wait(0.2) == set()


# Plans


@pytest.fixture(scope="module")
def filled(make_migrated: Callable[[], str]) -> Iterator[Database]:
    """200,000 jobs."""
    conninfo = parse_url(make_migrated())
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("ALTER TABLE pgjobs.jobs SET (autovacuum_enabled = off)")
        connection.execute(FILL)
        # As they come to lie in time: what waits is a small part of what is there.
        connection.execute("DELETE FROM pgjobs.jobs WHERE state <> 'completed' AND id % 23 <> 0")
        connection.execute(
            "UPDATE pgjobs.jobs SET finished_at = now() - id * interval '1 minute' "
            "WHERE state = 'completed'"
        )
        connection.execute("VACUUM FULL pgjobs.jobs")
        connection.execute("VACUUM ANALYZE pgjobs.jobs")
    database = Database(conninfo, Options())
    yield database
    database.close()


SPAN = {"after": None, "until": 10**9, "newest": False, "limit": matches.BATCH}


def indexes(database: Database, name: str, /, **filters: Any) -> set[str]:
    """By which indexes a statement finds its jobs; '' where it reads the whole table."""
    values = {
        **Filters().narrow(**filters).parameters(), **SPAN, "reason": None, "signal": None,
        "eta": None, "countdown": 1.0, "priority": 1, "to": "x", "keeps_time": False,
    }  # fmt: skip
    query = prepared(name, "pgjobs")
    literals = [sql.Literal(values[param]).as_string() for param in query.params]
    with psycopg.connect(database.conninfo) as connection:
        connection.execute(statement("plan_anew", "pgjobs").encode())
        connection.execute(b"PREPARE it AS " + query.sql)
        found = connection.execute(
            f"EXPLAIN (FORMAT JSON) EXECUTE it({', '.join(literals)})".encode()
        ).fetchone()
    plan = found[0][0]["Plan"]
    (matched,) = (node for node in _walk(plan) if node.get("Subplan Name") == "CTE matched")
    scans = [node for node in _walk(matched) if "Scan" in node["Node Type"]]
    used = {node.get("Index Name", "") for node in scans if "Heap" not in node["Node Type"]}
    print(json.dumps(plan, indent=1))
    return used


@pytest.mark.parametrize(
    "name",
    [
        "list_jobs", "cancel_jobs", "retry_jobs", "delete_jobs", "reschedule_jobs",
        "prioritize_jobs", "move_jobs",
    ],
)  # fmt: skip
def test_an_index_leads_to_what_is_meant(filled, name):
    assert indexes(filled, name, id=["t1", "t2"]) == {"jobs_task_id_key"}
    ready = ["available", "executing"]
    assert indexes(filled, name, queue="celery", state="available") == {"jobs_ready"}
    assert indexes(filled, name, queue="other", state=ready, task="x") == {"jobs_ready"}
    assert indexes(filled, name, state="scheduled") == {"jobs_due"}
    assert indexes(filled, name, state="completed", finished_after=600) == {"jobs_finished"}
    assert indexes(filled, name, finished_before=60 * 199_900) == {"jobs_finished"}
    assert indexes(filled, name, fingerprint="E-1") == {"jobs_fingerprint"}
    assert indexes(filled, name, error=["E", "F"], state="discarded") == {"jobs_fingerprint"}
    assert indexes(filled, name, root=["t1"]) == {"jobs_root", "jobs_task_id_key"}
    waiting = ["scheduled", "available", "retryable"]
    assert indexes(filled, name, task="x", state=waiting) == {"jobs_due", "jobs_ready"}


def test_counting_reads_no_more_than_it_has_to(filled):
    span = {"newest": None, "limit": None}
    for filters in ({"state": ["available"], "queue": "celery"}, {"id": "t1"}):
        values = {**Filters().narrow(**filters).parameters(), **SPAN, **span}
        assert sum(filled.matches.count_matched(values).values()) >= 1
    assert "" not in indexes(filled, "count_matched", state=["available"], queue="other")


def test_a_filter_without_an_index_still_finds_its_jobs_page_by_page(filled):
    began = time.monotonic()
    assert len(jobs(filled).filter(task="task", queue="other").list(10)) == 10
    assert time.monotonic() - began < 5

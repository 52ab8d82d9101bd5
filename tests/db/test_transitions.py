"""No statement takes a job from one state to another but as the table here says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest

import pgjobs_celery
from pgjobs_celery.config import Options
from pgjobs_celery.control.filters import Filters
from pgjobs_celery.db.connection import Call
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows.claims import Pending
from pgjobs_celery.db.rows.results import Origin
from pgjobs_celery.db.rows.settling import forgive_call
from pgjobs_celery.db.rows.unique_jobs import Conflict, Guard
from pgjobs_celery.db.sql import QUERIES
from pgjobs_celery.job.flow_options import QueueRules
from pgjobs_celery.job.outcome import Outcome, Result, error_entry
from pgjobs_celery.job.rows import Bucket, Fence
from pgjobs_celery.job.states import FINAL, State
from pgjobs_celery.job.unique import REPLACEABLE
from tests.support.rows import alive, by_holder, new_job

#: Rows by what may become of them. (again): attempted before. (spent): as often as it may be.
#: (due): the time has come.
WAITING = (
    "available available(again) available(spent) scheduled scheduled(due) retryable retryable(due)"
)
#: Held by the caller, by the attempt that it names. (last): it is the last one.
MINE = "executing executing(last)"
#: (later): by the caller, but by a later attempt. (other): by another node. (dead): by a node past
#: its lease, and by a task that is acknowledged late; or (early).
THEIRS = (
    "executing(later) executing(other) executing(other,later)"
    " executing(dead) executing(dead,last) executing(dead,early)"
)
#: Nobody's: somebody has reported on a job that has no message.
REPORTED = "executing(reported)"
#: (later): by a later attempt than the one that the caller names. (old): long ago. (told): with a
#: result.
FINISHED = (
    "completed completed(later) completed(old) completed(told)"
    " discarded discarded(later) discarded(old) cancelled cancelled(later) cancelled(old)"
)
#: Without a message: the result came from elsewhere.
STORED = "completed(stored) discarded(stored) cancelled(stored)"
#: Completed, and nobody has stored a result.
UNTOLD = "completed completed(later) completed(old) completed(stored)"
#: Revoked before it was published.
FORBIDDEN = "cancelled(forbidden)"

#: What each statement that writes ``jobs`` makes of them: from what, to which state. "none" is no
#: row, "same" a row that is written and stays in its state. All that is not here does not happen.
TRANSITIONS = {
    "insert_job": {
        f"none {REPORTED} {STORED} {FINISHED}": "available",
        FORBIDDEN: "cancelled",
    },
    "insert_job with an eta": {
        f"none {REPORTED} {STORED} {FINISHED}": "scheduled",
        FORBIDDEN: "cancelled",
    },
    "insert_job by the holder": {MINE: "available"},
    "insert_job by the holder with an eta": {
        MINE: "retryable",
    },
    "insert_job of a child again": {
        f"none {REPORTED} {STORED}": "available",
        FORBIDDEN: "cancelled",
    },
    "insert_fresh_job": {"none": "available"},
    "insert_new_job": {"none": "available"},
    "insert_new_job with an eta": {"none": "scheduled"},
    "insert_jobs": {"none": "available"},
    "insert_jobs with an eta": {"none": "scheduled"},
    "forbid_jobs": {"none": "cancelled"},
    # Of a kind of its own; and of the kind of each row, where that counts only while available.
    "insert_unique_job": {"none": "available"},
    "insert_unique_job of the same kind": {
        "none": "available",
        # The key is taken from it.
        f"scheduled scheduled(due) retryable retryable(due) {MINE} {THEIRS} {REPORTED} {STORED}"
        f" {FORBIDDEN} {FINISHED}": "same",
    },
    "insert_duplicate": {"none": "cancelled"},
    "replace_job": {WAITING: "available"},
    "replace_job with an eta": {
        "available available(again) available(spent) scheduled scheduled(due)": "scheduled",
        "retryable retryable(due)": "retryable",
    },
    "take_key": {},
    "claim_jobs": {"available available(again) available(spent)": "executing"},
    "claim_lanes": {"available available(again) available(spent)": "executing"},
    "lane_jobs": {"available available(again) available(spent)": "available"},
    "park_jobs": {MINE: "available"},
    "unpark_jobs": {"available available(again) available(spent)": "available"},
    "drop_oldest": {"available available(again) available(spent)": "cancelled"},
    "complete_job": {MINE: "completed"},
    "claim_jobs by a node that is not alive": {},
    "claim_jobs of another queue": {},
    "settle_completed": {MINE: "completed"},
    "settle_others discarded": {MINE: "discarded"},
    "settle_others cancelled": {MINE: "cancelled"},
    "settle_others available": {"executing": "available", "executing(last)": "discarded"},
    "settle_others available, not counted": {MINE: "available"},
    "settle_others retryable": {"executing": "retryable", "executing(last)": "discarded"},
    "settle_others snoozed": {MINE: "scheduled"},
    # Nobody's to run: as a report without a message.
    "settle_others replaced": {MINE: "executing"},
    "settle_others with what is no outcome": {},
    "begin_jobs": {MINE: "same"},
    "requeue_success": {"completed(told)": "available"},
    "finish_job completed": {MINE: "completed"},
    "finish_job discarded": {MINE: "discarded"},
    "finish_job cancelled": {MINE: "cancelled"},
    "finish_job with what is no end": {},
    "merge_meta": {MINE: "same"},
    "report_job": {MINE: "same"},
    "report_job by anybody": {f"{WAITING} {MINE} {THEIRS} {REPORTED}": "same"},
    "record_retry": {
        # The attempt's own, and what it has put back in line.
        f"{MINE} available(again) available(spent) retryable retryable(due)": "same",
        # The job went on since: only the error is added.
        "executing(later) executing(other,later)": "same",
        "completed(later) discarded(later) cancelled(later)": "same",
    },
    "upsert_result completed": {f"none {WAITING} {MINE} {THEIRS} {REPORTED} {UNTOLD}": "completed"},
    "upsert_result discarded": {f"none {WAITING} {MINE} {THEIRS} {REPORTED} {UNTOLD}": "discarded"},
    "upsert_result cancelled": {f"none {WAITING} {MINE} {THEIRS} {REPORTED}": "cancelled"},
    "upsert_result of what is not final": {f"none {REPORTED}": "executing"},
    "forget_result": {
        f"{REPORTED} {STORED} {FORBIDDEN} {FINISHED}": "none",
        f"{WAITING} {MINE} {THEIRS}": "same",
    },
    "stage_jobs": {"scheduled(due) retryable(due)": "available"},
    # Of those that wait for a signal which is there.
    "wake_waiting": {"scheduled scheduled(due)": "available"},
    # Of those that have done steps.
    "forgive_interrupted": {MINE: "same"},
    "rescue_jobs": {
        "executing(dead)": "available",
        "executing(dead,last) executing(dead,early)": "discarded",
    },
    "release_unknown_jobs": {f"{MINE} executing(later)": "available"},
    "release_unknown_jobs of another queue": {},
    "purge_jobs": {WAITING: "cancelled"},
    "purge_jobs of another queue": {},
    "prune_jobs completed": {"completed(old)": "none"},
    "prune_jobs discarded": {"discarded(old)": "none"},
    "prune_jobs cancelled": {"cancelled(old)": "none"},
    "prune_jobs of what has not finished": {},
    # What somebody decides, of all jobs.
    "cancel_jobs": {WAITING: "cancelled", f"{MINE} {THEIRS}": "same"},
    "retry_jobs": {f"scheduled scheduled(due) retryable retryable(due) {FINISHED}": "available"},
    "retry_jobs with the time kept": {
        "scheduled retryable": "scheduled",
        f"scheduled(due) retryable(due) {FINISHED}": "available",
    },
    "delete_jobs": {f"{WAITING} {FINISHED} {STORED} {FORBIDDEN}": "none"},
    "reschedule_jobs": {
        "scheduled scheduled(due) available available(again) available(spent)": "scheduled",
        "retryable retryable(due)": "retryable",
    },
    "reschedule_jobs to what is past": {WAITING: "available"},
    "prioritize_jobs": {WAITING: "same"},
    "move_jobs": {WAITING: "same"},
}

Connection = psycopg.Connection[dict[str, Any]]

ME, OTHER, DEAD, NOBODY = UUID(int=1), UUID(int=2), UUID(int=3), UUID(int=0)
#: The claim that the caller names.
MY_CLAIM = Fence(ME, 1)


class Target(NamedTuple):
    """The job that a statement is about; 0 and an id that no row has for none."""

    task_id: str
    id: int


AboutOne = Callable[[Database, Target], object]
AboutAll = Callable[[Database], object]


def make_rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every kind of row there can be: its name above, and its columns."""
    now = datetime.now(timezone.utc)
    past, future, long_ago = (now + timedelta(hours=hours) for hours in (-1, 1, -1000))
    yield "available", {"state": "available"}
    yield "available(again)", {"state": "available", "attempt": 1}
    yield "available(spent)", {"state": "available", "attempt": 1, "max_attempts": 1}
    yield "scheduled", {"state": "scheduled", "due_at": future}
    yield "scheduled(due)", {"state": "scheduled", "due_at": past}
    yield "retryable", {"state": "retryable", "attempt": 1, "due_at": future}
    yield "retryable(due)", {"state": "retryable", "attempt": 1, "due_at": past}
    for kind, node, attempt, limit, late in (
        ("executing", ME, 1, 20, False),
        ("executing", ME, 1, 20, True),
        ("executing(last)", ME, 1, 1, False),
        ("executing(last)", ME, 1, 1, True),
        ("executing(later)", ME, 2, 20, True),
        ("executing(other)", OTHER, 1, 20, True),
        ("executing(other,later)", OTHER, 2, 2, False),
        ("executing(dead)", DEAD, 1, 20, True),
        ("executing(dead,last)", DEAD, 1, 1, True),
        ("executing(dead,early)", DEAD, 1, 20, False),
        ("executing(dead,early)", DEAD, 1, 1, False),
    ):
        row = {"state": "executing", "claimed_by": node, "attempt": attempt}
        yield kind, {**row, "max_attempts": limit, "acks_late": late}
    reported = {"state": "executing", "attempt": 1, "claimed_by": NOBODY, "message": None}
    yield "executing(reported)", reported
    for state in sorted(FINAL):
        row = {"state": state.value, "finished_at": now}
        yield state.value, row
        yield state.value, {**row, "attempt": 1}
        yield f"{state}(later)", {**row, "attempt": 2}
        yield f"{state}(old)", {**row, "attempt": 1, "finished_at": long_ago}
        yield f"{state}(stored)", {**row, "attempt": 1, "message": None}
    told = {"state": "completed", "finished_at": now, "attempt": 1, "acks_late": True}
    yield "completed(told)", {**told, "result_type": "application/json"}
    forbidden = {"state": "cancelled", "finished_at": now, "message": None}
    yield FORBIDDEN, {**forbidden, "cancel_requested_at": now}


def result_of(target: Target, error: str | None = None) -> Result:
    entry = error and error_entry(error, "")
    return Result(target.task_id, b"1", "application/json", "traceback", "[]", entry)


def insert_job(eta: float | None = None, holder: Fence | None = None, **more: Any) -> AboutOne:
    return lambda db, job: db.jobs.insert_job(
        new_job(job.task_id, eta=eta, parent_id="parent"), by_holder(holder, **more)
    )


def insert_fresh_job(db: Database, job: Target) -> None:
    with suppress(psycopg.errors.UniqueViolation):
        db.jobs.insert_fresh_job(new_job(job.task_id))


def insert_new_job(eta: float | None = None) -> AboutOne:
    return lambda db, job: db.jobs.insert_new_job(new_job(job.task_id, eta=eta))


def insert_jobs(eta: float | None = None) -> AboutOne:
    return lambda db, job: db.jobs.insert_jobs([new_job(job.task_id, eta=eta)], [None])


def settle_job(
    state: State, counts: bool = True, error: str | None = None, delay: float | None = None
) -> AboutOne:
    def settle(db: Database, job: Target) -> object:
        result = result_of(job) if state is State.COMPLETED else None
        entry = error and error_entry(error, "")
        outcome = Outcome(job.id, 1, state, entry, counts, delay, result=result)
        return db.claims.settle_jobs(ME, [outcome])

    return settle


def settle_nothing_stored(db: Database, job: Target) -> object:
    return db.claims.settle_jobs(ME, [Outcome(job.id, 1, State.COMPLETED)])


def insert_unique_job(same: bool) -> AboutOne:
    def insert(db: Database, job: Target) -> object:
        task_id = f"another {job.task_id}" if same else job.task_id
        guard = Guard(job.task_id.encode() if same else b"k" + job.task_id.encode(), WAITS[1:2], 60)
        return db.unique_jobs.insert_unique_job(new_job(task_id), guard)

    return insert


def replace_job(eta: float | None) -> AboutOne:
    def replace(db: Database, job: Target) -> object:
        guard = Guard(job.task_id.encode(), list(State), None)
        return db.unique_jobs.replace_job(new_job(job.task_id, eta=eta), guard, REPLACEABLE)

    return replace


def finish_job(state: State, error: str | None = None) -> AboutOne:
    return lambda db, job: db.results.finish_job(result_of(job, error), state, MY_CLAIM)


def report_job(fence: Fence | None) -> AboutOne:
    return lambda db, job: db.results.report_job(result_of(job), "PROGRESS", fence)


def upsert_result(state: State, attempt: int) -> AboutOne:
    origin = Origin("task", "q", None, None, None, attempt, "host", None)
    return lambda db, job: db.results.upsert_result(result_of(job), state, None, origin)


def claim_jobs(node: UUID, queue: str = "q", late: list[str] | None = None) -> AboutAll:
    return lambda db: db.claims.claim_jobs(node, "n", [Bucket(queue)], 100, late=late)


def put_in_lane(db: Database) -> None:
    with psycopg.connect(db.conninfo) as connection:
        connection.execute(
            "UPDATE pgjobs.jobs SET lane = 'share=a', priority = priority + 256"
            " WHERE queue = 'q' AND state = 'available'"
        )


def claim_lanes(db: Database) -> None:
    put_in_lane(db)
    db.claims.turn(ME, Pending(), [Bucket("q", is_laned=True)], 100)


def unpark_jobs(after: str | None) -> AboutAll:
    def unpark(db: Database) -> None:
        put_in_lane(db)
        db.rules.unpark_jobs("q", "share=a", after)

    return unpark


def lane_jobs(db: Database) -> None:
    """Of a queue that is fair: what stands in its line comes into lanes, and stays available."""
    db.flow.register_flows((), (), {"q": QueueRules(fair="kwargs.key")})
    db.run([db.call("lane_jobs", queue="q", flow="q", limit=100)])


def release_unknown_jobs(queue: str = "q") -> AboutAll:
    return lambda db: db.claims.release_unknown_jobs(ME, [queue], [])


def prune_jobs(state: State, max_age: float = 3600.0) -> AboutAll:
    return lambda db: db.claims.prune_jobs(state, max_age, None, None, 100)


def act(name: str, **values: Any) -> AboutAll:
    """An action on all jobs, whatever state they are in: the statement itself has to choose."""
    everything = Filters().parameters()
    return lambda db: getattr(db.matches, name)(everything, 2**62, lambda count: None, **values)


def wake_waiting(database: Database) -> None:
    """Every job waits for a signal, which was sent."""
    with database.connection() as connection:
        connection.psycopg.execute(
            "INSERT INTO pgjobs.waits (job, step, name) SELECT j.id, 's', 's' FROM pgjobs.jobs AS j"
        )
        connection.psycopg.execute(
            "INSERT INTO pgjobs.signals (task_id, name) SELECT j.task_id, 's' FROM pgjobs.jobs AS j"
        )
    database.steps.wake_waiting(1000)


def forgive_interrupted(database: Database, job: Target) -> None:
    """A run of the job was cut off, which has done a step."""
    with database.connection() as connection:
        connection.psycopg.execute(
            "INSERT INTO pgjobs.steps (job, name, attempt) VALUES (%s, 's', 1)", (job.id,)
        )
    cut = Outcome(job.id, 1, State.AVAILABLE, is_interrupted=True)
    database.run([forgive_call(database, ME, [cut], 20)])


ERRORS = (None, "Failed")
WAITS = [State.SCHEDULED, State.AVAILABLE, State.RETRYABLE]

#: How the statements of the table are run: once for each row, those that are about one job.
ABOUT_ONE: dict[str, list[AboutOne]] = {
    "insert_job": [insert_job(), insert_job(-60)],
    "insert_job with an eta": [insert_job(60)],
    "insert_job by the holder": [insert_job(None, MY_CLAIM), insert_job(-60, MY_CLAIM)],
    "insert_job by the holder with an eta": [insert_job(60, MY_CLAIM)],
    "insert_job of a child again": [insert_job(is_repeated=True)],
    "forbid_jobs": [lambda db, job: db.jobs.forbid_jobs([job.task_id])],
    "insert_fresh_job": [insert_fresh_job],
    "insert_new_job": [insert_new_job(), insert_new_job(-60)],
    "insert_new_job with an eta": [insert_new_job(60)],
    "insert_jobs": [insert_jobs(), insert_jobs(-60)],
    "insert_jobs with an eta": [insert_jobs(60)],
    "insert_unique_job": [insert_unique_job(same=False)],
    "insert_unique_job of the same kind": [insert_unique_job(same=True)],
    "insert_duplicate": [
        lambda db, job: db.unique_jobs.insert_duplicate(
            new_job(job.task_id),
            Conflict("other", State.AVAILABLE),
            Guard(b"k", list(State), None),
        )
    ],
    "replace_job": [replace_job(None)],
    "replace_job with an eta": [replace_job(60)],
    "take_key": [
        lambda db, job: db.unique_jobs.take_key(
            job.task_id, Guard(job.task_id.encode(), list(State), None)
        )
    ],
    "settle_completed": [settle_job(State.COMPLETED), settle_nothing_stored],
    **{
        f"settle_others {state}": [
            settle_job(state, counts, error) for counts, error in product((True, False), ERRORS)
        ]
        for state in FINAL - {State.COMPLETED}
    },
    "settle_others available": [settle_job(State.AVAILABLE, True, error) for error in ERRORS],
    "settle_others available, not counted": [settle_job(State.AVAILABLE, counts=False)],
    "settle_others retryable": [
        settle_job(State.RETRYABLE, error=error, delay=delay)
        for error, delay in product(ERRORS, (0.0, 60.0))
    ],
    "settle_others snoozed": [settle_job(State.SCHEDULED, counts=False, delay=60.0)],
    "settle_others replaced": [settle_job(State.EXECUTING)],
    "settle_others with what is no outcome": [
        settle_job(state, counts=False) for state in (State.SCHEDULED, State.RETRYABLE)
    ],
    "forgive_interrupted": [forgive_interrupted],
    "park_jobs": [lambda db, job: db.rules.park_jobs(ME, [(job.id, 1, "pause/task/task")])],
    "complete_job": [
        lambda db, job, leaves=leaves: db.held.complete_job(  # type: ignore[misc]
            result_of(job), MY_CLAIM, leaves=leaves
        )
        for leaves in (True, False)
    ],
    "begin_jobs": [lambda db, job: db.claims.begin_jobs(ME, [(job.id, 1)])],
    "requeue_success": [lambda db, job: db.claims.requeue_success(job.id, 1)],
    **{f"finish_job {state}": [finish_job(state, error) for error in ERRORS] for state in FINAL},
    "finish_job with what is no end": [finish_job(state) for state in (*WAITS, State.EXECUTING)],
    "merge_meta": [lambda db, job: db.held.merge_meta(job.task_id, MY_CLAIM, '{"k": 1}')],
    "report_job": [report_job(MY_CLAIM)],
    "report_job by anybody": [report_job(None)],
    "record_retry": [lambda db, job: db.results.record_retry(result_of(job, "Failed"), MY_CLAIM)],
    **{
        f"upsert_result {state}": [upsert_result(state, attempt) for attempt in (1, 30)]
        for state in FINAL
    },
    "upsert_result of what is not final": [
        upsert_result(state, attempt)
        for state, attempt in product((State.EXECUTING, State.RETRYABLE), (1, 30))
    ],
    "forget_result": [lambda db, job: db.results.forget_result(job.task_id)],
}
#: And once for all rows, the others.
ABOUT_ALL: dict[str, list[AboutAll]] = {
    "claim_jobs": [claim_jobs(ME), claim_jobs(ME, late=[])],
    "claim_lanes": [claim_lanes],
    "lane_jobs": [lane_jobs],
    "unpark_jobs": [unpark_jobs(None), unpark_jobs("share=b")],
    "drop_oldest": [lambda db: db.flow_rules.drop_oldest("q", 100, 1)],
    "claim_jobs by a node that is not alive": [claim_jobs(DEAD), claim_jobs(UUID(int=4))],
    "claim_jobs of another queue": [claim_jobs(ME, "other")],
    "stage_jobs": [lambda db: db.claims.stage_jobs(100)],
    "wake_waiting": [wake_waiting],
    "rescue_jobs": [lambda db: db.claims.rescue_jobs()],
    "release_unknown_jobs": [release_unknown_jobs()],
    "release_unknown_jobs of another queue": [release_unknown_jobs("other")],
    "purge_jobs": [lambda db: db.jobs.purge_jobs("q")],
    "purge_jobs of another queue": [lambda db: db.jobs.purge_jobs("other")],
    **{f"prune_jobs {state}": [prune_jobs(state)] for state in FINAL},
    "prune_jobs of what has not finished": [
        prune_jobs(state, max_age=-3600.0) for state in (*WAITS, State.EXECUTING)
    ],
    "cancel_jobs": [act("cancel_jobs", reason=None, signal=None)],
    "retry_jobs": [act("retry_jobs")],
    "retry_jobs with the time kept": [act("retry_jobs", keeps_time=True)],
    "delete_jobs": [act("delete_jobs")],
    "reschedule_jobs": [act("reschedule_jobs", eta=None, countdown=60.0)],
    "reschedule_jobs to what is past": [act("reschedule_jobs", eta=None, countdown=-60.0)],
    "prioritize_jobs": [act("prioritize_jobs", priority=9)],
    "move_jobs": [act("move_jobs", to="other")],
}


class Recorder(Database):
    """Remembers which statements it was asked for."""

    def __init__(self, url: str) -> None:
        super().__init__(parse_url(url), Options())
        self.names: set[str] = set()

    def call(self, name: str, /, **values: Any) -> Call:
        self.names.add(name)
        return super().call(name, **values)


@pytest.fixture
def recorder(url: str) -> Iterator[Recorder]:
    recorder = Recorder(url)
    yield recorder
    recorder.close()


EMPTY = {
    "cancel_requested_at": None,
    "task": "task", "queue": "q", "parent_id": "parent", "message": "{}", "body": b"[]",
    "max_attempts": 20, "attempt": 0, "claimed_by": None, "acks_late": False, "due_at": None,
    "finished_at": None, "result_type": None,
}  # fmt: skip


def insert(connection: Connection, rows: list[dict[str, Any]]) -> None:
    columns = ["task_id", "unique_key", "state", *EMPTY]
    values = ", ".join(f"%({column})s" for column in columns)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO pgjobs.jobs ({', '.join(columns)}) VALUES ({values})",
            [{**EMPTY, "unique_key": row["task_id"].encode(), **row} for row in rows],
        )


def fill(database: Database, connection: Connection) -> dict[str, str]:
    """Put a row of each kind there, and no other; the kind of each task id."""
    connection.execute("DELETE FROM pgjobs.jobs")
    connection.execute("DELETE FROM pgjobs.nodes")
    for node in (ME, OTHER, DEAD):
        alive(database, node)
    connection.execute(
        "UPDATE pgjobs.nodes SET heartbeat_at = '-infinity' WHERE node = %s", (DEAD,)
    )
    kinds = {f"{number} {kind}": (kind, row) for number, (kind, row) in enumerate(make_rows())}
    insert(connection, [{"task_id": task_id, **row} for task_id, (_, row) in kinds.items()])
    return {task_id: kind for task_id, (kind, _) in kinds.items()}


def read(connection: Connection) -> dict[str, dict[str, Any]]:
    """Each row's id and state, and which transaction wrote it last."""
    rows = connection.execute("SELECT task_id, id, state, xmin::text AS writer FROM pgjobs.jobs")
    return {row["task_id"]: row for row in rows}


def observe(
    database: Database, connection: Connection, statement: Callable[[list[Target]], object]
) -> set[tuple[str, str]]:
    """What a statement makes of a row of each kind: from what, to which state."""
    kinds = fill(database, connection)
    before = read(connection)
    statement([Target("of none", 0), *(Target(id, row["id"]) for id, row in before.items())])
    after = read(connection)
    return {
        (kinds.get(task_id, "none"), after[task_id]["state"] if task_id in after else "none")
        for task_id in before.keys() | after.keys()
        if after.get(task_id) != before.get(task_id)
    }


@pytest.mark.parametrize("what", TRANSITIONS)
def test_a_statement_does_what_the_table_says_and_nothing_else(
    recorder: Recorder, connection: Connection, what: str
):
    found = set()
    for about_one in ABOUT_ONE.get(what, []):

        def run_for_each(jobs: list[Target], run: AboutOne = about_one) -> None:
            for job in jobs:
                # What is no outcome is refused.
                with suppress(psycopg.errors.CheckViolation):
                    run(recorder, job)

        found |= observe(recorder, connection, run_for_each)
    for about_all in ABOUT_ALL.get(what, []):
        found |= observe(recorder, connection, lambda _, run=about_all: run(recorder))
    assert found == {
        (source, source.partition("(")[0] if target == "same" else target)
        for sources, target in TRANSITIONS[what].items()
        for source in sources.split()
    }
    statement = what.partition(" ")[0]
    # The short one comes first, and settles most: not for a holder, whose id has a row.
    before = {"insert_new_job"} if statement == "insert_job" and "holder" not in what else set()
    assert recorder.names & STATEMENTS == {statement} | before


#: What writes jobs: not their sequence, and not what only reads or locks them.
WRITES = re.compile(
    r"\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO|TRUNCATE|COPY)\s+(ONLY\s+)?pgjobs\.jobs\b"
)


#: Those of the table.
STATEMENTS = {what.partition(" ")[0] for what in TRANSITIONS}


def test_every_statement_that_writes_jobs_is_in_the_table():
    files = {path.stem: path.read_text(encoding="utf-8") for path in QUERIES.glob("*/*.sql")}
    writers = {name for name, text in files.items() if WRITES.search(re.sub("--.*", "", text))}
    assert writers == STATEMENTS
    assert TRANSITIONS.keys() == ABOUT_ONE.keys() | ABOUT_ALL.keys()


def test_the_table_has_every_kind_of_row():
    kinds = " ".join(("none", WAITING, MINE, THEIRS, REPORTED, FINISHED, STORED, FORBIDDEN)).split()
    assert {"none", *(kind for kind, _ in make_rows())} == set(kinds)
    assert {kind.partition("(")[0] for kind in kinds} == {"none", *map(str, State)}


def test_jobs_are_written_by_nothing_but_the_statements():
    package = Path(pgjobs_celery.__file__).parent
    assert not [path for path in package.rglob("*.py") if WRITES.search(path.read_text("utf-8"))]


#: Which of claimed_by, due_at and finished_at a row in that state has.
SHAPES = {
    State.SCHEDULED: {"due_at"},
    State.AVAILABLE: set(),
    State.EXECUTING: {"claimed_by"},
    State.RETRYABLE: {"due_at"},
    **{state: {"finished_at"} for state in FINAL},
}


def test_no_row_contradicts_its_state_whoever_writes_it(connection: Connection):
    now = datetime.now(timezone.utc)
    given = {"claimed_by": ME, "due_at": now, "finished_at": now}
    accepted = []
    for number, (state, *there) in enumerate(product(State, *[(False, True)] * len(given))):
        columns = {
            name: value
            for (name, value), is_there in zip(given.items(), there, strict=True)
            if is_there
        }
        row = {"task_id": str(number), "state": state.value, "attempt": 1, **columns}
        with suppress(psycopg.errors.CheckViolation):
            insert(connection, [row])
            accepted.append((state, columns.keys()))
    assert accepted == [(state, SHAPES[state]) for state in State]

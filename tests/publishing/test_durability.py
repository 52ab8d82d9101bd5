"""Whether ``delay()`` waits for the disk, seen by what of the server's log is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
import pytest
from celery import Celery

from pgjobs_celery import PgTask, bulk, using
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.embedded import EmbeddedServer
from pgjobs_celery.errors import InvalidOption, MessageRefused
from pgjobs_celery.job.outcome import Outcome, completed
from pgjobs_celery.job.rows import Bucket, Claim, Fence

from ..conftest import Connection
from ..support.rows import alive, by_holder, new_job, put, states

A = UUID(int=1)

#: How often an act is looked at: the log's writer comes five times a second, and may be quicker.
LOOKS = 10


def waits_for_disk(connection: psycopg.Connection[Any], act: Callable[[], object]) -> bool:
    """Whether the log was on disk whenever ``act()`` had written something."""

    def look(what: str) -> Any:
        return next(iter(connection.execute(f"SELECT pg_current_wal_{what}_lsn() AS at")))["at"]

    def is_flushed() -> bool:
        begin = look("insert")
        act()
        written = look("insert")
        assert written != begin, "it has written nothing"
        row = connection.execute("SELECT %s < pg_current_wal_flush_lsn() AS yes", (begin,))
        return bool(next(iter(row))["yes"])

    act()  # connections, and what is prepared with them
    return all(is_flushed() for _ in range(LOOKS))


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app(broker_transport_options={"relaxed_queues": ["telemetry"]})
    base = {"base": PgTask, "shared": False}

    @app.task(name="plain", shared=False)
    def plain(x: int = 0) -> None: ...

    @app.task(name="full", **base)
    def full(x: int = 0) -> None: ...

    @app.task(name="relaxed", durability="relaxed", **base)
    def relaxed(x: int = 0) -> None: ...

    @app.task(name="unique", durability="relaxed", unique=True, **base)
    def unique(x: int = 0) -> None: ...

    return app


def publish_in_bulk(tasks: list[Any]) -> None:
    with bulk():
        for task in tasks:
            task.delay()


def test_delay_waits_for_the_disk_unless_task_queue_or_call_say_otherwise(
    app: Celery, connection: Connection
):
    tasks = app.tasks
    plain, full, relaxed = tasks["plain"], tasks["full"], tasks["relaxed"]
    numbers = count()
    ways: dict[str, tuple[Callable[[], object], bool]] = {
        "task": (plain.delay, True),
        "PgTask": (full.delay, True),
        "queue": (partial(plain.apply_async, queue="telemetry"), False),
        "class": (relaxed.delay, False),
        "class, unique": (lambda: tasks["unique"].delay(next(numbers)), False),
        "call": (partial(full.apply_async, durability="relaxed"), False),
        "call of a task of Celery's": (partial(plain.apply_async, durability="relaxed"), False),
        "signature": (full.s().set(durability="relaxed").delay, False),
        "name": (partial(app.send_task, "full", durability="relaxed"), False),
        "call before class": (partial(relaxed.apply_async, durability="full"), True),
        "call before queue": (
            partial(plain.apply_async, queue="telemetry", durability="full"),
            True,
        ),
        "bulk": (partial(publish_in_bulk, [relaxed, relaxed]), False),
        "bulk, one of them full": (partial(publish_in_bulk, [relaxed, full]), True),
        "many": (partial(relaxed.enqueue_many, [(1,), (2,), (3,)]), False),
    }
    found = {name: waits_for_disk(connection, act) for name, (act, _) in ways.items()}
    assert found == {name: waits for name, (_, waits) in ways.items()}


def test_in_a_transaction_of_the_callers_its_commit_is_the_callers(
    app: Celery, url: str, connection: Connection
):
    relaxed = app.tasks["relaxed"]
    with psycopg.connect(parse_url(url)) as mine:

        def publish() -> None:
            with mine.transaction(), using(mine):
                relaxed.delay()
                row = mine.execute("SHOW synchronous_commit").fetchone()
                assert row == ("on",)

        assert waits_for_disk(connection, publish)


def test_a_retry_waits_for_the_disk_as_the_run_that_it_ends_would_be_lost_with_it(
    database: Database, connection: Connection
):
    names = [f"job {number}" for number in range(LOOKS + 1)]
    put(database, *names)
    alive(database, A)
    assert len(database.claims.claim_jobs(A, "", [Bucket("celery")], len(names))[0]) == len(names)

    def retry() -> None:
        run = by_holder(Fence(A, 1))
        assert database.jobs.insert_job(new_job(names.pop()), run, may_be_lost=True)

    assert waits_for_disk(connection, retry)


@pytest.mark.parametrize("value", ["relax", True, 1])
def test_another_word_is_refused_wherever_it_stands(app: Celery, value: Any):
    def wrong() -> None: ...

    with pytest.raises(InvalidOption, match=r"'full'.*'relaxed'"):
        app.task(name="wrong", base=PgTask, durability=value, shared=False)(wrong).delay()
    with pytest.raises(InvalidOption, match=r"'full'.*'relaxed'"):
        app.tasks["full"].apply_async(durability=value)
    with pytest.raises(MessageRefused, match=r"'full'.*'relaxed'"):
        app.tasks["plain"].apply_async(durability=value)


def test_a_crash_takes_no_more_than_what_nothing_has_followed_to_the_disk(
    app: Celery, brief_server: EmbeddedServer, url: str
):
    plain, relaxed = app.tasks["plain"], app.tasks["relaxed"]
    kept = [relaxed.delay().id, plain.delay().id]
    last = relaxed.delay().id
    brief_server.restart("immediate")
    with psycopg.connect(
        parse_url(url), autocommit=True, row_factory=psycopg.rows.dict_row
    ) as mine:
        found = list(states(mine))
        assert found in (kept, [*kept, last])
        relaxed.apply_async(task_id=last)
        assert list(states(mine)) == [*kept, last]


def test_a_job_is_claimed_and_ends_on_disk_whether_its_task_acknowledges_late_or_not(
    database: Database, connection: Connection
):
    # A crash would take back the claim of a task that goes on: it would run once more, in the same
    # attempt, where a live worker's task never does.
    alive(database, A)
    put(database, *(f"job {number}" for number in range(3 * LOOKS)))
    held: list[Claim] = []

    def claim(late: list[str] | None) -> None:
        held.extend(database.claims.claim_jobs(A, "", [Bucket("celery")], 1, late=late)[0])

    def settle() -> None:
        assert database.claims.settle_jobs(A, [completed(held.pop())]) == []

    assert waits_for_disk(connection, partial(claim, None))
    assert waits_for_disk(connection, partial(claim, []))
    assert waits_for_disk(connection, settle)


def test_a_claim_that_takes_nothing_waits_only_for_what_else_it_writes(
    database: Database, connection: Connection
):
    alive(database, A)
    names = [f"job {number}" for number in range(LOOKS + 1)]
    put(database, *names)
    held = database.claims.claim_jobs(A, "", [Bucket("celery")], len(names))[0]

    def claim(outcomes: Sequence[Outcome] = ()) -> None:
        assert database.claims.claim_jobs(A, "", [Bucket("celery")], 1, outcomes) == ([], [])

    assert not waits_for_disk(connection, claim)
    assert waits_for_disk(connection, lambda: claim([completed(held.pop())]))

"""A job that is published twice with the same idempotency key is there once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from celery import Celery, chain

from pgjobs_celery import PgTask, Unique, bulk, jobs, using
from pgjobs_celery.config import Settings
from pgjobs_celery.control.filters import Filters
from pgjobs_celery.control.search import Search, parse
from pgjobs_celery.control.spelled import as_cli, as_sql
from pgjobs_celery.db.connection import prepared
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import IdempotencyMismatch, InvalidOption, MessageRefused, NotAllPublished
from pgjobs_celery.maintenance.prune import Prune

from ..conftest import Connection
from ..support.callers import KINDS, open_kind
from ..support.proxies import Proxy
from ..support.waiting import wait_for
from .delivering import DELIVERIES


def add_tasks(app: Celery) -> Celery:
    @app.task(name="pay", base=PgTask, shared=False)
    def pay(order: int, amount: int = 0) -> None: ...

    @app.task(name="ship", base=PgTask, idempotency_for=3600, shared=False)
    def ship(order: int) -> None: ...

    @app.task(name="once", base=PgTask, unique=Unique(period=None), shared=False)
    def once(order: int) -> None: ...

    @app.task(name="plain", shared=False)
    def plain(order: int) -> None: ...

    return app


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return add_tasks(make_app())


def publish(app: Celery, key: Any = "evt_1", order: int = 1, task: str = "pay", **options: Any):
    return app.tasks[task].apply_async((order,), idempotency_key=key, **options)


def waiting(connection: Connection) -> list[str]:
    """The ids of the jobs that will run."""
    rows = connection.execute("SELECT task_id FROM pgjobs.jobs WHERE finished_at IS NULL")
    return [row["task_id"] for row in rows.fetchall()]


def receipts(connection: Connection) -> list[Any]:
    return connection.execute("SELECT * FROM pgjobs.receipts ORDER BY key").fetchall()


def test_a_second_publish_is_the_first_job(app: Celery, connection: Connection):
    first, again, other = publish(app), publish(app), publish(app, "evt_2")
    assert (first.conflict, again.conflict, other.conflict) == (False, True, False)
    assert again.id == first.id
    assert sorted(waiting(connection)) == sorted([first.id, other.id])


def test_it_counts_after_the_job_has_ended_and_its_row_is_gone(app: Celery, connection: Connection):
    first = publish(app)
    assert first.revoke()
    again = publish(app)
    assert (again.conflict, again.id) == (True, first.id)
    connection.execute("DELETE FROM pgjobs.jobs")
    again = publish(app)
    assert (again.conflict, again.id) == (True, first.id)
    assert waiting(connection) == []


def test_a_key_counts_for_a_task_by_itself(app: Celery, connection: Connection):
    assert not publish(app).conflict
    assert not publish(app, task="ship").conflict
    assert not publish(app, UUID(int=7)).conflict
    assert publish(app, str(UUID(int=7))).conflict
    assert len(receipts(connection)) == 3


def test_call_and_task_say_for_how_long(app: Celery, connection: Connection):
    publish(app, "a")
    publish(app, "b", task="ship")
    publish(app, "c", idempotency_for=timedelta(days=30))
    publish(app, "d", task="ship", idempotency_for=60)
    app.tasks["pay"].s(1).set(idempotency_key="e", idempotency_for=120).apply_async()
    times = [row["expires_at"] - row["inserted_at"] for row in receipts(connection)]
    assert [each.total_seconds() for each in times] == [
        7 * 86_400, 3600, 30 * 86_400, 60, 120,
    ]  # fmt: skip


def test_it_counts_until_its_time_is_over_and_the_job_has_ended(
    app: Celery, connection: Connection
):
    first = publish(app, idempotency_for=60)
    connection.execute("UPDATE pgjobs.receipts SET expires_at = now()")
    assert publish(app).id == first.id
    first.revoke()
    second = publish(app)
    assert not second.conflict
    assert waiting(connection) == [second.id]
    assert [row["task_id"] for row in receipts(connection)] == [second.id]


def test_other_arguments_for_the_same_key_are_an_error(app: Celery, connection: Connection):
    first = publish(app, order=1)
    with pytest.raises(IdempotencyMismatch, match=f"'evt_1' before, as {first.id}"):
        publish(app, order=2)
    assert waiting(connection) == [first.id]
    # It is no business of ours whether other serializers write the same bytes.
    publish(app, "p", serializer="pickle")
    assert publish(app, "p", order=2, serializer="pickle").conflict


@pytest.mark.parametrize("key", ["", "  ", 7, b"x", "x" * 256, "a\x00b", "\ud800", True])
def test_a_key_that_cannot_be_kept_is_refused(app: Celery, connection: Connection, key: Any):
    with pytest.raises(InvalidOption, match="idempotency_key"):
        publish(app, key)
    with pytest.raises(MessageRefused, match="idempotency_key"):
        app.send_task("pay", (1,), idempotency_key=key)
    assert waiting(connection) == []


@pytest.mark.parametrize("time", [0, -1, float("nan"), "7d", True, timedelta()])
def test_a_time_that_has_no_meaning_is_refused(app: Celery, time: Any):
    with pytest.raises(InvalidOption, match="idempotency_for"):
        publish(app, idempotency_for=time)

    def odd() -> None: ...

    with pytest.raises(InvalidOption, match="task odd: idempotency_for"):
        app.task(name="odd", base=PgTask, idempotency_for=time, shared=False)(odd).run()


def test_a_time_needs_a_key(app: Celery):
    with pytest.raises(InvalidOption, match="without an idempotency_key"):
        app.tasks["pay"].apply_async((1,), idempotency_for=60)


def test_the_longest_key_of_the_longest_task_can_be_kept(app: Celery, connection: Connection):
    name, key = "t" * 1000, "\U0001f600" * 255
    for _ in range(2):
        app.send_task(name, idempotency_key=key)
    assert len(waiting(connection)) == 1


def test_a_plain_task_and_a_name_have_keys_as_well(app: Celery, connection: Connection):
    first = publish(app, task="plain", idempotency_for=timedelta(hours=1))
    again = publish(app, task="plain")
    third = app.send_task("plain", (1,), idempotency_key="evt_1", idempotency_for=3600)
    assert waiting(connection) == [first.id]
    for duplicate in (again, third):
        # Celery's own handle knows of no conflict: its job says so.
        row = jobs(app).get(duplicate.id)
        assert (row.state.value, row.superseded_by) == ("cancelled", first.id)


def test_a_unique_job_that_stands_for_it_stands_for_later_ones_too(
    app: Celery, connection: Connection
):
    there = app.tasks["once"].delay(1)
    again = publish(app, task="once")
    assert (again.conflict, again.id) == (True, there.id)
    assert [row["task_id"] for row in receipts(connection)] == [there.id]
    connection.execute("DELETE FROM pgjobs.jobs")
    later = publish(app, task="once")
    assert (later.conflict, later.id) == (True, there.id)


def test_in_bulk_the_first_of_a_key_is_published(app: Celery, connection: Connection):
    there = publish(app, "there")
    with bulk() as batch:
        first, other = publish(app, "a"), publish(app, "b")
        again, old = publish(app, "a"), publish(app, "there")
        free = app.tasks["pay"].delay(1)
    assert [each.conflict for each in (first, other, again, old)] == [False, False, True, True]
    assert batch.written == 3
    assert sorted(waiting(connection)) == sorted([there.id, first.id, other.id, free.id])
    assert jobs(app).get(again.id).superseded_by == first.id
    assert jobs(app).get(old.id).superseded_by == there.id


def test_a_block_with_other_arguments_writes_nothing(app: Celery, connection: Connection):
    def publish_two() -> None:
        with bulk():
            app.tasks["pay"].delay(7)
            publish(app, order=1)
            publish(app, order=2)

    with pytest.raises(IdempotencyMismatch):
        publish_two()
    assert waiting(connection) == []
    assert receipts(connection) == []


def test_enqueue_many_publishes_each_key_once(app: Celery, connection: Connection):
    pay: Any = app.tasks["pay"]

    def items(numbers: range) -> Any:
        return (pay.s(number).set(idempotency_key=f"evt_{number}") for number in numbers)

    assert pay.enqueue_many(items(range(10)), size=4) == 10
    assert pay.enqueue_many([*items(range(5, 15)), *items(range(8, 20))], size=7) == 10
    assert len(waiting(connection)) == 20
    assert connection.execute("SELECT FROM pgjobs.jobs").rowcount == 20
    with pytest.raises(NotAllPublished):
        pay.enqueue_many([*items(range(20, 22)), pay.s(99).set(idempotency_key="evt_1")])
    with pytest.raises(InvalidOption, match="idempotency_key is for one job"):
        pay.enqueue_many([(1,), (2,)], idempotency_key="evt_1")


def test_in_the_callers_transaction_the_receipt_commits_with_the_job(
    app: Celery, url: str, connection: Connection
):
    with psycopg.connect(parse_url(url)) as mine:
        with using(mine):
            first, again = publish(app), publish(app)
        assert (again.conflict, again.id) == (True, first.id)
        mine.rollback()
        assert (waiting(connection), receipts(connection)) == ([], [])
        with using(mine):
            second = publish(app)
        mine.commit()
    assert not second.conflict
    assert publish(app).id == second.id
    assert waiting(connection) == [second.id]


@pytest.mark.parametrize("commits", [True, False])
def test_another_publish_waits_for_the_transaction_that_has_the_key(
    app: Celery, url: str, connection: Connection, commits: bool
):
    found: list[Any] = []
    with psycopg.connect(parse_url(url)) as mine:
        with using(mine):
            first = publish(app)
        other = threading.Thread(target=lambda: found.append(publish(app)))
        other.start()
        wait_for(lambda: connection.execute("SELECT FROM pg_locks WHERE NOT granted").rowcount)
        assert found == []
        mine.commit() if commits else mine.rollback()
        other.join()
    assert found[0].conflict is commits
    assert (found[0].id == first.id) is commits
    assert waiting(connection) == [found[0].id]


@pytest.mark.parametrize("name", [each for each in KINDS if "async" in each])
def test_over_an_asyncio_connection(app: Celery, url: str, connection: Connection, name: str):
    pay: Any = app.tasks["pay"]

    async def work() -> None:
        async with open_kind(name, url) as caller:
            async with caller.using():
                first = await pay.aapply_async((1,), idempotency_key="evt_1")
                again = await pay.aapply_async((1,), idempotency_key="evt_1")
            assert (again.conflict, again.id) == (True, first.id)
            await caller.commit()
        later = await pay.aapply_async((1,), idempotency_key="evt_1")
        assert (later.conflict, later.id) == (True, first.id)

    asyncio.run(work())
    assert len(waiting(connection)) == 1


def test_a_chain_whose_first_step_is_a_duplicate_does_not_go_on(
    app: Celery, connection: Connection
):
    pay, ship = app.tasks["pay"], app.tasks["ship"]
    first = chain(pay.si(1).set(idempotency_key="evt_1"), ship.si(1))()
    again = chain(pay.si(1).set(idempotency_key="evt_1"), ship.si(1))()
    # The ids of a chain are given before any of it is published.
    row = jobs(app).get(again.parent.id)
    assert (row.state.value, row.superseded_by) == ("cancelled", first.parent.id)
    assert waiting(connection) == [first.parent.id]


@pytest.mark.parametrize("statement", ["keep_receipts", "insert_new_job", "COMMIT"])
def test_a_publish_whose_answer_is_lost_is_no_duplicate_of_itself(
    url: str, connection: Connection, statement: str
):
    with Proxy(url) as proxy:
        app = add_tasks(Celery("cut", broker=proxy.url, set_as_current=False))
        publish(app, "warm")
        proxy.cut_answer(statement)
        first = publish(app)
        assert proxy.cuts == 1
        assert not first.conflict
        assert publish(app).id == first.id
        app.close()
    assert waiting(connection).count(first.id) == 1
    assert len(waiting(connection)) == 2


def test_webhooks_that_are_delivered_to_many_processes_at_once_publish_once(
    url: str, connection: Connection
):
    program = [sys.executable, "-m", "tests.publishing.delivering", url]
    processes = [
        subprocess.Popen([*program, cut], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for cut in ("", "COMMIT", "keep_receipts", "COMMIT")
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [json.loads(process.communicate()[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert [answer["cuts"] > 0 for answer in answers] == [False, True, True, True]
    assert len(waiting(connection)) == DELIVERIES
    for event in range(DELIVERIES):
        ids = {answer["jobs"][event][0] for answer in answers}
        # One process has published it, and all have its handle.
        assert len(ids) == 1
        assert [answer["jobs"][event][1] for answer in answers].count(False) == 1


def test_expired_receipts_are_pruned_in_batches(
    app: Celery, database: Database, connection: Connection
):
    for number in range(25):
        publish(app, f"evt_{number}")
    connection.execute("UPDATE pgjobs.receipts SET expires_at = now() WHERE key <> 'evt_7'")
    connection.execute(
        "DELETE FROM pgjobs.jobs WHERE task_id <>"
        " (SELECT task_id FROM pgjobs.receipts WHERE key = 'evt_9')"
    )
    service = Prune(Settings())
    service.batch = 10
    service.run(database)
    # One counts, and the job of the other has not ended.
    assert [row["key"] for row in receipts(connection)] == ["evt_7", "evt_9"]


def test_without_a_key_nothing_of_it_is_asked(app: Celery, connection: Connection):
    app.tasks["pay"].delay(1)
    with bulk():
        app.tasks["pay"].delay(2)
    app.tasks["plain"].delay(3)
    assert receipts(connection) == []
    assert "idempotency" not in " ".join(
        row["message"] for row in connection.execute("SELECT message FROM pgjobs.jobs")
    )


# Found by its key


def test_a_job_is_found_by_its_key(app: Celery):
    first, other = publish(app), publish(app, "evt_2")
    shipped = publish(app, task="ship")
    found = jobs(app).filter(idempotency_key="evt_1")
    assert [(job.task_id, job.idempotency_key) for job in found] == [
        (first.id, "evt_1"), (shipped.id, "evt_1"),
    ]  # fmt: skip
    assert found.count() == 2
    assert [job.task_id for job in found.filter(task="pay")] == [first.id]
    assert jobs(app).filter(idempotency_key=["evt_2", "evt_3"]).first().task_id == other.id
    for nothing in ({"id": other.id, "idempotency_key": "evt_1"}, {"idempotency_key": "evt_9"}):
        assert not jobs(app).filter(**nothing).exists()
    assert jobs(app).filter(task="ship", idempotency_key="evt_1").cancel() == [shipped.id]
    assert jobs(app).get(other.id).idempotency_key == "evt_2"


def test_a_selection_by_a_key_is_the_same_elsewhere(app: Celery, connection: Connection):
    first = publish(app, "it's a key, of two")
    publish(app, "evt_2")
    filters = Filters().narrow(idempotency_key="it's a key, of two")
    text = str(Search(filters))
    assert text == 'idempotency_key:"it\'s a key, of two"'
    assert parse(text).filters == filters
    rows = connection.execute(as_sql(filters)).fetchall()  # type: ignore[arg-type]
    assert [row["task_id"] for row in rows] == [first.id]
    assert as_cli(filters) == ("celery pgjobs jobs --idempotency-key 'it'\"'\"'s a key, of two'")
    with pytest.raises(InvalidOption):
        jobs(app).filter(idempotency_key=7)


def test_a_key_is_found_among_many_by_an_index(app: Celery, connection: Connection, url: str):
    connection.execute(
        "INSERT INTO pgjobs.receipts (task, key, task_id, expires_at)"
        " SELECT 'task' || n % 5, 'evt_' || n, 'id' || n, now() + interval '1 day'"
        " FROM generate_series(1, 20000) AS n"
    )
    connection.execute("ANALYZE pgjobs.receipts")
    first = publish(app, "evt_77")
    query = prepared("find_keyed", "pgjobs").sql.decode()
    plan = connection.execute(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
        + query.replace("$1", "'{evt_77}'").replace("$2", "NULL")  # type: ignore[arg-type]
    ).fetchone()
    assert plan is not None
    assert plan["QUERY PLAN"][0]["Plan"]["Shared Hit Blocks"] < 100
    assert [job.task_id for job in jobs(app).filter(idempotency_key="evt_77")] == [first.id]

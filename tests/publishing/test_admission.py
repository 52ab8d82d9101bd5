"""A full queue: its publishers are refused, wait, or push out what waits longest."""

# ruff: noqa: PT012  # what a block does when it raises is what is tested

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from celery import Celery, _state, chain, group
from celery.app.task import Context

from pgjobs_celery import (
    PgTask,
    QueueFull,
    acting_as,
    audit,
    bulk,
    enqueue_many,
    jobs,
    queues,
    using,
)
from pgjobs_celery.config import read_settings
from pgjobs_celery.control.app import database_of
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import InvalidOption, NotAllPublished
from pgjobs_celery.job.rows import Fence, Run
from pgjobs_celery.publishing.admission import _follows, admit
from pgjobs_celery.publishing.insertion import Insertion
from pgjobs_celery.publishing.laning import known_rules
from pgjobs_celery.worker.flows import register_flows

from ..conftest import Connection
from ..support.rows import new_job
from ..support.waiting import wait_for

Make = Callable[..., Any]


@pytest.fixture
def make_task(make_app: Callable[..., Celery], monkeypatch: pytest.MonkeyPatch) -> Make:
    """A factory of a task whose queue has these rules."""

    def make(**rules: Any) -> Any:
        app = make_app(pgjobs_queues={"celery": rules} if rules else None)
        monkeypatch.setattr(_state._tls, "current_app", app)
        return app.task(base=PgTask, name="work", shared=False)(work)

    return make


def work(number: int = 0) -> None:
    """What the task does."""


def waiting(connection: Connection) -> list[int]:
    """The arguments of the jobs that wait."""
    rows = connection.execute(
        "SELECT (pgjobs.args(j) ->> 0)::int AS number FROM pgjobs.jobs AS j"
        " WHERE j.finished_at IS NULL ORDER BY j.seq"
    ).fetchall()
    return [row["number"] for row in rows]


def take_away(connection: Connection, count: int = 1) -> None:
    """Jobs end, as a worker ends them."""
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'completed', finished_at = now() WHERE id IN"
        " (SELECT id FROM pgjobs.jobs WHERE finished_at IS NULL ORDER BY seq LIMIT %s)",
        (count,),
    )


def test_a_full_queue_refuses_with_its_numbers(make_task: Make, connection: Connection):
    task = make_task(max_depth=3)
    for number in range(3):
        task.delay(number)
    with pytest.raises(QueueFull, match="queue 'celery' is full: 3 of its jobs wait") as raised:
        task.delay(3)
    assert (raised.value.queue, raised.value.depth, raised.value.max_depth) == ("celery", 3, 3)
    assert waiting(connection) == [0, 1, 2]
    task.apply_async((4,), queue="other")


def test_there_is_room_again_once_a_job_was_claimed(make_task: Make, connection: Connection):
    task = make_task(max_depth=2)
    task.delay(0)
    task.delay(1)
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'executing', attempt = 1,"
        " claimed_by = '00000000-0000-0000-0000-000000000001' WHERE pgjobs.args(jobs) ->> 0 = '0'"
    )

    def publish() -> bool:
        try:
            task.delay(2)
        except QueueFull:
            return False
        return True

    wait_for(publish)
    assert waiting(connection) == [0, 1, 2]


def test_a_time_that_has_not_come_does_not_count(make_task: Make, connection: Connection):
    task = make_task(max_depth=1)
    for number in range(3):
        task.apply_async((number,), countdown=60)
    task.delay(3)
    with pytest.raises(QueueFull):
        task.delay(4)
    task.apply_async((5,), countdown=60)
    assert waiting(connection) == [0, 1, 2, 3, 5]


def test_without_a_depth_nothing_is_counted(make_task: Make, connection: Connection):
    task = make_task()
    rows = database_of(task.app).flow_rules
    rows.count_depth = None  # type: ignore[method-assign, assignment]
    try:
        task.delay(1)
        with bulk():
            task.delay(2)
    finally:
        del rows.count_depth  # type: ignore[method-assign]
    assert waiting(connection) == [1, 2]


def test_a_count_serves_for_many_jobs(make_task: Make, connection: Connection):
    task = make_task(max_depth=1000)
    rows = database_of(task.app).flow_rules
    counts: list[int] = []
    count_depth = rows.count_depth
    rows.count_depth = lambda *args: counts.append(1) or count_depth(*args)  # type: ignore
    try:
        for number in range(40):
            task.delay(number)
    finally:
        del rows.count_depth  # type: ignore[method-assign]
    assert len(counts) < 20  # one for 50, or for a second of a busy machine


def test_a_block_is_published_whole_or_not_at_all(make_task: Make, connection: Connection):
    task = make_task(max_depth=10)
    with pytest.raises(QueueFull, match="and 11 more cannot be published"), bulk():
        for number in range(11):
            task.delay(number)
            task.apply_async((number,), queue="other")
    assert waiting(connection) == []
    with bulk():
        for number in range(10):
            task.delay(number)
    assert waiting(connection) == list(range(10))


def test_of_many_items_as_many_are_published_as_there_is_room_for(
    make_task: Make, connection: Connection
):
    task = make_task(max_depth=25)
    with pytest.raises(NotAllPublished, match="QueueFull") as raised:
        enqueue_many(task, ((number,) for number in range(100)), size=10)
    assert raised.value.published == 20
    assert isinstance(raised.value.__cause__, QueueFull)
    assert len(waiting(connection)) == 20


def test_in_a_callers_transaction_it_is_refused_at_once(
    make_task: Make, connection: Connection, url: str
):
    task = make_task(max_depth=1, on_full="wait", wait=3600)
    task.delay(0)
    with psycopg.connect(parse_url(url)) as mine:
        with using(mine), pytest.raises(QueueFull):
            task.delay(1)
        mine.execute("SELECT 1")  # it goes on

    async def publish() -> None:
        theirs = await psycopg.AsyncConnection.connect(parse_url(url))
        async with theirs, using(theirs):
            with pytest.raises(QueueFull):
                await task.adelay(2)

    asyncio.run(publish())
    assert waiting(connection) == [0]


def test_a_publisher_waits_for_room(make_task: Make, connection: Connection):
    task = make_task(max_depth=2, on_full="wait", wait=3600)
    task.delay(0)
    task.delay(1)
    publisher = threading.Thread(target=task.delay, args=(2,))
    publisher.start()
    publisher.join(0.3)
    assert publisher.is_alive()
    assert waiting(connection) == [0, 1]
    take_away(connection)
    publisher.join()
    assert waiting(connection) == [1, 2]


def test_an_event_loop_goes_on_while_a_publisher_waits(make_task: Make, connection: Connection):
    task = make_task(max_depth=1, on_full="wait", wait=3600)
    task.delay(0)

    async def publish() -> None:
        waits = asyncio.ensure_future(task.adelay(1))
        await asyncio.sleep(0.2)
        assert not waits.done()
        take_away(connection)
        await waits

    asyncio.run(publish())
    assert waiting(connection) == [1]


def test_a_publisher_that_has_waited_for_long_enough_is_refused(
    make_task: Make, connection: Connection
):
    task = make_task(max_depth=1, on_full="wait", wait=0.2)
    task.delay(0)
    with pytest.raises(QueueFull):
        task.delay(1)
    with (
        pytest.raises(QueueFull, match="and 2 more cannot"),
        bulk(),
    ):  # more than ever fits
        task.delay(2)
        task.delay(3)
    assert waiting(connection) == [0]


def test_the_job_that_waits_longest_is_dropped_with_a_trace(
    make_task: Make, connection: Connection
):
    task = make_task(max_depth=3, on_full="drop_oldest")
    results = [task.delay(number) for number in range(4)]
    assert waiting(connection) == [1, 2, 3]
    job = jobs(task.app).get(results[0])
    assert job is not None
    assert job.state == "cancelled"
    assert job.errors[-1]["type"] == "QueueFull"
    assert "dropped for a newer job: queue celery was full" in job.errors[-1]["message"]
    assert results[0].state == "REVOKED"
    with bulk():
        task.delay(4)
        task.delay(5)
    assert waiting(connection) == [3, 4, 5]


def test_a_batch_that_drops_jobs_is_in_the_audit_once(make_task: Make, connection: Connection):
    task = make_task(max_depth=3, on_full="drop_oldest")
    results = [task.delay(number) for number in range(3)]
    with acting_as("the importer"), bulk():
        task.delay(3)
        task.delay(4)
    (entry,) = audit(task.app).list()
    assert (entry.action, entry.actor, entry.queue) == ("drop_jobs", "the importer", "celery")
    assert (entry.jobs, entry.task_ids) == (2, [each.id for each in results[:2]])
    assert entry.details == {"max_depth": 3}
    assert audit(task.app).list(job=results[1].id) == [entry]
    job = jobs(task.app).get(results[1])
    assert job is not None
    why = job.explain()
    assert why.kind == "dropped"
    assert "for a newer one of the importer: dropped for a newer job" in why.text


def test_a_callers_transaction_takes_back_what_it_has_dropped(
    make_task: Make, connection: Connection, database_url: str
):
    task = make_task(max_depth=1, on_full="drop_oldest")
    task.delay(0)
    with psycopg.connect(parse_url(database_url)) as own:
        with using(own):
            task.delay(1)
        own.rollback()
    assert waiting(connection) == [0]
    assert audit(task.app).list() == []


def test_a_depth_that_a_worker_declares_holds_for_publishers_that_do_not(
    make_task: Make, connection: Connection
):
    worker = make_task(max_depth=2, on_full="wait", wait=0.1, fair="number", ageing=60).app
    publisher = make_task()
    database = database_of(publisher.app)

    def start(app: Celery) -> None:
        register_flows(app, database, read_settings(app.conf))
        known_rules(database).expire()

    start(worker)
    publisher.delay(0)
    publisher.delay(1)
    with pytest.raises(QueueFull, match="its max_depth is 2"):
        publisher.delay(2)
    queue = queues(publisher.app).get("celery")
    assert (queue.max_depth, queue.on_full, queue.full_wait) == (2, "wait", 0.1)
    assert (queue.fair_by, queue.ageing) == ("kwargs.number", 60.0)
    # The hand's word counts before the code's, and after a reset that of the next worker.
    queues(publisher.app)["celery"].max_depth(3)
    start(worker)
    publisher.delay(2)
    assert queues(publisher.app).get("celery").max_depth == 3
    queues(publisher.app)["celery"].reset()
    assert queues(publisher.app).get("celery").max_depth is None
    start(worker)
    assert queues(publisher.app).get("celery").max_depth == 2
    start(make_task(fair="number").app)
    queue = queues(publisher.app).get("celery")
    assert (queue.max_depth, queue.on_full, queue.full_wait) == (None, None, None)
    assert (queue.fair_by, queue.ageing) == ("kwargs.number", None)


def test_of_the_least_urgent_one_is_dropped_whether_in_a_lane_or_not(
    make_task: Make, connection: Connection
):
    task = make_task(max_depth=4, on_full="drop_oldest")
    task.apply_async((0,), priority=1)
    task.apply_async((1,), priority=7)
    task.apply_async((2,), priority=7)
    task.apply_async((3,), priority=3)
    connection.execute(
        "UPDATE pgjobs.jobs SET lane = 'rate/x', priority = priority + 256"
        " WHERE pgjobs.args(jobs) ->> 0 IN ('1', '3')"
    )
    task.apply_async((4,), priority=9)
    assert waiting(connection) == [0, 2, 3, 4]
    task.apply_async((5,), priority=2)
    assert waiting(connection) == [0, 2, 3, 5]


def test_what_goes_back_in_line_is_never_refused(make_task: Make, connection: Connection):
    task = make_task(max_depth=1)
    task.delay(0)
    database = database_of(task.app)
    again = Run(Fence(UUID(int=1), 1), is_holder_only=True, is_own=True)
    admit(database, [Insertion(new_job("again"), again)])
    with pytest.raises(QueueFull):
        admit(database, [Insertion(new_job("new"))])


def test_the_next_step_of_a_canvas_is_never_refused(make_task: Make, connection: Connection):
    task = make_task(max_depth=1)
    chain(task.si(1), task.si(2), group(task.si(3), task.si(4))).apply_async()
    row = connection.execute("SELECT message, body FROM pgjobs.jobs").fetchone()
    assert row is not None
    embedded = json.loads(bytes(row["body"]))[2]
    request = Context({"id": "1", "chain": embedded["chain"], "called_directly": False})
    last, step = embedded["chain"]
    steps = [step["options"]["task_id"]]
    steps += [each["options"]["task_id"] for each in last["kwargs"]["tasks"]]
    assert len(set(steps)) == 3
    task.request_stack.push(request)
    _state._task_stack.push(task)
    try:
        assert all(_follows(request, task_id, "work") for task_id in steps)
        assert not _follows(request, "another", "work")
        admit(database_of(task.app), [Insertion(new_job(steps[0]))])
        with pytest.raises(QueueFull):
            admit(database_of(task.app), [Insertion(new_job("another"))])
    finally:
        _state._task_stack.pop()
        task.request_stack.pop()


def test_a_depth_set_at_run_time_is_known_soon(make_task: Make, connection: Connection):
    task = make_task(max_depth=1)
    task.delay(0)
    set_depth = (
        "INSERT INTO pgjobs.limits (queue, max_depth, by_hand) VALUES ('celery', %s, '{max_depth}')"
        " ON CONFLICT (queue) DO UPDATE SET max_depth = excluded.max_depth"
    )
    connection.execute(set_depth, (2,))
    known_rules(database_of(task.app)).expire()
    task.delay(1)
    with pytest.raises(QueueFull):
        task.delay(2)
    connection.execute(set_depth, (None,))
    known_rules(database_of(task.app)).expire()
    for number in range(3, 6):
        task.delay(number)
    assert waiting(connection) == [0, 1, 3, 4, 5]


def test_several_publishers_put_it_over_by_no_more_than_their_shares(
    make_task: Make, connection: Connection
):
    task = make_task(max_depth=100)
    full = []

    def publish() -> None:
        for number in range(100):
            try:
                task.delay(number)
            except QueueFull:
                full.append(number)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Threads of one process share what a count allows.
    assert 95 <= len(waiting(connection)) <= 105
    assert full


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"max_depth": 0}, "max_depth must be a whole number from 1"),
        ({"max_depth": 5, "on_full": "drop"}, "on_full must be 'raise', 'wait', 'drop_oldest'"),
        ({"max_depth": 5, "wait": -1}, "wait must be seconds from 0"),
        ({"maxdepth": 5}, r"pgjobs_queues\['celery'\] has no key 'maxdepth'; did you mean"),
        ({"ageing": 5}, "ageing is for a fair queue"),
        ({"fair": "a b"}, "fair by an argument is written"),
        ({"rate": {"limit": "1/s", "by": len}}, "by is a path here"),
    ],
)
def test_what_means_nothing_is_refused(make_task: Make, rules: dict[str, Any], message: str):
    with pytest.raises((InvalidOption, ValueError), match=message):
        make_task(**rules).delay()

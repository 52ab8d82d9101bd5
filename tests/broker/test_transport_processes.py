"""Forked children and threads."""

from __future__ import annotations

import gc
import os
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import kombu
import psycopg
import pytest
from celery import Celery
from psycopg.rows import dict_row

from pgjobs_celery import bulk, using
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.node.nodes import close_nodes

from ..conftest import Connection, close_app
from ..support.consumers import (
    backends,
    consuming,
    count_states,
    drain,
    get_row,
    get_rows,
    is_quiet,
    publish_task,
    publish_tasks,
)
from ..support.waiting import wait_for

Connect = Callable[..., kombu.Connection]

# Forks


def in_child(work: Callable[[], None]) -> int:
    """Run it in a forked child; its exit code."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            # What a child does that ends like a process of its own.
            close_nodes()
            gc.collect()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("is_asleep", [True, False])
def test_a_forked_child_has_connections_of_its_own(
    connect: Connect, connection: Connection, is_asleep: bool
):
    broker = connect(poll_interval=60.0)
    publish_tasks(broker, 3)
    with consuming(broker) as inbox:
        drain(broker, inbox, 3)
        if is_asleep:
            assert is_quiet(broker)
        before = get_rows(connection)

        def work() -> None:
            for number in range(10):
                publish_task(broker, "child", id=f"child-{number}")
            with consuming(broker, "child", ack=True) as mine:
                drain(broker, mine, 9)
                # Its end releases nothing but its own.
            broker.release()

        for _ in range(2):
            assert in_child(work) == 0
            assert get_rows(connection, where="queue = 'q'") == before
            rows = get_rows(connection, where="queue = 'child'")
            assert sum(row["state"] == "completed" for row in rows) >= 9
            connection.execute("DELETE FROM pgjobs.jobs WHERE queue = 'child'")
        publish_task(broker, id="after")
        drain(broker, inbox, 4)
        for message in inbox:
            message.ack()
        wait_for(lambda: count_states(connection) == {"completed": 4})
        # Still woken: the child took no listener along.
        assert is_quiet(broker)
        publish_task(broker)
        drain(broker, inbox, 5, timeout=2.0)


@pytest.mark.parametrize("is_bulk", [False, True], ids=["using", "bulk"])
def test_a_child_that_is_forked_in_a_block_takes_no_part_in_it(
    url: str, connect: Connect, connection: Connection, is_bulk: bool
):
    broker = connect()
    with psycopg.connect(parse_url(url)) as own:
        with bulk() if is_bulk else using(own):
            publish_task(broker, id="parent")
            assert in_child(lambda: publish_task(broker, id="child") and None) == 0
            assert [row["task_id"] for row in get_rows(connection)] == ["child"]
        own.commit()
    assert {row["task_id"] for row in get_rows(connection)} == {"child", "parent"}


def test_a_child_that_consumes_on_an_inherited_channel_claims_nothing_for_its_parent(
    broker: kombu.Connection, connection: Connection
):
    channel = broker.default_channel
    publish_task(broker, id="one")
    message = channel.basic_get("q")
    publish_task(broker, id="two")

    def work() -> None:
        mine = broker.default_channel.basic_get("q")
        assert mine.headers["id"] == "two"
        assert broker.default_channel is not channel

    assert in_child(work) == 0
    parent = get_row(connection, "one")["claimed_by"]
    assert parent
    assert get_row(connection, "two")["claimed_by"] != parent
    message.ack()
    wait_for(lambda: get_row(connection, "one")["state"] == "completed")


def test_children_forked_while_threads_publish_lose_nothing(
    connect: Connect, connection: Connection
):
    broker = connect()
    broker.connect()
    stop = threading.Event()

    def publish() -> int:
        count = 0
        while not stop.is_set():
            publish_task(broker)
            count += 1
        return count

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(publish) for _ in range(3)]
        try:
            codes = [in_child(lambda: publish_task(broker, "child") and None) for _ in range(5)]
        finally:
            stop.set()
        count = sum(each.result() for each in running)
    assert codes == [0] * 5
    assert len(get_rows(connection, where="queue = 'q'")) == count
    assert len(get_rows(connection, where="queue = 'child'")) == 5


# Threads


@pytest.fixture
def own_url(make_migrated: Callable[[], str]) -> str:
    """The URL of a database to which nobody else is connected."""
    return make_migrated()


def count_own(url: str) -> int:
    """How many of this package's connections lead to the database."""
    with psycopg.connect(parse_url(url), row_factory=dict_row) as connection:
        return len(backends(connection))


def test_twenty_threads_publish_through_one_app_and_lose_nothing(own_url: str):
    app = Celery("threads", broker=own_url, set_as_current=False)
    app.conf.update(broker_pool_limit=5, broker_transport_options={"pool_size": 3})
    counts: list[int] = []

    def publish(thread: int) -> None:
        for number in range(30):
            app.send_task("tests.add", (number,), task_id=f"{thread}-{number}")
        counts.append(count_own(own_url))

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(publish, range(20)))
    close_app(app)
    assert len(counts) == 20
    assert max(counts) <= 3
    with psycopg.connect(parse_url(own_url)) as connection:
        assert connection.execute("SELECT count(*) FROM pgjobs.jobs").fetchone() == (600,)


def test_threads_take_no_more_connections_than_the_pool_may_have(own_url: str, connect: Connect):
    broker = connect(own_url, pool_size=2)
    broker.connect()
    with ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(lambda _: publish_task(broker), range(400)))
    assert len(set(ids)) == 400
    assert count_own(own_url) <= 2
    with psycopg.connect(parse_url(own_url)) as connection:
        rows = connection.execute("SELECT task_id FROM pgjobs.jobs").fetchall()
    assert {row[0] for row in rows} == set(ids)

"""Which queues go, and when: the same is asserted of RabbitMQ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from uuid import uuid4

import kombu
import pytest
from amqp.exceptions import NotFound, PreconditionFailed, ResourceLocked
from kombu import Consumer, Exchange, Queue
from kombu.exceptions import ChannelError

from pgjobs_celery.config import Settings
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.failures import QueueGone
from pgjobs_celery.maintenance.reap import Reap
from pgjobs_celery.maintenance.rescue import Rescue

from ..conftest import Connection
from ..support.consumers import consuming, drain, get_rows, is_quiet, publish_task
from ..support.waiting import wait_for

Link = Callable[[], kombu.Connection]


@pytest.fixture(params=["pgjobs", pytest.param("rabbitmq", marks=pytest.mark.peer)])
def link(request: pytest.FixtureRequest, url: str) -> Iterator[Link]:
    """A factory of connections, each as another process has it."""
    if request.param == "rabbitmq":
        url = request.getfixturevalue("rabbitmq_url")
    links: list[kombu.Connection] = []

    def link() -> kombu.Connection:
        # A node belongs to a URL as it is spelled.
        name = f"{'&' if '?' in url else '?'}application_name=link{len(links)}"
        links.append(kombu.Connection(url + (name if request.param == "pgjobs" else "")))
        return links[-1]

    yield link
    for each in links:
        each.release()


@pytest.fixture
def name() -> str:
    return f"pgjobs-test-{uuid4().hex[:8]}"


def is_there(connection: kombu.Connection, name: str) -> bool:
    try:
        connection.channel().queue_declare(name, passive=True)
    except NotFound:
        return False
    return True


def test_an_auto_delete_queue_goes_with_its_last_consumer(link: Link, name: str):
    queue = Queue(name, Exchange(name, "direct"), name, auto_delete=True, durable=False)
    one, two, looker = link(), link(), link()
    with link() as producer:
        producer.Producer().publish({}, exchange=name, routing_key=name, declare=[queue])
    assert is_there(looker, name), "it has had no consumer"
    with consuming(one, queue) as inbox:
        drain(one, inbox, 1)
        inbox[0].ack()
        with consuming(two, queue):
            assert is_quiet(two)
            found = two.default_channel.queue_declare(name, passive=True)
            assert found.consumer_count == 2
            one.close()
            assert is_there(looker, name), "the other consumes from it"
    wait_for(lambda: not is_there(looker, name))


def test_an_exclusive_queue_is_for_one_process_and_goes_with_its_connection(link: Link, name: str):
    queue = Queue(name, exclusive=True, durable=False)
    one, two = link(), link()
    for each in one, two:
        if node := getattr(each.default_channel, "node", None):
            node.configure("a worker", Settings(lease=1, heartbeat_interval=0.1))
    with one.channel() as channel:
        queue(channel).declare()
    queue(one.default_channel).declare()
    for refused in (
        lambda channel: queue(channel).declare(),
        lambda channel: channel.queue_declare(name, passive=True),
        lambda channel: queue(channel).delete(),
    ):
        with pytest.raises(ResourceLocked), two.channel() as channel:
            refused(channel)
    one.close()
    assert not is_there(two, name)
    queue(two.channel()).declare()


def test_a_queue_that_another_process_consumes_from_is_not_deleted_if_unused(link: Link, name: str):
    queue = Queue(name)
    one, two = link(), link()
    with consuming(one, queue):
        assert is_quiet(one)
        with pytest.raises(PreconditionFailed), two.channel() as channel:
            queue(channel).delete(if_unused=True)
    one.close()

    def is_deleted() -> bool:
        with suppress(PreconditionFailed), two.channel() as channel:
            queue(channel).delete(if_unused=True)
        return not is_there(two, name)

    wait_for(is_deleted)  # the next heartbeat says that nobody consumes from it


def test_what_leads_nowhere_is_refused(link: Link, name: str):
    queue = Queue(name, Exchange(f"{name}-x", no_declare=True), name, auto_delete=True)
    with pytest.raises(NotFound, match=f"no exchange '{name}-x'"), link().channel() as channel:
        queue(channel).declare()
    connection = link()

    def publish() -> None:
        connection.Producer().publish({}, routing_key=f"{name}-none", mandatory=True)
        connection.drain_events(timeout=1)  # RabbitMQ's answer

    with pytest.raises(ChannelError) as refused:
        publish()
    assert refused.value.reply_code == 312


def test_the_exchanges_that_amqp_has_need_no_declaration(link: Link, name: str):
    connection = link()
    queue = Queue(name, Exchange("amq.topic", "topic"), f"{name}.*", auto_delete=True)
    with consuming(connection, queue) as inbox:
        connection.Producer().publish({}, exchange="amq.topic", routing_key=f"{name}.a")
        drain(connection, inbox, 1)


# Only here


def other(url: str) -> kombu.Connection:
    return kombu.Connection(f"{url}{'&' if '?' in url else '?'}application_name=other")


def bury(database: Database, connection: Connection, node: object) -> None:
    connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = 'epoch' WHERE node = %s", [node])
    rescue = Rescue()
    rescue.tell()
    rescue.run(database)
    Reap().run(database)


@pytest.mark.parametrize("kind", ["auto_delete", "exclusive"])
def test_the_queue_of_a_dead_process_goes_when_it_is_buried(
    url: str, database: Database, connection: Connection, kind: str
):
    queue = Queue("gone", Exchange("x"), "k", **{kind: True})
    with other(url) as dead:
        channel = dead.channel()
        Consumer(channel, [queue]).consume()
        assert is_quiet(dead)
        dead.Producer().publish({}, exchange="x", routing_key="k")
        channel.node.services.pulse.stop()
        bury(database, connection, channel.node.id)
        assert not get_rows(connection, "queues")
        assert not get_rows(connection, "bindings")
        assert not get_rows(connection, "messages")
        # Should it have been asleep only, it hears of it, and declares anew.
        channel._touch_at = 0.0
        with pytest.raises(QueueGone) as gone:
            dead.drain_events(timeout=0.1)
        assert isinstance(gone.value, dead.recoverable_connection_errors)


def test_a_queue_outlives_the_first_of_its_consumers(
    url: str, database: Database, connection: Connection, broker: kombu.Connection
):
    queue = Queue("q", auto_delete=True)
    with other(url) as dead:
        Consumer(dead.channel(), [queue]).consume()
        assert is_quiet(dead)
        with consuming(broker, queue) as inbox:
            assert is_quiet(broker)
            dead.default_channel.node.services.pulse.stop()
            bury(database, connection, dead.default_channel.node.id)
            publish_task(broker)
            drain(broker, inbox, 1)
            assert get_rows(connection, "queues")


def test_what_a_worker_in_a_long_task_consumes_from_is_not_reaped(
    broker: kombu.Connection, database: Database, connection: Connection
):
    with consuming(broker, Queue("q", auto_delete=True)):
        assert is_quiet(broker)  # and no other turn: the solo pool runs the task inside
        connection.execute("UPDATE pgjobs.queues SET used_at = 'epoch'")
        assert Reap().run(database)["queues"] == 0


def test_jobs_that_wait_outlive_their_queue(broker: kombu.Connection, connection: Connection):
    queue = Queue("q", auto_delete=True)
    with consuming(broker, queue):
        assert is_quiet(broker)
    id = publish_task(broker)
    wait_for(lambda: not get_rows(connection, "queues"))
    with consuming(broker, queue) as inbox:
        drain(broker, inbox, 1)
    assert inbox[0].headers["id"] == id


def test_an_exclusive_queue_of_a_silent_process_is_soon_another_ones(
    url: str, connection: Connection, broker: kombu.Connection
):
    queue = Queue("q", exclusive=True)
    with other(url) as dead:
        queue(dead.channel()).declare()
        dead.default_channel.node.services.pulse.stop()
        connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = now() - interval '4 s'")
        with consuming(broker, queue):  # a third of the lease, not all of it
            (row,) = get_rows(connection, "queues")
            assert row["owner"] == broker.default_channel.node.id


def test_a_reply_queue_costs_no_heartbeat(connect: Callable[[], kombu.Connection], url: str):
    with other(url) as client, client.channel() as channel:
        queue = Queue("reply", exclusive=True, expires=10)(channel)
        queue.declare()
        assert channel.node.services.heartbeat is None
        queue.delete()
        assert not channel.node.uses.names

"""In an event loop nobody waits for a claim: whatever happens until its answer comes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import kombu
import psycopg
import pytest
from kombu.asynchronous import Hub, set_event_loop
from kombu.message import Message

from pgjobs_celery.broker import claim_plan
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.liveness import ConnectionLost
from pgjobs_celery.maintenance.settle import Settle
from pgjobs_celery.node.node import get_node

from ..conftest import Connection
from ..support.consumers import (
    backends,
    consuming,
    count_states,
    drain,
    get_rows,
    publish_task,
    publish_tasks,
)
from ..support.networks import CLAIM, Network
from ..support.waiting import wait_for

Connect = Callable[..., kombu.Connection]

#: A poll that no test waits for.
NEVER = 60.0


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    set_event_loop(hub)
    # It waits no longer than that.
    hub.call_repeatedly(0.02, lambda: None)
    yield hub
    hub.close()
    hub.timer.stop()
    set_event_loop(None)


class Scene:
    """A consumer in an event loop whose claim waits for a lock, which is let go of by the test."""

    def __init__(
        self, connection: Connection, locking: Any, broker: kombu.Connection, hub: Hub
    ) -> None:
        self.connection = connection
        self._hub = hub
        self._locking = locking
        self.broker = broker
        self.node = get_node(broker.transport.database)
        self.inbox: list[Message] = []
        self.channel: Any = broker.channel()
        self.channel.basic_consume("q", callback=self.inbox.append, consumer_tag="mine")

    def claim(self) -> None:
        """Have a claim wait for the lock."""
        self._locking.execute("LOCK TABLE pgjobs.jobs IN EXCLUSIVE MODE")
        self.channel.jobs.look_again()
        wait_for(lambda: self.turn() or self.is_waiting())

    def unlock(self) -> None:
        self._locking.rollback()

    def is_waiting(self) -> bool:
        return bool(backends(self.connection, "wait_event_type = 'Lock'"))

    def become_idle(self) -> None:
        """Look for messages that are not jobs as well, which would wait for a claim."""
        self.turn()
        wait_for(lambda: self.turn() or self.channel.is_idle)

    def wait_for(self, count: int) -> None:
        assert wait_for(lambda: self.turn() or len(self.inbox) >= count)

    def turn(self) -> None:
        self._hub.run_once()

    def is_settled(self, **states: int) -> bool:
        """What went back is written by a thread of the node's."""
        return wait_for(lambda: count_states(self.connection) == states)


@pytest.fixture
def make_scene(connect: Connect, connection: Connection, hub: Hub, url: str) -> Iterator[Any]:
    """A scene in which a claim of three jobs is under way."""
    with psycopg.connect(parse_url(url)) as locking:

        def make_scene(**options: Any) -> Scene:
            broker = connect(poll_interval=NEVER, **options)
            broker.register_with_event_loop(hub)
            scene = Scene(connection, locking, broker, hub)
            scene.become_idle()
            publish_tasks(connect(), 3)
            scene.claim()
            return scene

        yield make_scene
        locking.rollback()


@pytest.fixture
def scene(make_scene: Callable[..., Scene]) -> Scene:
    return make_scene()


def test_the_loop_goes_on_and_the_jobs_come(scene: Scene, hub: Hub):
    ticks: list[int] = []
    hub.call_repeatedly(0.01, lambda: ticks.append(1))
    wait_for(lambda: scene.turn() or len(ticks) > 5)
    assert scene.is_waiting()
    assert not scene.inbox
    scene.unlock()
    scene.wait_for(3)
    assert count_states(scene.connection) == {"executing": 3}
    scene.channel.close()
    scene.broker.release()
    assert not hub.readers


def test_outcomes_ride_along(
    connect: Connect, connection: Connection, make_scene: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Settle, "linger", NEVER)
    scene = make_scene()
    scene.unlock()
    scene.wait_for(3)
    publish_task(connect(), "other")
    for message in scene.inbox:
        message.ack()
    scene.claim()
    assert not scene.node.ledger.outcomes
    scene.unlock()
    wait_for(lambda: scene.turn() or not scene.node.is_claiming)
    assert count_states(connection) == {"completed": 3, "available": 1}


def cancel(scene: Scene) -> None:
    scene.channel.basic_cancel("mine")


def close(scene: Scene) -> None:
    thread = threading.Thread(target=scene.unlock)
    wait_for(lambda: scene.node.is_claiming)
    thread.start()
    scene.channel.close()
    thread.join()


def close_connection(scene: Scene) -> None:
    scene.unlock()
    scene.broker.release()


def let_go(scene: Scene) -> None:
    """As a soft shutdown does, in a thread."""
    thread = threading.Thread(target=scene.channel.let_go)
    thread.start()
    thread.join()


def lose_lease(scene: Scene) -> None:
    heartbeat = scene.node.services.heartbeat
    assert heartbeat is not None
    scene.node.services.pulse.stop()
    heartbeat._last = float("-inf")
    scene.turn()


@pytest.mark.parametrize("end", [cancel, close, close_connection, let_go, lose_lease])
def test_what_nobody_waits_for_any_more_goes_back(scene: Scene, end: Callable[[Scene], None]):
    end(scene)
    scene.unlock()
    assert scene.is_settled(available=3)
    assert get_rows(scene.connection, where="attempted_at IS NOT NULL"), "nothing was claimed"
    assert not scene.inbox
    assert scene.node.held == 0


def test_one_consumer_of_two_that_is_cancelled_gives_back_its_own(scene: Scene, connect: Connect):
    kept: list[Message] = []
    scene.unlock()
    scene.wait_for(3)
    scene.channel.basic_consume("kept", callback=kept.append)
    scene.become_idle()
    publish_tasks(connect(), 2, "kept")
    publish_tasks(connect(), 2)
    scene.claim()
    scene.channel.basic_cancel("mine")
    scene.unlock()
    wait_for(lambda: scene.turn() or len(kept) == 2)
    assert wait_for(
        lambda: scene.turn() or count_states(scene.connection) == {"executing": 5, "available": 2}
    )


def test_another_thread_that_writes_waits_for_the_claim(scene: Scene):
    thread = threading.Thread(target=scene.node.write_all)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    scene.unlock()
    thread.join(10)
    scene.wait_for(3)


def test_an_answer_to_which_the_loop_does_not_come_is_read_all_the_same(scene: Scene):
    """A task of the solo pool may take long, and the server commits when all of it is sent."""
    scene.unlock()
    wait_for(lambda: not scene.node.is_claiming)
    scene.wait_for(3)


def test_a_blocking_loop_waits_for_the_claim_of_the_other(scene: Scene):
    unlocking = threading.Timer(0.2, scene.unlock)
    unlocking.start()
    drain(scene.broker, scene.inbox, 3)
    unlocking.join()


def test_its_thread_can_use_the_only_connection(
    make_scene: Callable[..., Scene], connect: Connect, connection: Connection
):
    scene = make_scene(pool_size=1)
    unlocking = threading.Timer(0.2, scene.unlock)
    unlocking.start()
    publish_task(scene.broker, "other")
    unlocking.join()
    scene.wait_for(3)
    assert count_states(connection) == {"executing": 3, "available": 1}


def test_a_lost_connection_is_an_error_of_the_loop_and_nothing_is_lost(scene: Scene):
    waiting = backends(scene.connection, "wait_event_type = 'Lock'")
    scene.connection.execute("SELECT pg_terminate_backend(unnest(%s::int[]))", [waiting])
    with pytest.raises(scene.broker.connection_errors):
        wait_for(lambda: scene.turn() or scene.inbox)
    scene.unlock()
    scene.broker.transport.close_connection(scene.broker.connection)
    scene.node.flush()
    assert scene.is_settled(available=3)


def test_a_connection_that_is_given_up_is_an_error_of_the_loop(scene: Scene):
    scene.channel.reconnect("it is dead")
    with pytest.raises(ConnectionLost):
        wait_for(lambda: scene.turn() or scene.inbox)


@pytest.mark.timeout(60)
def test_a_server_that_has_vanished_is_noticed(
    connect: Connect, connection: Connection, hub: Hub, url: str
):
    with Network(url) as network:
        broker = connect(network.url, poll_interval=NEVER, ask_after=0.3, listen=False)
        broker.register_with_event_loop(hub)
        with consuming(broker) as inbox:
            for _ in range(5):
                hub.run_once()
            assert network.swallow(CLAIM)
            network.answers = False
            publish_task(connect())
            broker.transport.channels[0].jobs.look_again()
            with pytest.raises(ConnectionLost):
                wait_for(lambda: hub.run_once() or inbox)
            network.answers = True


def test_a_child_that_is_forked_meanwhile_leaves_it_alone(scene: Scene):
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    scene.unlock()
    scene.wait_for(3)


def test_a_job_of_which_we_are_told_meanwhile_is_not_forgotten(
    make_scene: Callable[..., Scene], connect: Connect, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(claim_plan, "ECHOES", ())
    scene = make_scene()
    scene.unlock()
    scene.wait_for(3)
    scene.claim()
    # Its look sees nothing of what is told from here on.
    scene.unlock()
    wait_for(lambda: not scene.is_waiting())
    publish_task(connect())
    scene.channel.jobs.expect("q")
    scene.wait_for(4)

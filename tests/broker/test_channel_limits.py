"""What a channel takes from queues that are paused or limited."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import kombu
import pytest

from pgjobs_celery.config import Settings
from pgjobs_celery.db import notify
from pgjobs_celery.db.database import Database
from pgjobs_celery.job.outcome import completed
from pgjobs_celery.job.rows import Bucket
from pgjobs_celery.node.node import Node

from ..support.consumers import args_of, consuming, drain, is_quiet, publish_task, publish_tasks
from ..support.rows import put


def test_getting_from_a_queue_obeys_a_limit_that_it_never_heard_of(
    broker: kombu.Connection, database: Database
):
    publish_tasks(broker, 3)
    channel = broker.default_channel
    first = channel.basic_get("q")
    database.limits.limit_queue("q", 2)
    second = channel.basic_get("q")
    assert channel.basic_get("q") is None
    first.ack()
    third = channel.basic_get("q")
    assert [args_of(message) for message in (first, second, third)] == [0, 1, 2]
    database.limits.limit_queue("q", None)
    publish_task(broker, id="more")
    assert channel.basic_get("q") is not None


@pytest.mark.parametrize("listen", [True, False])
def test_a_consumer_takes_the_next_job_when_it_acknowledges_one(
    listen: bool, connect: Callable[..., kombu.Connection], database: Database
):
    broker = connect(listen=listen, poll_interval=0.2, max_claim=98)
    database.limits.limit_queue("q", 2)
    publish_tasks(broker, 5)
    with consuming(broker) as inbox:
        drain(broker, inbox, 2)
        assert is_quiet(broker)
        for count in range(3, 6):
            inbox[count - 3].ack()
            drain(broker, inbox, count)
    assert [args_of(message) for message in inbox] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("listen", [True, False])
def test_a_consumer_hears_of_a_resumed_queue(
    listen: bool, connect: Callable[..., kombu.Connection], database: Database
):
    broker = connect(listen=listen, poll_interval=0.2)
    database.limits.pause_queue("q")
    publish_tasks(broker, 2)
    with consuming(broker, ack=True) as inbox:
        assert is_quiet(broker)
        database.limits.resume_queue("q")
        drain(broker, inbox, 2)


# What the node tells


class Watcher:
    def __init__(self) -> None:
        self.freed: list[str] = []

    def place_freed(self, queue: str) -> None:
        self.freed.append(queue)


@pytest.fixture
def node(database: Database) -> Iterator[Node]:
    node = Node(database)
    node.services.settle.linger = node.services.settle.interval = 60
    settings = Settings(maintenance=False, heartbeat_interval=100, lease=200, queues={"own": 2})
    node.configure("node@host", settings)
    yield node
    node.close()


def test_a_node_knows_how_many_places_there_are_and_says_when_one_is_freed(database, node):
    put(database, "o1", "o2", queue="own")
    put(database, "s1", queue="shared")
    put(database, "f1", queue="free")
    database.limits.limit_queue("shared", 5)
    watcher = Watcher()
    node.watch(watcher)
    assert node.places() == {"own": 2, "shared": 5}
    buckets = [Bucket("own"), Bucket("shared"), Bucket("free")]
    claims = node.claim_jobs(buckets, 10)
    assert node.places() == {"own": 0, "shared": 4}
    for claim in claims:
        node.settle(completed(claim))
        node.done(claim.id, claim.attempt)
    assert sorted(watcher.freed) == ["own", "own", "shared"]
    assert node.places() == {"own": 2, "shared": 5}


def test_the_smaller_of_two_limits_counts(database, node):
    database.limits.limit_queue("own", 1)
    assert node.places() == {"own": 1}
    database.limits.limit_queue("own", 7)
    node.limits.expire()
    assert node.places() == {"own": 2}


def test_a_node_wakes_others_for_a_place_it_does_not_fill(database, node):
    """Also where another process has finished the row."""
    put(database, "a", "b", "c", queue="q")
    database.limits.limit_queue("q", 1)
    node.places()
    (claim,) = node.claim_jobs([Bucket("q")], 1)
    listener = database.listen_for_work()
    listener.announce(["q"])
    database.claims.settle_jobs(node.id, [completed(claim)])
    node.done(claim.id, claim.attempt)
    assert node.unwritten == 1
    node.flush()
    assert listener.wait(10) == {f"{notify.BACK}q"}
    assert node.unwritten == 0
    (claim,) = node.claim_jobs([Bucket("q")], 1)
    node.settle(completed(claim))
    # It takes the place itself: nobody need look.
    assert len(node.claim_jobs([Bucket("q")], 1)) == 1
    assert listener.wait(0.2) == set()
    listener.close()


def test_what_a_cut_connection_kept_from_being_told_is_told_later(database, node, monkeypatch):
    put(database, "a", queue="q")
    database.limits.limit_queue("q", 1)
    node.places()
    (claim,) = node.claim_jobs([Bucket("q")], 1)
    node.settle(completed(claim))
    before = node.unwritten

    def cut(*args: object, **values: object) -> None:
        raise ConnectionError("cut off")

    monkeypatch.setattr(database.claims, "turn", cut)
    with pytest.raises(ConnectionError):
        node.flush()
    monkeypatch.undo()
    assert node.unwritten == before
    node.flush()
    assert node.unwritten == 0

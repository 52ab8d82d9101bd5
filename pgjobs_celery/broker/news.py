"""Act on what other processes tell workers: a notification, for the channels that it concerns."""

from __future__ import annotations

from collections.abc import Sequence

from ..db import notify
from ..node.node import Node
from .bell import MOST_QUEUES, Bell
from .channel import Channel


def act_on(notification: str, node: Node, channels: Sequence[Channel], bell: Bell) -> None:
    """Act on a notification, its kind first; see :mod:`pgjobs_celery.db.notify`."""
    kind, name = notification[:1], notification[1:]
    if kind == notify.DUE:
        node.services.expect_due()
    elif kind == notify.BOUND:
        node.services.post.listen_again()
    elif kind == notify.CANCEL:
        end_cancelled(node, channels)
    elif kind in (notify.JOB, notify.BACK, notify.RUNG):
        if kind == notify.RUNG:
            name = name.partition(":")[2]
            bell.ring(name)
        for channel in channels:
            channel.jobs.expect(name, anywhere=kind == notify.BACK)
    elif kind == notify.EVENT:
        for channel in channels:
            channel.mailbox.expect_events()
    elif kind == notify.MESSAGE:
        for channel in channels:
            channel.mailbox.expect(name)
    elif kind == notify.QUEUE:
        node.limits.expire()
        node.services.expect_due()
        for channel in channels:
            channel.jobs.look_again()


def find_rung(node: Node, channels: Sequence[Channel]) -> set[str] | None:
    """The queues for whose jobs a worker's bell may be rung, which are none while it has no room.

    None where it has no bell: a solo pool's task holds up the event loop that would hear of it.
    """
    if node.pool is None or node.pool.holds_loop:
        return None
    queues = {queue for channel in channels for queue in channel.jobs.open_queues}
    return queues if len(queues) <= MOST_QUEUES else None


def is_turned_soon(node: Node) -> bool:
    """True where a child tells at once that it has begun the job that it was sent just now.

    It may run on our processor, and would wait there until the loop had turned once more: 0.1 ms.
    """
    pool = node.pool
    return pool is not None and pool.has_processes and node.holdings.in_pool <= pool.capacity


def end_cancelled(node: Node, channels: Sequence[Channel]) -> None:
    """End the jobs of ours that somebody has cancelled."""
    node.end_cancelled(
        lambda cancellation: any(channel.jobs.drop(cancellation) for channel in channels)
    )

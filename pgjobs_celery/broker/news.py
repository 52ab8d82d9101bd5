"""Act on the notifications that a transport hears."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..db import notify
from ..db.database import Database
from ..node.node import get_node
from .channel import Channel


def hear(
    database: Database,
    channels: Sequence[Channel],
    end_cancelled: Callable[[], None],
    notification: str,
) -> None:
    """Act on a notification: its kind, and the name that it is about."""
    kind, name = notification[:1], notification[1:]
    node = get_node(database)
    if kind == notify.DUE:
        node.services.expect_due()
    elif kind == notify.BOUND:
        node.services.post.listen_again()
    elif kind == notify.CANCEL:
        end_cancelled()
    elif kind in (notify.JOB, notify.BACK):
        for channel in channels:
            channel.jobs.expect(name, anywhere=kind == notify.BACK)
    elif kind == notify.MESSAGE:
        for channel in channels:
            channel.mailbox.expect(name)
    elif kind == notify.QUEUE:
        node.limits.expire()
        for channel in channels:
            channel.jobs.look_again()

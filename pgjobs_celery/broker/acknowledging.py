"""Acknowledge, reject or requeue delivered messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .message import Message
from .publish import Publisher

if TYPE_CHECKING:
    from ..job.rows import Claim
    from .host import Host


#: kombu's log line for it; operators look for that.
RESTORING = "Restoring %d unacknowledged message(s)"


class Acknowledger(Publisher):
    """The part of a channel that acknowledges; also called by the threads of a pool."""

    def __init__(self, transport: Host) -> None:
        super().__init__(transport)
        #: Delivered messages that are not acknowledged, by delivery tag.
        self.unacked: dict[int, Message] = {}
        #: How many were acknowledged since the channel last looked.
        self.finished = 0

    def look_again(self, *, messages: bool = True) -> None:
        """Something was put back in line."""
        raise NotImplementedError

    def made_room(self) -> None:
        """Another message may be delivered."""
        self.finished += 1
        self.transport.wake()

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """The message was dealt with."""
        for message in self._pop_unacked(delivery_tag, multiple):
            claim = message.claim
            if claim is None:
                self.node.settle_message(message.row or 0)
            elif not message.is_tracked:
                message.note_ack()
        self.made_room()

    def keep(self, message: Message, claim: Claim) -> None:
        """It was handed out, and did not go to the pool: it ends when it is acknowledged."""
        message.keep()
        if not message.is_settled:
            self.node.holdings.keep(claim.id)

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        """The message was refused: put it back in line, or set it aside."""
        for message in self._pop_unacked(delivery_tag, False):
            claim = message.claim
            if claim is None:
                if requeue:
                    self.node.return_message(message.row or 0)
                else:
                    self.node.settle_message(message.row or 0)
            else:
                message.refuse(requeue=requeue)
            if claim is not None and requeue:
                self.look_again(messages=False)
        self.made_room()

    def _pop_unacked(self, tag: int, multiple: bool) -> list[Message]:
        tags = [each for each in list(self.unacked) if each <= tag] if multiple else [tag]
        popped = [self.unacked.pop(each, None) for each in tags]
        return [message for message in popped if message is not None]

    def give_back(self, messages: Iterable[Message]) -> int:
        """Put back what was handed out and has neither begun nor been acknowledged; how many."""
        count = 0
        for message in messages:
            self.unacked.pop(message.delivery_tag, None)
            if message.claim is None:
                self.node.return_message(message.row or 0)
                count += 1
            elif message.is_acknowledged and message.note_ack():
                continue  # the loop had not come to it
            elif message.give_back():
                count += 1
        return count

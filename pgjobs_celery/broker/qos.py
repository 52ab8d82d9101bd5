"""Messages that were handed out and are not acknowledged, and the room that they leave.

kombu's name for it: QoS, the quality of service of a channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..job.outcome import completed
from .message import Message

if TYPE_CHECKING:
    from ..job.rows import Claim
    from ..node.node import Node

#: kombu's log line for it; operators look for that.
RESTORING = "Restoring %d unacknowledged message(s)"


class QoS:
    """A channel's prefetch window; acknowledgements may come from the threads of a pool."""

    def __init__(self, node: Node, max_claim: int) -> None:
        self._node = node
        self._max_claim = max_claim
        #: How many unacknowledged messages the channel may hold; 0 for any number.
        self.prefetch_count = 0
        #: Delivered messages that are not acknowledged, by delivery tag.
        self.unacked: dict[int, Message] = {}

    def can_consume(self) -> bool:
        """True while another message may be delivered."""
        return self.room() > 0

    def room(self) -> int:
        """How many more messages may be delivered."""
        if not self.prefetch_count:
            return self._max_claim
        return self.prefetch_count - len(self.unacked)

    def hand_out(self, message: Message, no_ack: bool) -> Message:
        """It goes to a consumer: await its acknowledgement, if there must be one."""
        if not no_ack:
            self.unacked[message.delivery_tag] = message
        elif message.claim is not None:
            self._node.settle(completed(message.claim))
        return message

    def keep(self, message: Message, claim: Claim) -> None:
        """It was handed out, and did not go to the pool: it ends when it is acknowledged."""
        message.keep()
        if not message.is_settled:
            self._node.holdings.keep(claim.id)

    def ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """The message was dealt with; ``multiple``: and all before it."""
        for message in self._pop(delivery_tag, multiple):
            if message.claim is None:
                self._node.settle_message(message.row or 0)
            elif not message.is_tracked:
                message.note_ack()

    def reject(self, delivery_tag: int, requeue: bool = False) -> bool:
        """Put a refused message back in line, or set it aside; True if a job is in line again."""
        is_back = False
        for message in self._pop(delivery_tag, False):
            if message.claim is not None:
                message.refuse(requeue=requeue)
                is_back = requeue
            elif requeue:
                self._node.return_message(message.row or 0)
            else:
                self._node.settle_message(message.row or 0)
        return is_back

    def give_back(self, messages: Iterable[Message]) -> int:
        """Put back what was handed out and has neither begun nor been acknowledged; how many."""
        count = 0
        for message in messages:
            self.unacked.pop(message.delivery_tag, None)
            if message.claim is None:
                self._node.return_message(message.row or 0)
                count += 1
            elif message.is_acknowledged and message.note_ack():
                continue  # the loop had not come to it
            elif message.give_back():
                count += 1
        return count

    def _pop(self, tag: int, multiple: bool) -> list[Message]:
        tags = [each for each in list(self.unacked) if each <= tag] if multiple else (tag,)
        popped = []
        for each in tags:
            message = self.unacked.pop(each, None)
            if message is not None:
                popped.append(message)
        return popped

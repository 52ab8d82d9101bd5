"""The rows of ``messages``: what is not a job. Small, short-lived, one copy a queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from .. import notify

if TYPE_CHECKING:
    from ..connection import Call
    from ..session import Session


class Delivery(NamedTuple):
    """A message on its way to a consumer."""

    id: int
    queue: str
    redelivered: bool
    message: str
    body: bytes


class NewMessage(NamedTuple):
    """A message to be put into queues."""

    message: str
    body: bytes
    #: False for what may be lost in a server crash: remote control, replies, events.
    durable: bool
    #: Its rank: 0 is delivered first.
    priority: int
    #: Seconds until it is not worth delivering; None for ever.
    ttl: float | None


class Routed(NamedTuple):
    """A message and where it goes."""

    message: NewMessage
    exchange: str
    routing_key: str


class Messages:
    """Statements on message rows, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def insert_messages(self, message: NewMessage, queues: Sequence[str]) -> None:
        """Put a copy into each queue and wake who listens."""
        self._fetch("insert_messages", queues=list(queues), **message._asdict())

    def publish_messages(self, message: NewMessage, exchange: str, routing_key: str) -> int:
        """Put a copy into each queue that the exchange routes it to; how many."""
        return self._publish([Routed(message, exchange, routing_key)], None)[0]

    def publish_events(self, events: Sequence[Routed]) -> list[int]:
        """Put copies of each where its exchange routes it to, in one transaction; how many."""
        return self._publish(events, notify.EVENT)

    def _publish(self, messages: Sequence[Routed], event: str | None) -> list[int]:
        calls = [
            self._session.call(
                "publish_messages",
                exchange=each.exchange,
                routing_key=each.routing_key,
                event=event,
                **self._wake(),
                **each.message._asdict(),
            )
            for each in messages
        ]
        return [len(rows) for rows in self._session.run(calls)]

    def take_messages(self, queues: Sequence[str], limit: int) -> list[Delivery]:
        """Read up to ``limit`` messages and delete them."""
        rows = self._session.fetch("take_messages", queues=list(queues), limit=limit)
        return [Delivery(*row) for row in rows]

    def claim_messages(self, node: UUID, queues: Sequence[str], limit: int) -> list[Delivery]:
        """Take up to ``limit`` messages, to be deleted or released later."""
        rows = self._session.fetch("claim_messages", node=node, queues=list(queues), limit=limit)
        return [Delivery(*row) for row in rows]

    def release(self, node: UUID, ids: Sequence[int]) -> Call:
        """The call that puts messages that ``node`` claimed back into their queues, redelivered."""
        return self._session.call("release_messages", node=node, ids=list(ids), **self._wake())

    def release_unknown_messages(self, node: UUID, known: Sequence[int]) -> None:
        """Put back what ``node`` claimed without learning of it."""
        self._fetch("release_unknown_messages", node=node, known=list(known))

    def reap_messages(self, limit: int) -> int:
        """Delete up to ``limit`` messages past their time; how many."""
        return int(self._session.fetch("reap_messages", limit=limit)[0][0])

    def purge_messages(self, queue: str) -> int:
        """Delete unclaimed messages; how many."""
        return int(self._session.fetch("purge_messages", queue=queue)[0][0])

    def _fetch(self, name: str, /, **values: Any) -> list[tuple[Any, ...]]:
        return self._session.fetch(name, **self._wake(), **values)

    def _wake(self) -> dict[str, Any]:
        return {"channel": notify.work_channel(self._session.schema), "kind": notify.MESSAGE}

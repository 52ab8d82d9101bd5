"""The rows of ``exchanges``, ``queues`` and ``bindings``, shared between processes."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from .. import notify
from ..failures import QueueGone

if TYPE_CHECKING:
    from ..session import Session


class QueueOwner(NamedTuple):
    """The owner of a queue."""

    #: The node that it goes with; None where it stays.
    owner: UUID | None
    #: Nobody else may use it.
    is_exclusive: bool


class FoundQueue(NamedTuple):
    """A queue as a process finds it."""

    #: Another process has it for itself.
    is_locked: bool
    #: How many other processes consume from it.
    consumers: int


class Routes:
    """Statements on exchanges, queues and bindings, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def declare_exchange(
        self, name: str, type: str, durable: bool, auto_delete: bool, arguments: Mapping[str, Any]
    ) -> str:
        """Make an exchange unless it is there; the type it has."""
        with self._lasting():
            rows = self._session.fetch(
                "declare_exchange",
                name=name,
                type=type,
                durable=durable,
                auto_delete=auto_delete,
                arguments=json.dumps(arguments, default=str),
            )
        # Nothing is seen of a row that another session is just inserting; its type is ours.
        return str(rows[0][0]) if rows else type

    def find_exchange(self, name: str) -> str | None:
        """The exchange's type; None if it does not exist."""
        rows = self._session.fetch("find_exchange", name=name)
        return str(rows[0][0]) if rows else None

    def delete_exchange(self, name: str) -> None:
        """Take away an exchange and its bindings."""
        self._session.fetch("delete_exchange", name=name)

    def declare_queue(
        self,
        name: str,
        *,
        durable: bool = True,
        auto_delete: bool = False,
        exclusive: bool = False,
        owner: UUID | None = None,
        expires_after: float | None = None,
        message_ttl: float | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> QueueOwner:
        """Make a queue unless it is there; whose it is."""
        with self._lasting():
            rows = self._session.fetch(
                "declare_queue",
                name=name,
                durable=durable,
                auto_delete=auto_delete,
                exclusive=exclusive,
                owner=owner,
                expires_after=expires_after,
                message_ttl=message_ttl,
                arguments=json.dumps(arguments or {}, default=str),
            )
        # Nothing is seen of a row that another session is just inserting.
        return QueueOwner(*rows[0]) if rows else QueueOwner(owner, exclusive)

    def find_queue(self, name: str, node: UUID) -> FoundQueue | None:
        """The queue as ``node`` finds it; None if it was not declared."""
        rows = self._session.fetch("find_queue", name=name, node=node)
        return FoundQueue(*rows[0]) if rows else None

    def leave_queues(self, names: Collection[str], node: UUID) -> None:
        """``node`` consumes no more: take away what goes with its last consumer."""
        self._session.fetch("leave_queues", names=list(names), node=node)

    def delete_queue(self, name: str) -> None:
        """Take away a queue, its bindings and its messages."""
        self._session.fetch("delete_queue", name=name)

    def touch_queues(self, names: Collection[str], node: UUID) -> None:
        """Keep these from being reaped: ``node`` uses them. QueueGone if one is not there."""
        if len(self._session.fetch("touch_queues", names=list(names), node=node)) < len(names):
            raise QueueGone

    def reap_queues(self) -> int:
        """Delete the queues that no consumer can use any more; how many."""
        return int(self._session.fetch("reap_queues")[0][0])

    def bind_queue(self, exchange: str, routing_key: str, queue: str) -> bool:
        """Route what comes to ``exchange`` with ``routing_key`` to ``queue``; workers hear of it.

        False if the exchange does not exist.
        """
        with self._lasting():
            rows = self._session.fetch(
                "bind_queue",
                exchange=exchange,
                routing_key=routing_key,
                queue=queue,
                pattern=topic_pattern(routing_key),
            )
            if rows:
                self._session.run([self._session.wake(notify.BOUND)])
        return bool(rows)

    def unbind_queue(self, exchange: str, routing_key: str, queue: str) -> None:
        """Take a binding away."""
        self._session.fetch("unbind_queue", exchange=exchange, routing_key=routing_key, queue=queue)

    def list_bindings(self) -> list[tuple[str, str, str]]:
        """Every binding: queue, exchange, routing key."""
        return [(row[0], row[1], row[2]) for row in self._session.fetch("list_bindings")]

    def route_message(self, exchange: str, routing_key: str) -> list[str]:
        """The queues that a message to a named exchange goes to."""
        rows = self._session.fetch("route_message", exchange=exchange, routing_key=routing_key)
        return [row[0] for row in rows]

    def _lasting(self) -> AbstractContextManager[None]:
        """Not in the caller's transaction: kombu declares once, and hears of no rollback."""
        return self._session.apart() if self._session.is_joined else nullcontext()


def topic_pattern(routing_key: str) -> str:
    """AMQP 0-9-1's topic wildcards as a regular expression: ``*`` is one word, ``#`` any number.

    >>> topic_pattern("task.#")
    '^task(\\\\.[^.]+)*$'
    """
    pattern = ""
    for index, word in enumerate(routing_key.split(".")):
        dot = r"\." if index else ""
        if word == "#":
            # Zero words take their dot with them.
            pattern += r"(\.[^.]+)*" if index else r"([^.]+(\.[^.]+)*)?"
        elif word == "*":
            pattern += dot + "[^.]+"
        else:
            pattern += dot + re.escape(word)
    if routing_key.startswith("#."):
        # "#.x" also matches "x" alone.
        rest = topic_pattern(routing_key[2:])[1:-1]
        return rf"^([^.]+\.)*{rest}$"
    return f"^{pattern}$"

"""Exchanges, queues and bindings as kombu's channels declare them; shared between processes."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from amqp.exceptions import NotFound, PreconditionFailed, ResourceLocked
from amqp.protocol import queue_declare_ok_t
from kombu.exceptions import ChannelError
from kombu.transport.base import to_rabbitmq_queue_arguments

from ..control.acting import CONTROL, begin_action
from ..db.rows.audit import Action
from ..db.rows.routes import FoundQueue, QueueOwner
from ..node.mailboxes import is_mailbox
from ..printable import guarded
from .declaration import DeclaredQueue
from .host import HostedChannel

if TYPE_CHECKING:
    from .host import Host

#: AMQP's reply codes.
NO_ROUTE, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED, NOT_IMPLEMENTED = 312, 404, 405, 406, 540

#: Seconds between two tries to declare an exclusive queue whose owner may be dead.
DECLARE_INTERVAL = 0.25

#: Exchanges that need no declaration: kombu does not, where the name begins with ``amq.``.
PREDECLARED = {f"amq.{type}": type for type in ("direct", "topic", "fanout")}


#: Arguments of queues that RabbitMQ obeys and we do not, and what there is instead.
IGNORED = {
    "x-dead-letter-exchange": "what is rejected or has expired stays in its row, with the reason",
    "x-max-length": "nothing is dropped for the length of a queue",
    "x-max-length-bytes": "nothing is dropped for the length of a queue",
    "x-single-active-consumer": "limit the queue to one job at a time instead",
}

logger = guarded(logging.getLogger(__name__))


class Topology(HostedChannel):
    """The part of a channel that declares."""

    def __init__(self, transport: Host) -> None:
        super().__init__(transport)
        #: Queues declared here that go away with their last consumer, or with the connection.
        self.own_queues: set[str] = set()

    def exchange_declare(
        self,
        exchange: str,
        type: str = "direct",
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Make an exchange, or (passive) see that it is there.

        ChannelError if it is not, or is of another type.
        """
        if not exchange:
            return
        if passive:
            if self.database.routes.find_exchange(exchange) is None and exchange not in PREDECLARED:
                raise refusal(NOT_FOUND, f"no exchange {exchange!r}")
            return
        offered = self.transport.implements.exchange_type
        if type not in offered:
            raise refusal(
                NOT_IMPLEMENTED,
                f"exchange {exchange!r} cannot be of type {type}: use {', '.join(sorted(offered))}",
            )
        self._forget_on_rollback()
        found = self.database.routes.declare_exchange(
            exchange, type, durable, auto_delete, arguments or {}
        )
        if found != type:
            raise refusal(
                PRECONDITION_FAILED,
                f"exchange {exchange!r} is there, and of type {found}, not {type}: "
                "give this one another name, or delete the old one",
            )

    def exchange_delete(self, exchange: str, **_: Any) -> None:
        """Take away an exchange and its bindings."""
        self.database.routes.delete_exchange(exchange)

    def exchange_bind(self, *_: Any, **__: Any) -> None:
        """Not offered: bind the queue to both exchanges instead."""
        raise NotImplementedError("exchanges cannot be bound to each other: bind the queue to both")

    exchange_unbind = exchange_bind

    def queue_declare(
        self,
        queue: str = "",
        passive: bool = False,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> queue_declare_ok_t:
        """Make a queue, or (passive) see that it is there; what waits in it, and who consumes it.

        ChannelError if it is not there (passive), or another process has it for itself; but a
        worker's mailbox is another one then, and counts a consumer: Celery warns of that.
        """
        if passive:
            found = self._find_queue(queue)
            if found is None:
                raise refusal(NOT_FOUND, f"no queue {queue!r}")
            return queue_declare_ok_t(queue, *self._count(queue, found))
        queue = asked = queue or f"pgjobs.gen-{uuid4()}"
        is_own_mailbox = is_mailbox(queue, self.node.worker_name)
        if is_own_mailbox:
            exclusive = exclusive or (auto_delete and not durable)
            queue = self.node.mailboxes.name(queue)
        arguments = arguments or {}
        for name in IGNORED.keys() & arguments.keys():
            _warn_ignored(queue, name)
        if exclusive and "x-expires" not in arguments:
            self.node.start()  # the others must see that it lives; a reply queue is not worth that
        options: dict[str, Any] = {
            "durable": durable,
            "auto_delete": auto_delete,
            "exclusive": exclusive,
            "owner": self.node.id if exclusive else None,
            "expires_after": _seconds(arguments.get("x-expires")),
            "message_ttl": _seconds(arguments.get("x-message-ttl")),
            "arguments": arguments,
        }
        try:
            holder = self._declare_queue(queue, **options)
        except ResourceLocked:
            if not is_own_mailbox:
                raise
            queue = self.node.mailboxes.rename(queue, self.node.id)
            holder = self._declare_queue(queue, **options)
        if holder.is_exclusive:
            self.transport.own_queues.add(queue)
        if auto_delete or exclusive:
            self.own_queues.add(queue)
        if auto_delete or exclusive or "x-expires" in arguments:
            self.passing_queues.add(queue)
        if queue != asked:
            return queue_declare_ok_t(asked, 0, 1)
        return DeclaredQueue.of(queue, lambda: self._count(queue, self._find_queue(queue)))

    def _count(self, queue: str, found: FoundQueue | None) -> tuple[int, int]:
        """How many messages a consumer of the queue would get, and how many consumers it has."""
        consumers = (found.consumers if found else 0) + (queue in self.node.uses)
        return self.database.jobs.count_ready(queue), consumers

    def _declare_queue(self, queue: str, *, exclusive: bool, **options: Any) -> QueueOwner:
        """Declare it; ChannelError if another process has it for itself, and lives."""
        self._forget_on_rollback()
        deadline = time.monotonic() + self.node.settings.lease / 3 + DECLARE_INTERVAL
        while True:
            holder = self.database.routes.declare_queue(queue, exclusive=exclusive, **options)
            if not holder.is_exclusive or holder.owner == self.node.id:
                return holder
            if not exclusive or time.monotonic() > deadline:
                raise _locked(queue)
            time.sleep(DECLARE_INTERVAL)

    def queue_bind(self, queue: str, exchange: str = "", routing_key: str = "", **_: Any) -> None:
        """Route what comes to the exchange with the key to the queue.

        ChannelError if the exchange does not exist.
        """
        if not exchange:
            return
        queue = self.node.mailboxes.name(queue)
        self._forget_on_rollback()
        bind = self.database.routes.bind_queue
        if bind(exchange, routing_key or "", queue):
            return
        if exchange not in PREDECLARED:
            raise refusal(NOT_FOUND, f"no exchange {exchange!r} to bind queue {queue!r} to")
        self.exchange_declare(exchange, PREDECLARED[exchange], durable=True)
        bind(exchange, routing_key or "", queue)

    def _forget_on_rollback(self) -> None:
        """kombu declares once, and would remember what a transaction of ours has taken back."""
        if (client := self.transport.client) is not None:
            self.database.on_rollback(client.declared_entities.clear)

    def queue_unbind(self, queue: str, exchange: str = "", routing_key: str = "", **_: Any) -> None:
        """Take a binding away."""
        queue = self.node.mailboxes.name(queue)
        self.database.routes.unbind_queue(exchange, routing_key or "", queue)

    def queue_purge(self, queue: str, **_: Any) -> int:
        """Empty a queue of unclaimed jobs and messages; how many. Its jobs are cancelled."""
        return self._empty(queue, begin_action("purge_queue", via=CONTROL, queue=queue))

    def _empty(self, queue: str, action: Action | None) -> int:
        jobs = self.database.jobs.purge_jobs(queue, action)
        return jobs + self.database.messages.purge_messages(queue)

    def queue_delete(
        self, queue: str, if_unused: bool = False, if_empty: bool = False, **_: Any
    ) -> int:
        """Take a queue away, with all that waits in it; how much that was."""
        queue = self.node.mailboxes.name(queue)
        found = self._find_queue(queue)
        jobs = self.database.jobs
        if if_empty and (jobs.count_ready(queue) or jobs.has_due_job(queue)):
            raise refusal(PRECONDITION_FAILED, f"queue {queue!r} is not empty")
        if if_unused and (queue in self.node.uses or (found and found.consumers)):
            raise refusal(PRECONDITION_FAILED, f"queue {queue!r} is in use")
        is_passing = queue in self.own_queues or queue in self.passing_queues
        action = None if is_passing else begin_action("delete_queue", via=CONTROL, queue=queue)
        purged = self._empty(queue, action)
        self.database.routes.delete_queue(queue)
        for names in (self.own_queues, self.passing_queues):
            names.discard(queue)
        self.transport.own_queues.discard(queue)
        return purged

    def _find_queue(self, queue: str) -> FoundQueue | None:
        """The queue, if it was declared; ChannelError where another process has it for itself."""
        found = self.database.routes.find_queue(queue, self.node.id)
        if found and found.is_locked:
            raise _locked(queue)
        return found

    def after_reply_message_received(self, queue: str) -> None:
        """A reply queue has served its purpose."""
        self.queue_delete(queue)

    def list_bindings(self) -> list[tuple[str, str, str]]:
        """Every binding: queue, exchange, routing key; as kombu's virtual channels have it."""
        return self.database.routes.list_bindings()

    #: The same, as kombu's own interface for channels calls it.
    get_bindings = list_bindings

    def prepare_queue_arguments(self, arguments: Mapping[str, Any], **kwargs: Any) -> Any:
        """kombu's queue options as AMQP's arguments."""
        return to_rabbitmq_queue_arguments(arguments, **kwargs)


def refusal(code: int, text: str) -> ChannelError:
    """The error that RabbitMQ answers with; kombu's transport for it raises the same ones."""
    kind = {
        NOT_FOUND: NotFound,
        RESOURCE_LOCKED: ResourceLocked,
        PRECONDITION_FAILED: PreconditionFailed,
    }.get(code, ChannelError)
    return kind(f"{code} {text}", reply_code=code)


@cache
def _warn_ignored(queue: str, name: str) -> None:
    """Once: every connection declares its queues."""
    logger.warning("queue %r: %s is not used here: %s", queue, name, IGNORED[name])


def _locked(queue: str) -> ChannelError:
    return refusal(RESOURCE_LOCKED, f"queue {queue!r} is exclusive, and another process has it")


def _seconds(milliseconds: Any) -> float | None:
    return None if milliseconds is None else float(milliseconds) / 1000

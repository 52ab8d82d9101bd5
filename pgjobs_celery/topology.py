"""Exchanges, queues and bindings as kombu's channels declare them; shared between processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from amqp.exceptions import NotFound
from amqp.protocol import queue_declare_ok_t
from kombu.exceptions import ChannelError
from kombu.transport.base import StdChannel, to_rabbitmq_queue_arguments

from .node import get_node

if TYPE_CHECKING:
    from .transport import Transport

#: AMQP's reply codes.
NOT_FOUND, PRECONDITION_FAILED, NOT_IMPLEMENTED = 404, 406, 540


class Topology(StdChannel):  # type: ignore[misc]
    """The part of a channel that declares."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.database = transport.database
        self.options = transport.options
        self.node = get_node(self.database)
        #: What goes away with this channel.
        self.own_queues: set[str] = set()
        #: What is taken away when it is not used for a while.
        self.passing_queues: set[str] = set()

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
            found = self.database.routes.find_exchange(exchange)
            if found is None:
                raise ChannelError(f"{NOT_FOUND} no exchange {exchange!r}")
            return
        offered = self.transport.implements.exchange_type
        if type not in offered:
            raise ChannelError(
                f"{NOT_IMPLEMENTED} exchange {exchange!r} cannot be of type {type}: "
                f"use {', '.join(sorted(offered))}"
            )
        found = self.database.routes.declare_exchange(
            exchange, type, durable, auto_delete, arguments or {}
        )
        if found != type:
            raise ChannelError(
                f"{PRECONDITION_FAILED} exchange {exchange!r} is there, and of type {found}, "
                f"not {type}: give this one another name, or delete the old one"
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
        """Make a queue, or (passive) count what a consumer of it would get, and who consumes it.

        A consumer is a live process: a worker, or whoever else claims. NotFound, a ChannelError, if
        there is no such queue (passive). Where it is not passive nothing is counted.
        """
        if passive:
            consumers = self.database.routes.find_queue(queue)
            if consumers is None:
                raise NotFound(f"NOT_FOUND - no queue {queue!r}")
            return queue_declare_ok_t(queue, self.database.jobs.count_ready(queue), consumers)
        queue = queue or f"pgjobs.gen-{uuid4()}"
        arguments = arguments or {}
        self.database.routes.declare_queue(
            queue,
            durable=durable,
            auto_delete=auto_delete,
            exclusive=exclusive,
            owner=self.node.id if auto_delete or exclusive else None,
            expires_after=_seconds(arguments.get("x-expires")),
            message_ttl=_seconds(arguments.get("x-message-ttl")),
            arguments=arguments,
        )
        if auto_delete or exclusive:
            self.own_queues.add(queue)
        if auto_delete or exclusive or "x-expires" in arguments:
            self.passing_queues.add(queue)
        return queue_declare_ok_t(queue, 0, 0)

    def queue_bind(self, queue: str, exchange: str = "", routing_key: str = "", **_: Any) -> None:
        """Route what comes to the exchange with the key to the queue."""
        if exchange:
            self.database.routes.bind_queue(exchange, routing_key or "", queue)

    def queue_unbind(self, queue: str, exchange: str = "", routing_key: str = "", **_: Any) -> None:
        """Take a binding away."""
        self.database.routes.unbind_queue(exchange, routing_key or "", queue)

    def queue_purge(self, queue: str, **_: Any) -> int:
        """Empty a queue of what nobody has claimed; how much that was. Its jobs are cancelled."""
        return self.database.jobs.purge_jobs(queue) + self.database.messages.purge_messages(queue)

    def queue_delete(
        self, queue: str, if_unused: bool = False, if_empty: bool = False, **_: Any
    ) -> int:
        """Take a queue away, with all that waits in it; how much that was."""
        jobs = self.database.jobs
        if if_empty and (jobs.count_ready(queue) or jobs.has_due_job(queue)):
            raise ChannelError(f"{PRECONDITION_FAILED} queue {queue!r} is not empty")
        if if_unused and queue in self.queues:
            raise ChannelError(f"{PRECONDITION_FAILED} queue {queue!r} is in use")
        purged = self.queue_purge(queue)
        self.database.routes.delete_queue(queue)
        self.own_queues.discard(queue)
        return purged

    def after_reply_message_received(self, queue: str) -> None:
        """A reply queue has served its purpose."""
        self.queue_delete(queue)

    def get_bindings(self) -> list[tuple[str, str, str]]:
        """Every binding: queue, exchange, routing key."""
        return self.database.routes.list_bindings()

    def prepare_queue_arguments(self, arguments: Mapping[str, Any], **kwargs: Any) -> Any:
        """kombu's queue options as AMQP's arguments."""
        return to_rabbitmq_queue_arguments(arguments, **kwargs)

    @property
    def queues(self) -> list[str]:
        """The queues that have a consumer on this channel."""
        return []


def _seconds(milliseconds: Any) -> float | None:
    return None if milliseconds is None else float(milliseconds) / 1000

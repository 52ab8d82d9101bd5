"""A transport for kombu that hands published messages to a function, without a server.

Exchanges, queues and bindings are kombu's own virtual ones, so that a message is routed as on
Redis. Messages cannot be consumed: a program that waits for a reply waits in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from queue import Empty
from typing import Any, Protocol

from kombu import Connection
from kombu.pools import ProducerPool
from kombu.transport import virtual

#: The transport option that holds the function.
RECEIVE = "receive"


class Receive(Protocol):
    """The callback for each message: with the message, its queues, exchange and routing key."""

    def __call__(
        self, message: Mapping[str, Any], queues: list[str], exchange: str, routing_key: str
    ) -> None: ...


class Channel(virtual.Channel):
    """A channel that stores nothing."""

    do_restore = False
    supports_fanout = True

    def basic_publish(
        self, message: Mapping[str, Any], exchange: str = "", routing_key: str = "", **_: Any
    ) -> None:
        """Hand the message over; one call, however many queues get it."""
        receive: Receive = self.connection.client.transport_options[RECEIVE]
        queues = self._lookup(exchange, routing_key)
        receive(message, sorted(queues), exchange, routing_key)

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return True

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        raise Empty

    def _size(self, queue: str) -> int:
        return 0

    def _purge(self, queue: str) -> int:
        return 0

    def _delete(self, queue: str, *args: Any, **_: Any) -> None:
        pass

    def _queue_bind(self, *args: Any) -> None:
        pass


class Transport(virtual.Transport):
    """The transport; its connections share what is declared over any of them."""

    Channel = Channel
    driver_type = driver_name = "pgjobs-testing"
    # No error counts as the connection's: an exception of a task that runs here must not.
    connection_errors = recoverable_connection_errors = ()
    channel_errors = recoverable_channel_errors = ()
    implements = virtual.Transport.implements.extend(
        exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self.state = client.transport_options["state"]

    def driver_version(self) -> str:
        """The version of no driver."""
        return "N/A"

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """A URI without a server."""
        return "pgjobs-testing://"


def make_pool(receive: Callable[..., None]) -> ProducerPool:
    """A pool of producers whose messages go to ``receive``.

    It has no limit: a task that is run where it is published publishes in its turn, and must not
    wait for a producer that its caller holds.
    """
    options = {RECEIVE: receive, "state": virtual.BrokerState()}
    connections = Connection(transport=Transport, transport_options=options).Pool(limit=None)
    return ProducerPool(connections, limit=None)

"""A kombu transport that costs next to nothing: the ceiling of what Celery itself can do.

Messages come from a generator in the worker's own process, acknowledgements change a set, and what
is published goes nowhere. So the drain of a worker on it measures Celery's consumer, its pool and
its tracer. kombu's virtual layer, which most transports stand on, is not in it either.

What one process has published reaches the next in a file, ``published`` in BENCH_HITS: the last
message and how many there were. The worker makes as many of it, with their own ids and arguments.
"""

import atexit
import contextlib
import json
import os
import select
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from amqp.protocol import queue_declare_ok_t
from kombu.message import Message
from kombu.transport import base

#: How many messages are handed out before the event loop has its turn.
TURN = 50


def published_file(folder: str) -> Path:
    return Path(folder) / "published"


def settled_file(folder: str) -> Path:
    return Path(folder) / "settled"


class Published:
    """What this process has published to the queue of the run; written down when it ends."""

    def __init__(self) -> None:
        self.count = 0
        self.last: dict[str, Any] = {}

    def add(self, message: dict[str, Any]) -> None:
        if not self.count:
            atexit.register(self.write)
        self.count += 1
        self.last = message

    def write(self) -> None:
        path = published_file(os.environ["BENCH_HITS"])
        path.write_text(json.dumps({**self.last, "count": self.count}))


_published = Published()


def messages(channel: Any, folder: str) -> Iterator[Message]:
    """As many messages as were published, each with an id and an argument of its own."""
    path = published_file(folder)
    if not path.exists():
        return
    sent = json.loads(path.read_text())
    _, _, rest = sent["body"].partition("]")
    for index in range(sent["count"]):
        id = str(uuid4())
        yield Message(
            body=f"[[{index}]{rest}",
            delivery_tag=index + 1,
            content_type=sent["content_type"],
            content_encoding=sent["content_encoding"],
            delivery_info={"exchange": "", "routing_key": channel.queue},
            properties={**sent["properties"], "correlation_id": id},
            headers={**sent["headers"], "id": id, "root_id": id},
            channel=channel,
        )


class Channel(base.StdChannel):  # type: ignore[misc]
    """Hands out generated messages within the prefetch window; all else is agreed to."""

    _ids = count(1)

    def __init__(self, transport: "Transport") -> None:
        self.connection: Transport | None = transport
        self.channel_id = next(self._ids)
        self.queue = os.environ.get("BENCH_QUEUE", "")
        self._transport = transport
        self._consumers: dict[str, tuple[str, Callable[[Message], Any]]] = {}
        self._window = 0
        self._held: set[int] = set()
        self._waits = False
        self._source: Iterator[Message] = iter(())
        self._is_finished = False

    # Consume

    def basic_consume(
        self,
        queue: str,
        no_ack: bool = False,
        callback: Any = None,
        consumer_tag: str = "",
        **_: Any,
    ) -> str:
        self._consumers[consumer_tag] = (queue, callback)
        if queue == self.queue:
            self._source = messages(self, os.environ["BENCH_HITS"])
            self._transport.ring()
        return consumer_tag

    def basic_cancel(self, consumer_tag: str, **_: Any) -> None:
        self._consumers.pop(consumer_tag, None)

    def basic_qos(
        self, prefetch_size: int = 0, prefetch_count: int = 0, *_: Any, **__: Any
    ) -> None:
        self._window = prefetch_count
        self._transport.ring()

    @property
    def is_full(self) -> bool:
        return bool(self._window) and len(self._held) >= self._window

    def deliver(self) -> bool:
        """Hand out what the window takes; True if there may be more at once."""
        callback = next(
            (each for name, each in self._consumers.values() if name == self.queue), None
        )
        if callback is None or self._is_finished:
            return False
        for _ in range(TURN):
            self._waits = True  # from here on an acknowledgement rings
            if self.is_full:
                return False
            self._waits = False
            message = next(self._source, None)
            if message is None:
                self._finish()
                return False
            self._held.add(message.delivery_tag)
            callback(message)
        return True

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        self._held.discard(delivery_tag)
        if self._waits:
            self._waits = False
            self._transport.ring()

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        self.basic_ack(delivery_tag)

    def _finish(self) -> None:
        """Say so once all are acknowledged; until then an acknowledgement comes back here."""
        self._waits = True
        if not self._held and not self._is_finished:
            self._is_finished = True
            settled_file(os.environ["BENCH_HITS"]).touch()

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> None:
        return None

    # Publish

    def prepare_message(
        self, body: Any, priority: Any = 0, content_type: Any = None, content_encoding: Any = None,
        headers: Any = None, properties: Any = None, **_: Any,
    ) -> dict[str, Any]:  # fmt: skip
        return {
            "body": body, "content_type": content_type, "content_encoding": content_encoding,
            "headers": headers, "properties": properties,
        }  # fmt: skip

    def basic_publish(
        self, message: dict[str, Any], exchange: str, routing_key: str, **_: Any
    ) -> None:
        if routing_key == self.queue:
            _published.add(message)

    # Declare

    def queue_declare(self, queue: str = "", *_: Any, **__: Any) -> queue_declare_ok_t:
        return queue_declare_ok_t(queue, 0, 0)

    def agree(self, *_: Any, **__: Any) -> None:
        return None

    exchange_declare = exchange_delete = exchange_bind = exchange_unbind = agree
    queue_bind = queue_unbind = queue_purge = queue_delete = flow = basic_recover = agree

    def close(self) -> None:
        self.connection = None
        self._consumers.clear()
        if self in self._transport.channels:
            self._transport.channels.remove(self)


class Transport(base.Transport):  # type: ignore[misc]
    """Its own connection. A pipe wakes the event loop when there is something to hand out."""

    driver_type = driver_name = "free"
    default_connection_params: dict[str, Any] = {}
    implements = base.Transport.implements.extend(asynchronous=True)

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self.channels: list[Channel] = []
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def establish_connection(self) -> "Transport":
        return self

    def close_connection(self, connection: Any) -> None:
        for channel in list(self.channels):
            channel.close()

    def create_channel(self, connection: Any) -> Channel:
        channel = Channel(self)
        self.channels.append(channel)
        return channel

    def close_channel(self, channel: Channel) -> None:
        channel.close()

    def ring(self) -> None:
        """Have the loop deliver; from any thread."""
        with contextlib.suppress(BlockingIOError):  # full of what the loop has not read yet
            os.write(self._writer, b"x")

    def turn(self) -> bool:
        """Hand out what the windows take; True if there may be more."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)
        had_more = [channel.deliver() for channel in list(self.channels)]
        return any(had_more)

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        loop.add_reader(self._reader, self._on_readable)
        self.ring()

    def _on_readable(self) -> None:
        if self.turn():
            self.ring()

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:
        if self.turn():
            return
        readable = select.select([self._reader], [], [], timeout)[0]
        if not readable:
            raise TimeoutError

"""Fewer turns of a worker's event loop, and fewer system calls, for each task of a prefork pool.

Celery's pool reads one message of a child in a turn of the loop, in two parts, and a child sends
two for each task. Before it sends a task it has the loop tell it which pipes can be written, all
of which are entered for that, and removed again, one system call each: in each turn.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from select import PIPE_BUF
from struct import unpack_from
from typing import Any

from celery.concurrency.asynpool import SCHED_STRATEGY_FAIR

#: How many bytes are read at once: what a pipe holds.
CHUNK = 65536
#: The length that comes before each message, in bytes.
LENGTH = 4
#: What Celery has left to write when the first write has taken all.
NOTHING = memoryview(b"")


class PipeIO:
    """How a prefork pool reads the pipes of its children, and writes to them."""

    def __init__(self, pool: Any, hub: Any) -> None:
        self._pool = pool
        self._hub = hub
        #: With ``-O fast`` a child may be sent the next task while it runs one.
        self._is_fair = pool.sched_strategy == SCHED_STRATEGY_FAIR
        self._results = pool._result_handler
        self._results._recv_message = self._receive
        self._create_write_handlers = pool._create_write_handlers
        pool._create_write_handlers = self._create_writers
        #: Celery's of the last event loop.
        self._put: Callable[[Any], None]
        self._ask_for_pipes: Callable[[], None]

    def _create_writers(self, hub: Any) -> None:
        # Anew with each connection, and so with each event loop.
        self._create_write_handlers(hub)
        self._hub, pool = hub, self._pool
        self._put, pool._quick_put = pool._quick_put, self._put_whole
        if self._is_fair:
            self._ask_for_pipes, pool.on_poll_start = pool.on_poll_start, self._send

    def _put_whole(self, message: Any) -> None:
        """Celery's ``put`` of a task, whose length and body are written together if they are small.

        A pipe takes so much at once or not at all, and so Celery may go on to take a task of which
        nothing was written for one that another child can have. One system call less for each task,
        and the child wakes once.
        """
        self._put(message)
        result = self._pool._cache[message[1][0]]
        length, body, size = result._payload
        if len(length) + size <= PIPE_BUF:
            result._payload = memoryview(b"".join((length, body))), NOTHING, 0
        if self._is_fair:
            self._send()

    def _send(self) -> None:
        """Send waiting tasks to children that run nothing: when they come, and in each turn.

        Such a child has read all that it was sent: its pipe is empty, and need not be asked for
        whether it can be written. If it cannot after all, Celery goes on when it can.
        """
        pool, hub = self._pool, self._hub
        if pool.outbound_buffer:
            idle = pool._all_inqueues - pool._busy_workers - pool._active_writes
            if idle:
                hub.consolidate_callback(list(idle))
        is_left = pool.outbound_buffer and len(pool._busy_workers) < len(pool._all_inqueues)
        if is_left or hub.consolidate:
            self._ask_for_pipes()

    def _receive(
        self,
        add_reader: Callable[..., None],
        fd: int,
        callback: Callable[[Any], None],
        begun: bytes = b"",
    ) -> Iterator[None]:
        """Celery's reader of a message, for all that have come; resumed when one was not whole."""
        is_resumed = bool(begun)
        parts, missing = [begun], lacking(begun)
        while missing > 0:
            try:
                part = os.read(fd, CHUNK)
            except BlockingIOError:
                if not any(parts):
                    return
                is_resumed = True
                yield
                continue
            if not part:
                raise OSError("End of file during message") if any(parts) else EOFError
            parts.append(part)
            missing -= len(part)
            if missing <= 0:
                parts = [b"".join(parts)]
                missing = lacking(parts[0])
        messages, rest = split(parts[0])
        # First, for to hear a message may lead to here again.
        if rest:
            add_reader(fd, self._receive(add_reader, fd, callback, rest))
        elif is_resumed:
            add_reader(fd, self._results.handle_event, fd)
        tell(messages, callback)


def lacking(begun: bytes) -> int:
    """How many bytes are missing from a message, as far as its beginning tells."""
    if len(begun) < LENGTH:
        return LENGTH - len(begun)
    size: int = unpack_from(">i", begun)[0]
    return max(0, LENGTH + size - len(begun))


def split(data: bytes) -> tuple[list[Any], bytes]:
    """The whole messages of a pipe's bytes, and the beginning of the next."""
    messages = []
    while not lacking(data):
        (size,) = unpack_from(">i", data)
        messages.append(pickle.loads(memoryview(data)[LENGTH : LENGTH + size]))
        data = data[LENGTH + size :]
    return messages, data


def tell(messages: Sequence[Any], callback: Callable[[Any], None]) -> None:
    """Call back with each message, with those as well that come after one that raises."""
    for index, message in enumerate(messages, 1):
        try:
            if message:
                callback(message)
        except BaseException:
            tell(messages[index:], callback)
            raise

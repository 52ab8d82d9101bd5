"""Live updates by server-sent events: one look for all visitors, one stream for each.

An event names what may have changed, at most once a second; the script of the page then fetches
what it shows of that. A visitor who reads slowly gets the same names later, once.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from ..control.changes import ALL
from ..scopes.steady import monotonic
from .routes import POLLS
from .watch import Watch, server_is_stopping

if TYPE_CHECKING:
    from ..db.database import Database

#: How many visitors of a process have a stream; the pages of the others ask by themselves.
MOST_STREAMS = 1000
#: Seconds between two signs of life, after which a stream ends and the browser opens another one,
#: whose rights are checked anew, and after which it is told to (milliseconds).
PING, LIFETIME, RETRY = 15.0, 300.0, 2000
#: For how many seconds the database is watched after the last visitor has gone: to another page.
LINGER = 5.0
#: The part of one processor's time that fetching what has changed may take, for all visitors
#: together, and the longest time between two events that follows from it, in seconds.
SHARE, SLOWEST = 0.02, 30.0

Message = MutableMapping[str, Any]


class Live:
    """The visitors who watch one database. Thread-safe; begins with the first visitor."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._streams: set[Stream] = set()
        self._pid = os.getpid()
        self._left_at = 0.0
        self._watch: Watch | None = None
        #: When the database was lost; None while it answers.
        self._lost: datetime | None = None
        #: How long a visitor's fetch takes, in seconds.
        self._cost = 0.0

    def respond(self) -> EventStream:
        """A visitor's stream, as a response: an ASGI application."""
        return EventStream(self)

    def spent(self, seconds: float) -> None:
        """So long the server has worked at what a visitor fetched after an event."""
        self._cost = seconds if not self._cost else 0.8 * self._cost + 0.2 * seconds

    @property
    def visitors(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    @property
    def pace(self) -> float:
        """The seconds between two events of a stream: 1, and more where that is dear for all."""
        return min(SLOWEST, max(1.0, len(self._streams) * self._cost / SHARE))

    def join(self) -> Stream | None:
        """A stream for another visitor; None where there are too many, or the server ends."""
        with self._lock:
            if os.getpid() != self._pid:  # a fork of the process that had them
                self._streams, self._pid = set(), os.getpid()
            if len(self._streams) >= MOST_STREAMS or server_is_stopping():
                return None
            stream = Stream(self)
            if self._lost is not None:
                stream.lose(self._lost)
            self._streams.add(stream)
            if self._watch is None or not self._watch.is_alive:
                self._lost = None
                self._watch = Watch(self._database, self._tell, self._lose, self._goes_on)
                self._watch.start()
            elif self._watch.has_looked:
                # Between its page and now something may have been told to the others.
                stream.tell(ALL)
            return stream

    def leave(self, stream: Stream) -> None:
        """A visitor has gone."""
        with self._lock:
            self._streams.discard(stream)
            self._left_at = monotonic()

    def close(self) -> None:
        """End all streams, and stop to watch. The next visitor begins anew."""
        self._end_streams()
        with self._lock:
            watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop(None)

    # Called by the thread that watches

    def _tell(self, topics: Iterable[str]) -> None:
        for stream in self._all():
            stream.tell(topics)

    def _lose(self, since: datetime | None) -> None:
        self._lost = since
        for stream in self._all():
            stream.lose(since)

    def _goes_on(self) -> bool:
        if server_is_stopping():
            self._end_streams()
            return False
        with self._lock:
            if self._streams or monotonic() < self._left_at + LINGER:
                return True
            self._watch = None  # under the lock: who joins from now on starts another
            return False

    def _end_streams(self) -> None:
        for stream in self._all():
            stream.close()

    def _all(self) -> list[Stream]:
        with self._lock:
            return list(self._streams)


class Stream:
    """The news for one visitor. Belongs to the event loop that it is made in."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._lock = threading.Lock()
        self._pending: set[str] = set()
        self._lost: datetime | None = None
        self._is_closed = False

    def tell(self, topics: Iterable[str]) -> None:
        """These may have changed; from any thread."""
        with self._lock:
            is_known = bool(self._pending)
            self._pending.update(topics)
        if not is_known:
            self._wake()

    def lose(self, since: datetime | None) -> None:
        """The database has not answered since then; None: it does. From any thread."""
        self._lost = since
        self._wake()

    def close(self) -> None:
        """Let it end; from any thread."""
        self._is_closed = True
        self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # its loop has been closed
            self._loop.call_soon_threadsafe(self._news.set)

    async def events(self) -> AsyncIterator[bytes]:
        """The events as they come, encoded, until it is closed."""
        yield f"retry: {RETRY}\n\n".encode()
        told_lost: datetime | None = None
        next_at = 0.0
        while not self._is_closed:
            self._news.clear()
            if told_lost != self._lost:
                told_lost = self._lost
                if told_lost is None:
                    yield encode("back")
                else:
                    yield encode("lost", since=told_lost.isoformat())
                continue
            wait = next_at - monotonic() if self._pending else PING
            if wait > 0:
                if not await self._sleep(wait) and not self._pending:
                    yield b": still here\n\n"
                continue
            with self._lock:
                topics, self._pending = self._pending, set()
            pace = self._live.pace
            # Not all of them at the same moment, again and again.
            next_at = monotonic() + pace * (1.0 + random.random() / 4)
            yield encode("change", topics=sorted(topics), pace=round(pace, 2))

    async def _sleep(self, seconds: float) -> bool:
        """True if there is news before so many seconds have passed."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True


class EventStream(Response):
    """The response with a visitor's events. It ends when he goes, the server does, or in time."""

    media_type = "text/event-stream"

    def __init__(self, live: Live) -> None:
        self._live = live
        self.status_code = 200
        # Without a length. nginx would keep the events.
        self.raw_headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"x-accel-buffering", b"no"),
        ]

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        is_polled = "wsgi_environ" in scope or scope.get(POLLS)
        stream = None if is_polled else self._live.join()
        if stream is None:
            # By WSGI nothing can be sent as it comes. The browser does not ask again after this.
            await Response(status_code=204)(scope, receive, send)
            return
        tasks = [
            asyncio.ensure_future(self._send(stream, send)),
            asyncio.ensure_future(_wait_until_gone(receive)),
        ]
        try:
            done, _ = await asyncio.wait(
                tasks, timeout=LIFETIME, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                stream.close()
                await asyncio.wait(tasks, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._live.leave(stream)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        if isinstance(error := results[0], Exception) and not isinstance(error, OSError):
            raise error

    async def _send(self, stream: Stream, send: Callable[[Message], Awaitable[None]]) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        async for event in stream.events():
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _wait_until_gone(receive: Callable[[], Awaitable[Message]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def encode(event: str, **data: Any) -> bytes:
    """An event as it is sent; ``data`` as JSON."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()

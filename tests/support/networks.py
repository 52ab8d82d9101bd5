"""A TCP port that leads to the server, and loses what passes it in all the ways a network can."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

#: What a connection is for, by what is said over it.
LISTEN, CLAIM, BEAT = b"LISTEN", b"claim_jobs", b"beat_node"
TO_SERVER, TO_CLIENT = "to server", "to client"


class Link:
    """One connection through the network."""

    def __init__(self, client: socket.socket, server: socket.socket | None) -> None:
        self.ends = [client, server] if server else [client]
        self._said = b""
        self._lock = threading.Lock()
        #: What is lost of it from now on.
        self.lost: set[str] = set()

    def is_for(self, what: bytes) -> bool:
        """True if that was said over it by the client."""
        return what in self._said

    def note(self, data: bytes) -> None:
        """The client says this."""
        with self._lock:
            self._said = (self._said + data)[-100_000:]

    def close(self, *, reset: bool = False) -> None:
        """End it: with a goodbye, or with a reset."""
        for end in self.ends:
            with suppress(OSError):
                if reset:
                    # When the threads that read from it have let go of it.
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)

    def let_go(self) -> None:
        """One of its ends is gone: close both."""
        for end in self.ends:
            with suppress(OSError):
                # The other thread still reads from one, which stays open until it does not.
                end.shutdown(socket.SHUT_RD)
            end.close()


class Network:
    """A way to the server; a context manager. What it swallows it acknowledges, as a proxy does."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        query = parse_qs(self._parts.query)
        self._target = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self._links: list[Link] = []
        self._door: socket.socket | None = None
        self._port = 0
        #: Whether what connects from now on hears anything.
        self.answers = True
        #: How long everything is under way, in seconds.
        self.delay = 0.0
        self.open()

    @property
    def url(self) -> str:
        """The server's URL, this way."""
        user = self._parts.username or "postgres"
        return self._parts._replace(netloc=f"{user}@127.0.0.1:{self._port}", query="").geturl()

    def lead_to(self, url: str) -> None:
        """What connects from now on reaches another server, as behind a virtual address."""
        query = parse_qs(urlsplit(url).query)
        self._target = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"

    def links(self, *what: bytes) -> list[Link]:
        """The connections, or those for one of these."""
        return [link for link in self._links if not what or any(map(link.is_for, what))]

    def cut(self, *what: bytes, reset: bool = False) -> None:
        """End connections."""
        for link in self.links(*what):
            self._forget(link)
            link.close(reset=reset)

    def swallow(self, *what: bytes, lost: tuple[str, ...] = (TO_SERVER, TO_CLIENT)) -> list[Link]:
        """Lose what is sent over these connections, for ever, and say nothing; those that are."""
        links = self.links(*what)
        for link in links:
            link.lost.update(lost)
        return links

    def close(self) -> None:
        """Refuse connections."""
        if self._door is not None:
            with suppress(OSError):  # wakes the thread that accepts
                self._door.shutdown(socket.SHUT_RDWR)
            self._door.close()
            self._door = None

    def open(self) -> None:
        """Accept connections, at the same port again."""
        self._door = socket.create_server(("127.0.0.1", self._port), reuse_port=False)
        self._port = self._door.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._door,), daemon=True).start()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.cut()

    def _accept(self, door: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = door.accept()
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.answers:
            link = Link(client, None)
            link.lost.update((TO_SERVER, TO_CLIENT))
            self._links.append(link)
            return
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self._target)
        except OSError:
            server.close()
            client.close()
            return
        link = Link(client, server)
        self._links.append(link)
        for source, sink, direction, note in (
            (client, server, TO_SERVER, link.note),
            (server, client, TO_CLIENT, lambda data: None),
        ):
            threading.Thread(
                target=self._pump, args=(link, source, sink, direction, note), daemon=True
            ).start()

    def _pump(
        self,
        link: Link,
        source: socket.socket,
        sink: socket.socket,
        direction: str,
        note: Callable[[bytes], None],
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                note(data)
                if self.delay:
                    time.sleep(self.delay)
                if direction not in link.lost:
                    sink.sendall(data)
        if direction in link.lost:
            return  # the other end does not hear of the end either
        link.let_go()
        self._forget(link)

    def _forget(self, link: Link) -> None:
        with suppress(ValueError):
            self._links.remove(link)

"""Stand between a client and the server's socket, and cut the connection when it hurts most."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

#: What ends a question, Sync, and its answer, ReadyForQuery, in a transaction or not.
SYNC = b"S\x00\x00\x00\x04"
READY = b"Z\x00\x00\x00\x05"


class Proxy:
    """A socket that leads to the server's; a context manager."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        port = query["port"][0]
        self._target = f"{query['host'][0]}/.s.PGSQL.{port}"
        self._folder = Path(tempfile.mkdtemp(prefix="pgjobs-proxy-", dir="/tmp"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / f".s.PGSQL.{port}"))
        self._listener.listen()
        self._pending = b""
        self._lost = b""
        self._keeps_server = False
        self._kept: list[socket.socket] = []
        #: How many answers were cut off.
        self.cuts = 0
        self.url = parts._replace(
            query=f"host={quote(str(self._folder))}&port={port}"
        ).geturl()  # fmt: skip
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_answer(self, statement: str) -> None:
        """The next time this statement runs, its answer is lost and the connection with it."""
        self._pending = statement.encode()

    def cut_question(self, statement: str, *, keeps_server: bool = False) -> None:
        """The next time this statement is sent, it is lost and the connection with it.

        ``keeps_server``: the server does not hear that its client has gone.
        """
        self._keeps_server, self._lost = keeps_server, statement.encode()

    def __enter__(self) -> Proxy:
        return self

    def let_go(self) -> None:
        """The server hears of the clients that have gone."""
        for server in self._kept:
            _end(server)

    def __exit__(self, *_: object) -> None:
        self.let_go()
        self._listener.close()
        shutil.rmtree(self._folder)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(self._target)
                except OSError:  # it is down just now
                    client.close()
                    continue
                swallowed = [0]  # how many answers to wait for and keep; 0 for none
                for pump in (self._to_server, self._to_client):
                    threading.Thread(
                        target=pump, args=(client, server, swallowed), daemon=True
                    ).start()

    def _to_server(
        self, client: socket.socket, server: socket.socket, swallowed: list[int]
    ) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self._lost and self._lost in data:
                    self._lost = b""
                    self.cuts += 1
                    if self._keeps_server:
                        self._kept.append(server)
                        _end(client)
                        return
                    break
                if self._pending and self._pending in data:
                    self._pending = b""
                    swallowed[0] = data.count(SYNC) or 1  # a simple query has none
                server.sendall(data)
        _end(server)

    def _to_client(
        self, client: socket.socket, server: socket.socket, swallowed: list[int]
    ) -> None:
        answer = b""
        with suppress(OSError):
            while data := server.recv(65536):
                if server in self._kept:
                    continue
                if not swallowed[0]:
                    client.sendall(data)
                    continue
                answer += data
                if answer.count(READY) >= swallowed[0]:
                    self.cuts += 1
                    break
        _end(client)
        if server not in self._kept:
            _end(server)


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)

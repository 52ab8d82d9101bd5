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
#: A question that ends without a Sync.
SIMPLE = b"Q"


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
                talk = Talk()
                for pump in (self._to_server, self._to_client):
                    threading.Thread(target=pump, args=(client, server, talk), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, talk: Talk) -> None:
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
                talk.ask(data)
                if self._pending and self._pending in data:
                    self._pending = b""
                    talk.swallow()
                server.sendall(data)
        _end(server)

    def _to_client(self, client: socket.socket, server: socket.socket, talk: Talk) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if server in self._kept:
                    continue
                if not talk.is_swallowed:
                    talk.answer(data)
                    client.sendall(data)
                elif talk.answer(data):
                    self.cuts += 1
                    break
        _end(client)
        if server not in self._kept:
            _end(server)


class Talk:
    """The questions and the answers of one connection, which come in pieces of any length."""

    def __init__(self) -> None:
        #: From some question on the answers are kept.
        self.is_swallowed = False
        #: The greeting is answered, too.
        self._asked = 1
        self._answered = 0
        #: How many answers there are with those that are kept.
        self._wanted = 0
        #: All that was asked has come to its end.
        self._is_whole = True
        self._question = self._answer = b""

    def ask(self, data: bytes) -> None:
        """This goes to the server."""
        self._question += data
        is_simple = data.startswith(SIMPLE)
        self._asked += self._question.count(SYNC) + is_simple
        self._is_whole = self._question.endswith(SYNC) or is_simple
        self._question = self._question[-4:]
        if self.is_swallowed:
            self._wanted = max(self._wanted, self._asked)

    def swallow(self) -> None:
        """Keep the answers from now on, up to that of the question which has begun to come."""
        self._wanted = self._asked + (not self._is_whole)
        self.is_swallowed = True

    def answer(self, data: bytes) -> bool:
        """This comes from the server; True if the last question is answered with it."""
        self._answer += data
        self._answered += self._answer.count(READY)
        self._answer = self._answer[-4:]
        return self.is_swallowed and self._answered >= self._wanted


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)

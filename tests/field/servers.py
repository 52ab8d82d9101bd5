"""A PostgreSQL and a Redis of the harness's own, and a database on each for every run.

Nothing that runs on the machine is touched: the foreign software may flush what it likes.
``PGJOBS_TEST_REDIS_PROGRAM`` names another redis-server than the one on the PATH.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import psycopg

from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.embedded import EmbeddedServer

from .product import Side


class Servers:
    """The servers of one run of the harness."""

    def __init__(self, postgres_port: int, redis_port: int | None) -> None:
        self._postgres_port = postgres_port
        self._redis_port = redis_port
        self._numbers = count(1)

    @property
    def has_redis(self) -> bool:
        """True if there is a Redis to compare with."""
        return self._redis_port is not None

    def make_pgjobs(self) -> Side:
        """A new side: pgjobs as broker and backend."""
        database = self._make_database()
        return Side("pgjobs", database, database, database, self._make_redis())

    def make_redis(self) -> Side | None:
        """A new side: Redis as broker and backend; None where there is none."""
        if not self.has_redis:
            return None
        url = self._make_redis()
        return Side("Redis", url, url, self._make_database(), url)

    def _make_database(self) -> str:
        name = f"field_{next(self._numbers)}"
        with psycopg.connect(parse_url(self._url("postgres")), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = self._url(name)
        with migrations.session(parse_url(url)) as migrated:
            migrations.migrate(migrated, "pgjobs")
        return url

    def _url(self, database: str) -> str:
        # Not by its socket: foreign software takes URLs apart.
        return f"pgjobs://postgres@127.0.0.1:{self._postgres_port}/{database}"

    def _make_redis(self) -> str:
        if self._redis_port is None:
            return ""
        # 0 is left to suites that know no other.
        return f"redis://127.0.0.1:{self._redis_port}/{next(self._numbers)}"


@contextmanager
def running_servers() -> Iterator[Servers]:
    """Both servers, stopped and removed at the end."""
    port = _find_port()
    settings = {"max_connections": 300, "listen_addresses": "127.0.0.1", "port": port}
    with EmbeddedServer(settings=settings), _running_redis() as redis_port:
        yield Servers(port, redis_port)


@contextmanager
def _running_redis() -> Iterator[int | None]:
    program = shutil.which(os.environ.get("PGJOBS_TEST_REDIS_PROGRAM", "redis-server"))
    if program is None:
        yield None
        return
    port = _find_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--databases", "200"]
        command += ["--save", "", "--appendonly", "no", "--dir", folder, "--daemonize", "no"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        try:
            _await_port(process, port)
            yield port
        finally:
            process.terminate()
            process.wait(10)


def _find_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"redis-server did not listen on port {port}")

"""What the harness asks of a broker and result backend."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit, urlunsplit

import psutil  # type: ignore[import-untyped]

from benchmarks.processes import tcp_connections
from benchmarks.workers import Worker


class System:
    """A broker with its result backend, set up as its documentation says."""

    #: The word on the command line and in the tables.
    name: ClassVar[str]
    #: One sentence for the legend under the tables.
    description: ClassVar[str]
    #: Passed to Celery as ``broker_transport_options``.
    transport_options: Mapping[str, Any] = {}
    #: Celery's settings that this system needs besides.
    settings: ClassVar[Mapping[str, Any]] = {}
    #: Whether a process other than the caller can read a result (not so with rpc://).
    results_are_shared: ClassVar[bool] = True

    broker: str = ""
    backend: str
    port: int

    def __init__(self) -> None:
        #: What start() has opened; stop() closes it, the newest first.
        self.opened = contextlib.ExitStack()

    def start(self) -> None:
        """Connect, and prepare what is missing; raises Unavailable with the reason."""
        raise NotImplementedError

    def stop(self) -> None:
        """Leave nothing of this harness behind, after a start() that failed too."""
        self.opened.close()

    def version(self) -> str:
        """Server, release, and the settings that durability hangs on."""
        raise NotImplementedError

    def clean(self, queue: str, reply_to: str = "") -> None:
        """Remove all that a run left: messages, queues, results."""
        raise NotImplementedError

    def settle(self) -> None:
        """Let the server come to rest after a backlog was published."""

    def unsettled(self, queue: str) -> int:
        """How many messages the broker still holds, as far as it can tell."""
        raise NotImplementedError

    def fill(self, rows: int) -> None:
        """Put that many finished and waiting jobs there, with unique keys."""
        raise NotImplementedError

    def rows(self) -> int:
        """How many jobs there are, finished ones included."""
        raise NotImplementedError

    def distinct(self) -> int | None:
        """How many of the jobs have other arguments than the rest; None if it does not say."""
        return None

    def stored_results(self, reply_to: str) -> int:
        """How many results are there."""
        raise NotImplementedError

    def server_processes(self) -> list[psutil.Process]:
        """The server's processes, or none when it runs elsewhere."""
        raise NotImplementedError

    def server_cpu(self) -> float | None:
        """CPU seconds of the server so far; None when it runs elsewhere."""
        raise NotImplementedError

    def commands(self) -> int | None:
        """How many commands or transactions the server has served; None if it does not say."""
        return None

    def most_workers(self) -> int | None:
        """How many workers the server has connections for; None for any number."""
        return None

    def connections(self, worker: Worker) -> int:
        """How many connections the worker holds to the server."""
        return tcp_connections(worker.processes(), self.port)

    def redact(self, text: str) -> str:
        """The text without the broker's password, should a tool have printed its URL."""
        password = urlsplit(self.broker).password
        if not password:
            return text
        return text.replace(password, "***").replace(unquote(password), "***")

    def endpoint(self) -> str:
        """Where the server listens: ``host:port``, or the path of a socket."""
        return f"127.0.0.1:{self.port}"

    def broker_by(self, port: int) -> str:
        """The broker's URL with another port of this machine in place of its own."""
        parts = urlsplit(self.broker)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{port}"))

    def environment(self, queue: str, hits: str, results: bool) -> dict[str, str]:
        """The variables that benchmarks/app.py reads."""
        return {
            "BENCH_BROKER": self.broker,
            "BENCH_BACKEND": self.backend,
            "BENCH_QUEUE": queue,
            "BENCH_RESULTS": "1" if results else "0",
            "BENCH_TRANSPORT_OPTIONS": json.dumps(dict(self.transport_options)),
            "BENCH_SETTINGS": json.dumps(dict(self.settings)),
            "BENCH_HITS": hits,
        }

"""Celery on Redis: the server that runs, and private ones, one for each way to sync the log."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from typing import ClassVar

import psutil  # type: ignore[import-untyped]
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from benchmarks.errors import Unavailable, WrongOutcome
from benchmarks.processes import cpu_seconds, kill_group
from benchmarks.systems.base import System

#: Two databases of the server belong to this harness, which flushes them.
BROKER_DB, RESULT_DB = 9, 10

#: The log of each private server; snapshots off, they only cost.
LOG = ("--appendonly", "yes", "--save", "", "--appendfsync")

#: The key by which the harness knows the databases as its own.
MARK = "pgjobs-benchmarks"


class Redis(System):
    """Broker and results on Redis, as `Using Redis` in Celery's documentation sets them up."""

    name = "redis"
    description = "broker and results on Redis, Celery's defaults"

    def start(self) -> None:
        self.connect(os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1:6379"))

    def connect(self, url: str) -> None:
        """Use this server, unless the two databases hold what is not the harness's."""
        base = url.rstrip("/")
        self.broker, self.backend = f"{base}/{BROKER_DB}", f"{base}/{RESULT_DB}"
        self._broker = self.opened.enter_context(redis.Redis.from_url(self.broker))
        self._results = self.opened.enter_context(redis.Redis.from_url(self.backend))
        self.port = int(self._broker.connection_pool.connection_kwargs.get("port", 6379))
        try:
            is_ours = ask(self._broker, "EXISTS", MARK)
            keys = ask(self._broker, "DBSIZE") + ask(self._results, "DBSIZE")
        except redis.RedisError as error:
            raise Unavailable(f"no Redis: {error}") from error
        if keys and not is_ours:
            raise Unavailable(
                f"databases {BROKER_DB} and {RESULT_DB} of this Redis hold somebody's keys,"
                " and the harness would flush them: empty them or set BENCH_REDIS_URL"
            )
        self.clean("")
        self.opened.callback(ask, self._broker, "DEL", MARK)

    def version(self) -> str:
        info = self._broker.info()
        settings = self._broker.config_get("appendonly", "appendfsync", "save")
        log = f"appendfsync {settings['appendfsync']}"
        log = log if settings["appendonly"] == "yes" else "appendonly no"
        snapshots = "snapshots" if settings["save"] else "no snapshots"
        return f"Redis {info['redis_version']} ({log}, {snapshots})"

    def clean(self, queue: str, reply_to: str = "") -> None:
        ask(self._broker, "FLUSHDB")
        ask(self._results, "FLUSHDB")
        ask(self._broker, "SET", MARK, "1")

    def unsettled(self, queue: str) -> int:
        return ask(self._broker, "LLEN", queue) + ask(self._broker, "HLEN", "unacked")

    def stored_results(self, reply_to: str) -> int:
        return ask(self._results, "DBSIZE")

    def server_processes(self) -> list[psutil.Process]:
        pid = int(self._broker.info("server")["process_id"])
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if any(word in process.name() for word in ("redis", "valkey")):
                return [process]
        return []

    def server_cpu(self) -> float | None:
        processes = self.server_processes()
        return cpu_seconds(processes) if processes else None

    def commands(self) -> int | None:
        return int(self._broker.info("stats")["total_commands_processed"])


class PrivateRedis(Redis):
    """A redis-server of the harness's own, on a free port, with a log on disk."""

    #: Redis's word: ``no``, ``everysec`` or ``always``.
    appendfsync: ClassVar[str]

    def start(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise Unavailable("redis-server is not on PATH")
        folder = self.opened.enter_context(
            tempfile.TemporaryDirectory(prefix="redis-aof-", dir=disk_folder())
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        address = ("--bind", "127.0.0.1", "--port", str(port))
        process = subprocess.Popen(
            [program, *address, "--dir", folder, *LOG, self.appendfsync],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.opened.callback(kill_group, process)
        patient = Retry(ConstantBackoff(0.1), 50)
        with redis.Redis(port=port, retry=patient) as client:
            try:
                ours = client.info("server")["process_id"] == process.pid
            except redis.RedisError as error:
                raise Unavailable(f"the private redis-server did not start: {error}") from error
        if not ours:
            raise WrongOutcome(f"another server took port {port}")
        self.connect(f"redis://127.0.0.1:{port}")


class RedisNo(PrivateRedis):
    """The kernel writes the log when it likes."""

    name = "redis-aof-no"
    description = "the same on a private redis-server with appendonly yes, appendfsync no"
    appendfsync = "no"


class RedisEverysec(PrivateRedis):
    """The log is synced each second: a crash of the machine may lose the last one."""

    name = "redis-aof-everysec"
    description = "the same on a private redis-server with appendonly yes, appendfsync everysec"
    appendfsync = "everysec"


class RedisAlways(PrivateRedis):
    """A write is acknowledged when it is on disk, as PostgreSQL does."""

    name = "redis-aof-always"
    description = "the same on a private redis-server with appendonly yes, appendfsync always"
    appendfsync = "always"


def ask(client: redis.Redis, *command: str) -> int:
    """The answer of a command that answers with a number or with yes."""
    return int(client.execute_command(*command))  # type: ignore[no-untyped-call]


def disk_folder() -> str | None:
    """A temporary folder that is on a disk: /tmp is often memory, where a sync costs nothing."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else None

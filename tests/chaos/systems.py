"""What the workers and producers talk to: a server, one behind pgbouncer, one with a standby."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.db.notify import SLEEPERS, SLOTS, result_channel, work_channel
from pgjobs_celery.embedded import EmbeddedServer

from ..e2e.test_faults import TERMINATE
from ..support.networks import TO_CLIENT, TO_SERVER, Network
from ..support.waiting import wait_for


class System:
    """A PostgreSQL server, and what can be done to it."""

    name = "direct"

    def __init__(self, stack: ExitStack) -> None:
        self._server = stack.enter_context(EmbeddedServer(settings={"max_connections": 200}))
        with migrations.session(parse_url(self._server.url)) as connection:
            migrations.migrate(connection, "pgjobs")
            # As far as PostgreSQL goes without a GRANT.
            connection.execute("CREATE ROLE nobody LOGIN")

    @property
    def url(self) -> str:
        """What the app's settings say."""
        return self._server.url

    @property
    def conf(self) -> dict[str, Any]:
        """What else they say."""
        return {}

    @property
    def faults(self) -> dict[str, Callable[[], None]]:
        """What can happen to it."""
        return {
            "cut all connections": self.cut,
            "crash the database": self.crash,
            "hold all locks": self.hold_locks,
        }

    @property
    def log(self) -> str:
        """The server's."""
        return self._server.log.read_text(errors="replace")

    def connect(self, **parameters: Any) -> psycopg.Connection[Any]:
        """A connection of the test's own, to the server itself."""
        return psycopg.connect(parse_url(self._server.url), autocommit=True, **parameters)

    def cut(self) -> None:
        with self.connect() as connection:
            connection.execute(TERMINATE)

    def hold_locks(self) -> None:
        """A role that may connect takes each of the advisory locks that it can get."""
        names = [work_channel("pgjobs") + queue for queue in ("", "celery")]
        names += [f"{result_channel('pgjobs')}:{kind}{n}" for kind in "rs" for n in range(SLOTS)]
        with suppress(psycopg.OperationalError), self.connect(user="nobody") as nobody:
            nobody.execute(
                "SELECT pg_try_advisory_lock(%s, hashtext(name)) FROM unnest(%s::text[]) AS name",
                [SLEEPERS, names],
            )
            nobody.execute("SELECT pg_sleep(1.5)")  # the fault itself

    def crash(self) -> None:
        self._server.restart("immediate")


class Pooled(System):
    """pgbouncer in transaction mode in between; LISTEN goes around it."""

    name = "pgbouncer"

    def __init__(self, stack: ExitStack) -> None:
        super().__init__(stack)
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            pytest.skip("needs pgbouncer (Debian, Ubuntu: apt install pgbouncer)")
        self._program = program
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir="/tmp"))
        stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._folder.chmod(0o777)  # pgbouncer refuses to run as root
        (self._folder / "users.txt").write_text('"postgres" ""\n')
        query = parse_qs(urlsplit(self._server.url).query)
        (self._folder / "pgbouncer.ini").write_text(
            "[databases]\n"
            f"* = host={query['host'][0]} port={query['port'][0]}\n"
            "[pgbouncer]\n"
            "pool_mode = transaction\n"
            "max_prepared_statements = 100\n"
            "listen_port = 6432\n"
            f"unix_socket_dir = {self._folder}\n"
            "auth_type = trust\n"
            f"auth_file = {self._folder}/users.txt\n"
            f"logfile = {self._folder}/pgbouncer.log\n"
            "max_client_conn = 500\n"
            # A server that has just crashed is asked again at once, not 15 s later.
            "server_login_retry = 0.2\n"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._start()
        stack.callback(self._kill)

    @property
    def url(self) -> str:
        return f"pgjobs://postgres@/postgres?host={self._folder}&port=6432"

    @property
    def conf(self) -> dict[str, Any]:
        return {"broker_transport_options": {"listen_url": self._server.url}}

    @property
    def faults(self) -> dict[str, Callable[[], None]]:
        return {**super().faults, "kill pgbouncer": self.kill_pooler}

    def kill_pooler(self) -> None:
        self._kill()
        self._start()

    def _start(self) -> None:
        socket = self._folder / ".s.PGSQL.6432"
        socket.unlink(missing_ok=True)
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [self._program, "-q", *user, str(self._folder / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
        )
        wait_for(socket.exists, message=(self._folder / "pgbouncer.log").read_text)

    def _kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


class PooledPolling(Pooled):
    """pgbouncer in transaction mode in between, and nothing around it: workers poll."""

    name = "pgbouncer, polling"

    @property
    def conf(self) -> dict[str, Any]:
        return {"broker_transport_options": {"listen": False, "poll_interval": 0.5}}


class Replicated(System):
    """A primary and a synchronous standby, which takes over, once, for good."""

    name = "failover"

    def __init__(self, stack: ExitStack) -> None:
        super().__init__(stack)
        self._primary = self._server
        self._standby = EmbeddedServer(settings={"max_connections": 200})
        stack.callback(self._standby.close)
        # What EmbeddedServer does for one that begins empty; this one begins as a copy.
        self._standby._prepare_folder()
        code, output = self._standby._call(
            "pg_basebackup", "--write-recovery-conf", "--checkpoint=fast", "--no-sync",
            "--dbname", parse_url(self._primary.url),
        )  # fmt: skip
        assert code == 0, output
        self._standby.start()
        with self.connect() as connection:
            # From now on a commit returns when the standby has it on its disk, too.
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
            replication = "SELECT sync_state FROM pg_stat_replication"
            wait_for(lambda: connection.execute(replication).fetchall() == [("sync",)])

    @property
    def url(self) -> str:
        hosts = [
            parse_qs(urlsplit(server.url).query)["host"][0]
            for server in (self._primary, self._standby)
        ]
        return (
            f"pgjobs://postgres@/postgres?host={','.join(hosts)}&port=5432,5432"
            "&target_session_attrs=read-write"
        )

    @property
    def faults(self) -> dict[str, Callable[[], None]]:
        faults: dict[str, Callable[[], None]] = {
            "cut all connections": self.cut,
            "hold all locks": self.hold_locks,
        }
        if self._server is self._primary:
            faults["fail over"] = self.fail_over
        return faults

    def fail_over(self) -> None:
        self._primary.stop("immediate")
        code, output = self._standby._call("pg_ctl", "-w", "promote")
        assert code == 0, output
        self._server = self._standby


class Networked(System):
    """A network in between that loses what passes it, without a word."""

    name = "network"

    def __init__(self, stack: ExitStack) -> None:
        super().__init__(stack)
        self._network = stack.enter_context(Network(self._server.url))

    @property
    def url(self) -> str:
        return self._network.url

    @property
    def conf(self) -> dict[str, Any]:
        return {"broker_transport_options": {"ask_after": 0.5}}

    @property
    def faults(self) -> dict[str, Callable[[], None]]:
        return {
            **super().faults,
            "reset all connections": lambda: self._network.cut(reset=True),
            "lose all connections": lambda: self._lose(TO_SERVER, TO_CLIENT),
            "lose all questions": lambda: self._lose(TO_SERVER),
            "lose all answers": lambda: self._lose(TO_CLIENT),
        }

    def _lose(self, *lost: str) -> None:
        self._network.swallow(lost=lost)


SYSTEMS = [System, Pooled, PooledPolling, Replicated, Networked]


@contextmanager
def running_system(kind: type[System]) -> Iterator[System]:
    """A system, started, and gone after the block."""
    with ExitStack() as stack:
        yield kind(stack)

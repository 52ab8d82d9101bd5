"""A Patroni cluster on loopback: three PostgreSQL servers that agree on a leader by Raft."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from pgjobs_celery import embedded
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations

from ..support.waiting import wait_for

#: Patroni's own least: a leader that is silent for so long is replaced, in seconds.
TTL, LOOP_WAIT, RETRY_TIMEOUT = 20, 2, 3
#: How long a cluster may take to have a leader, or a member to be back.
PATIENCE = 90.0


class Member:
    """A server and the Patroni that looks after it."""

    def __init__(self, name: str, folder: Path, run_as: dict[str, Any]) -> None:
        self.name = name
        self.port, self.api, self.raft = free_port(), free_port(), free_port()
        self.folder = folder / name
        self.folder.mkdir(mode=0o700)
        if run_as:
            os.chown(self.folder, run_as["user"], run_as["group"])
        self._run_as = run_as
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, members: list[Member], is_synchronous: bool) -> None:
        """Write Patroni's settings."""
        programs = embedded._find_programs()
        here = "127.0.0.1"
        settings = {
            "scope": "pgjobs",
            "name": self.name,
            "raft": {
                "data_dir": str(self.folder / "raft"),
                "self_addr": f"{here}:{self.raft}",
                "partner_addrs": [f"{here}:{each.raft}" for each in members if each is not self],
            },
            "restapi": {"listen": f"{here}:{self.api}", "connect_address": f"{here}:{self.api}"},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL,
                    "loop_wait": LOOP_WAIT,
                    "retry_timeout": RETRY_TIMEOUT,
                    "synchronous_mode": is_synchronous,
                    "synchronous_mode_strict": is_synchronous,
                    "postgresql": {
                        "use_pg_rewind": True,
                        "parameters": {"max_connections": 200, "wal_log_hints": "on"},
                    },
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}],
            },
            "postgresql": {
                "listen": f"{here}:{self.port}",
                "connect_address": f"{here}:{self.port}",
                "data_dir": str(self.folder / "data"),
                "bin_dir": str(programs),
                "pgpass": str(self.folder / "pgpass"),
                "parameters": {"unix_socket_directories": str(self.folder)},
                "pg_hba": [
                    f"host all all {here}/32 trust",
                    f"host replication all {here}/32 trust",
                ],
                "authentication": {
                    "superuser": {"username": "postgres"},
                    "replication": {"username": "replicator"},
                },
            },
        }
        path = self.folder / "patroni.yml"
        path.write_text(json.dumps(settings))  # which is YAML as well
        path.chmod(0o644)

    def start(self) -> None:
        """Start Patroni, which starts the server."""
        with (self.folder / "patroni.log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_patroni(), str(self.folder / "patroni.yml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.folder,
                **self._run_as,
            )

    def processes(self) -> list[psutil.Process]:
        """Patroni, and all of its server."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            with suppress(psutil.Error):
                if any(str(self.folder) in each for each in process.info["cmdline"] or ()):
                    found += [process, *process.children(recursive=True)]
        return list(dict.fromkeys(found))

    def signal(self, number: int) -> None:
        """Send a signal to all of it at once, as a machine that is gone, or hangs, would."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> None:
        """``kill -9`` all of it."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
        """Ask Patroni's API; the status and the answer, 0 where there is none."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.api}/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)


class Cluster:
    """Three members; a context manager."""

    def __init__(self, *, is_synchronous: bool) -> None:
        self._stack = ExitStack()
        run_as = embedded._find_account()
        self.folder = embedded._temporary_folder(run_as)
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.folder.chmod(0o755)
        self.members = [Member(name, self.folder, run_as) for name in ("one", "two", "three")]
        self._is_synchronous = is_synchronous

    def __enter__(self) -> Cluster:
        for member in self.members:
            member.configure(self.members, self._is_synchronous)
            self._stack.callback(member.kill)
            member.start()
        self.wait_until_whole()
        with migrations.session(parse_url(self.url)) as connection:
            migrations.migrate(connection, "pgjobs")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """What an app's settings say: all hosts, and that one is wanted which takes writes."""
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in self.members)
        return f"pgjobs://postgres@{hosts}/postgres?target_session_attrs=read-write"

    def connect(self) -> psycopg.Connection[Any]:
        """A connection to the leader."""
        return psycopg.connect(parse_url(self.url), autocommit=True, connect_timeout=5)

    def status(self) -> list[dict[str, Any]]:
        """The members as the cluster sees them."""
        for member in self.members:
            code, text = member.ask("cluster")
            if code == 200:
                return list(json.loads(text)["members"])
        return []

    def leader(self) -> Member:
        """The member that leads, once there is one."""

        def find() -> Member | None:
            names = [each["name"] for each in self.status() if each["role"] == "leader"]
            leaders = [each for each in self.members if each.name in names]
            return leaders[0] if leaders and leaders[0].ask("primary")[0] == 200 else None

        found = wait_for(find, PATIENCE, self.describe)
        assert found is not None
        return found

    def wait_until_whole(self) -> None:
        """Until a member leads, and the others follow it, one of them in step if that is asked."""

        def is_whole() -> bool:
            members = self.status()
            states = [each["state"] for each in members]
            roles = [each["role"] for each in members]
            return (
                len(members) == len(self.members)
                and set(states) <= {"running", "streaming"}
                and roles.count("leader") == 1
                and (not self._is_synchronous or "sync_standby" in roles)
            )

        wait_for(is_whole, PATIENCE, self.describe)

    def describe(self) -> str:
        """How things stand, for a test that has failed."""
        logs = [
            (each.folder / "patroni.log").read_text(errors="replace")[-1500:]
            for each in self.members
        ]
        return "\n".join([json.dumps(self.status()), *logs])

    # Faults; each returns when the cluster is whole again.

    @property
    def faults(self) -> dict[str, Callable[[], None]]:
        """What can happen to the leader."""
        return {
            "switch over": self.switch_over,
            "kill the leader": self.kill_leader,
            "stop the leader": self.stop_leader,
        }

    def switch_over(self) -> None:
        """A planned change, as for an update."""
        leader = self.leader()
        code, answer = leader.ask("switchover", {"leader": leader.name})
        assert code == 200, answer
        self._wait_for_another(leader)
        self.wait_until_whole()

    def kill_leader(self) -> None:
        """The leader's machine is gone; it is back after the failover."""
        leader = self.leader()
        leader.kill()
        self._wait_for_another(leader)
        leader.start()
        self.wait_until_whole()

    def stop_leader(self) -> None:
        """The leader's machine hangs until another leads, and then wakes up as if nothing was."""
        leader = self.leader()
        leader.signal(signal.SIGSTOP)
        try:
            self._wait_for_another(leader)
        finally:
            leader.signal(signal.SIGCONT)
        self.wait_until_whole()

    def _wait_for_another(self, old: Member) -> None:
        others = [each for each in self.members if each is not old]

        def another() -> bool:
            return any(each.ask("primary")[0] == 200 for each in others)

        wait_for(another, PATIENCE, self.describe)


def find_patroni() -> str:
    """The program; skips where there is none that the servers' account may run."""
    beside = Path(sys.executable).with_name("patroni")
    found = os.environ.get("PGJOBS_TEST_PATRONI") or shutil.which("patroni")
    # An environment of root's is closed to that account.
    if found is None and beside.exists() and os.geteuid() != 0:
        found = str(beside)
    if found is None:
        pytest.skip(
            "needs Patroni with Raft (Debian, Ubuntu: apt install patroni python3-pysyncobj; else "
            "pip install 'patroni[raft]' psycopg2-binary, and PGJOBS_TEST_PATRONI names it)"
        )
    return found


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])

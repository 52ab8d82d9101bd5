"""Processes of ``python -m tests.support.lean_celery``, most of them forked by the nursery."""

from __future__ import annotations

import array
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from .lean_celery import WHOLE

ROOT = Path(__file__).parents[2]
#: What a fork can be given after its imports, by the beginning of its name. With anything else in
#: its environment that the nursery does not have, a process is started anew: Python and Celery
#: read some of it while they are imported.
LATE = (
    *(
        "PG",
        "PYTEST_",
        "PYTHONPATH",
        "PYTHONUNBUFFERED",
        "COLUMNS",
        "TERM",
        "PATH",
        "PSQLRC",
        "PAGER",
    ),
    *("CELERY_APP", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "CELERY_CUSTOM_WORKER_POOL"),
)
#: Pools whose patches come before all imports; each has a nursery of its own.
PATCHED = ("gevent", "eventlet")


class _Nursery:
    """A process that forks for this one; started when it is needed first."""

    def __init__(self, pool: str = "") -> None:
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTHONPATH")
        }
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.nursery", *([pool] if pool else [])],
            cwd=ROOT,
            env=self.environment,
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        atexit.register(self.close)

    def close(self) -> None:
        self._requests.close()
        self._process.wait()

    def fork(
        self, request: Mapping[str, Any], descriptors: Sequence[int]
    ) -> tuple[int, socket.socket]:
        """A new child's process id, and a socket that is told how it has ended."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            given = array.array("i", [theirs.fileno(), *descriptors])
            self._requests.sendmsg(
                [json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)]
            )
        word, _, number = mine.recv(64).partition(b" ")
        if word != b"started":
            raise ChildProcessError(f"the nursery could not start {request['arguments']}")
        return int(number), mine

    def is_open_to(self, environment: Mapping[str, str]) -> bool:
        """True where a fork can be given this environment."""
        names = {
            name
            for name in {*environment, *self.environment}
            if environment.get(name) != self.environment.get(name)
        }
        return all(name.startswith(LATE) for name in names)


#: By the process that asks, and the pool whose patches are in it.
_nurseries: dict[tuple[int, str], _Nursery] = {}


def _nursery_of(arguments: Sequence[str]) -> _Nursery | None:
    """The nursery that forks for a command, if there is any for it."""
    pools = [value for option, value in pairwise(arguments) if option in ("--pool", "-P")]
    pool = next((each for each in PATCHED if each in pools), "")
    options = [given for given in arguments if given.startswith("-") or given == "flower"]
    if any(word in given for given in options for word in WHOLE):
        return None
    key = (os.getpid(), pool)
    if key not in _nurseries:
        _nurseries[key] = _Nursery(pool)
    return _nurseries[key]


def _start_guard(session: int) -> subprocess.Popen[bytes]:
    """Kill a session should this process be killed: then the guard's input ends."""
    return subprocess.Popen(
        ["sh", "-c", 'read -r _ || kill -s KILL -- "-$1"', "sh", str(session)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )


class CeleryProcess(subprocess.Popen[Any]):
    """``celery`` with some arguments, as ``subprocess.Popen`` would start it, but sooner.

    >>> CeleryProcess(["-A", "proj", "worker"], cwd=folder, stdout=subprocess.PIPE)
    """

    def __init__(self, arguments: Sequence[str], **options: Any) -> None:
        self._ended: socket.socket | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._is_leader = bool(options.get("start_new_session"))
        command = [sys.executable, "-m", "tests.support.lean_celery", *arguments]
        super().__init__(command, **options)

    @property
    def is_forked(self) -> bool:
        """False for a process that was started anew."""
        return self._ended is not None

    def dismiss_guard(self) -> None:
        """Have nobody kill this session any more, should this process be killed."""
        if self._guard is not None and self._guard.poll() is None:
            self._guard.communicate(b"\n")

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):  # type: ignore[no-untyped-def]
        """Have the nursery fork, where it can."""
        environment = dict(os.environ if env is None else env)
        arguments = args[3:]
        nursery = _nursery_of(arguments)
        if nursery is None or not nursery.is_open_to(environment):
            parts = (args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest)
            super()._execute_child(*parts)  # type: ignore[misc]
            if self._is_leader:
                self._guard = _start_guard(self.pid)
            return
        _, _, _, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *_ = rest
        numbers = {0: p2cread, 1: c2pwrite, 2: errwrite} | {fd: fd for fd in pass_fds}
        request = {
            "arguments": arguments,
            "environment": environment,
            "folder": os.fspath(cwd or os.getcwd()),
            "numbers": list(numbers),
            "session": self._is_leader,
        }
        descriptors = [number if fd == -1 else fd for number, fd in numbers.items()]
        self.pid, self._ended = nursery.fork(request, descriptors)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]

    def _try_wait(self, flags: int) -> tuple[int, int]:
        """The process id and how it ended, as of ``os.waitpid()``."""
        if self._ended is None:
            pid, status = super()._try_wait(flags)  # type: ignore[misc]
            if pid == self.pid:
                self.dismiss_guard()  # another session may get the number
            return pid, status
        try:
            told = self._ended.recv(64, socket.MSG_DONTWAIT if flags & os.WNOHANG else 0)
        except BlockingIOError:
            return 0, 0
        self._ended.close()
        # Without a word: the nursery was killed.
        return self.pid, int(told.partition(b" ")[2] or signal.SIGKILL)

    def _internal_poll(self, *args: Any, **options: Any) -> int | None:
        if self._ended is None:
            code = super()._internal_poll(*args, **options)  # type: ignore[misc]
            if code is not None:
                self.dismiss_guard()
            return code  # type: ignore[no-any-return]
        if self.returncode is None:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def run_celery(
    *arguments: str, input: str | None = None, timeout: float = 60, **options: Any
) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run()`` of ``celery`` with some arguments; output is text, and captured."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        pipes["stdin"] = subprocess.PIPE
    with CeleryProcess(arguments, text=True, **{**pipes, **options}) as process:
        try:
            output, errors = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

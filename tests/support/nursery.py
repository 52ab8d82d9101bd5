"""``python -m tests.support.nursery [POOL]``: it has imported Celery, and forks for others.

Hundreds of ``celery`` commands are started by the tests, and to import Celery takes longer than
what most of them do. A child of this process is what ``python -m tests.support.lean_celery`` is: a
process of its own with its own arguments, environment, folder and files, in which Celery's main
function is called next. See celery_process.py for who asks. Greenlets' pools are patched in before
anything of Celery is imported: for each of them there is a process of its own.

Its standard input is a socket. Each message is a request: the arguments, environment and folder as
JSON, and with it the file descriptors. The first is a socket as well, which is told the child's
process id, and how it ended. When the asking process has gone, all children are killed.
"""

from __future__ import annotations

import array
import gc
import json
import os
import sys
from contextlib import suppress

# From before anything is patched: this process must not wait by a hub, which forks would share.
from os import fork, waitpid, write
from select import select
from signal import SIG_DFL, SIG_IGN, SIGCHLD, SIGKILL, SIGTERM, set_wakeup_fd, signal
from socket import CMSG_SPACE, socket, socketpair
from typing import Any

from . import lean_celery

#: No request is as long, and none has as many file descriptors.
LONGEST, MOST = 1 << 20, 64
#: Up to here file descriptors have the numbers that a child is to have them by.
LOW = 1 << 10


class Nursery:
    """The children of this process, each with who is told of its end."""

    def __init__(self, requests: socket) -> None:
        self._requests = requests
        self._wake, self._woken = socketpair()
        self._askers: dict[int, socket] = {}

    def wait_for_child(self) -> dict[str, Any]:
        """Serve requests, and return in each child, with what it is to be."""
        woken = self._woken
        woken.setblocking(False)
        signal(SIGCHLD, lambda *_: None)
        # Its end comes with its input's: only then the children are killed.
        signal(SIGTERM, SIG_IGN)
        set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        while True:
            ready, _, _ = select([self._requests, self._wake], [], [])
            if self._wake in ready:
                self._wake.recv(LONGEST)
                self._bury()
            if self._requests not in ready:
                continue
            request, descriptors = _receive(self._requests)
            if request is None:
                self._kill()
                os._exit(0)
            pid = fork()
            if not pid:
                self._leave()
                return {**request, "descriptors": descriptors}
            asker, *others = descriptors
            for descriptor in others:
                os.close(descriptor)
            self._askers[pid] = socket(fileno=asker)

    def _leave(self) -> None:
        """Close in a child what is this process's: the numbers are soon those of other files."""
        for each in (self._requests, self._wake, self._woken, *self._askers.values()):
            each.close()

    def _kill(self) -> None:
        """Kill all children, with their own where they lead a session."""
        for pid in self._askers:
            for kill in (os.killpg, os.kill):
                with suppress(ProcessLookupError):
                    kill(pid, SIGKILL)

    def _bury(self) -> None:
        """Tell how children have ended."""
        with suppress(ChildProcessError):
            while True:
                pid, status = waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                with self._askers.pop(pid) as asker, suppress(OSError):  # it has gone
                    asker.send(b"ended %d" % status)


def _receive(requests: socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next request with its file descriptors; None when nobody is left to ask."""
    found = array.array("i")
    text, ancillary, _, _ = requests.recvmsg(LONGEST, CMSG_SPACE(MOST * found.itemsize))
    for _, _, data in ancillary:
        found.frombytes(data)
    return (json.loads(text) if text else None), list(found)


def become(child: dict[str, Any]) -> None:
    """Make this fork what a process would be that was started so."""
    set_wakeup_fd(-1)
    signal(SIGCHLD, SIG_DFL)
    signal(SIGTERM, SIG_DFL)
    import fcntl

    _leave_hub()
    asker, *given = child["descriptors"]
    if child["session"]:
        os.setsid()
    os.chdir(child["folder"])
    write(asker, b"started %d" % os.getpid())
    # Out of the way first: one may have the number that another is to have.
    kept = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, LOW) for descriptor in given]
    os.closerange(3, LOW)
    for descriptor, number in zip(kept, child["numbers"], strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(child["environment"])
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through="PYTHONUNBUFFERED" in os.environ)
    python_path = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [
        os.getcwd(),
        *python_path,
        *(path for path in sys.path[1:] if path not in python_path),
    ]
    sys.argv = [lean_celery.__file__, *child["arguments"]]
    # Celery has read it while it was imported.
    from celery.concurrency import ALIASES

    ALIASES["custom"] = os.environ.get("CELERY_CUSTOM_WORKER_POOL")


def _leave_hub() -> None:
    """Let go of the hub that eventlet's patches have made: its file is every fork's."""
    if "eventlet" in sys.modules:
        from eventlet import hubs

        hubs.get_hub().poll.close()
        hubs.use_hub()


def import_ours() -> None:
    """Import what each worker on pgjobs imports next, but nothing that changes Celery by that.

    Celery's consumer is left to the worker: packages come before it with tracers of their own.
    """
    import pgjobs_celery.broker.transport
    import pgjobs_celery.results.backend
    import pgjobs_celery.worker.steps  # noqa: F401


def main() -> None:
    """Import Celery, and serve; in a child run its ``celery``."""
    nursery = Nursery(socket(fileno=os.dup(0)))
    gc.disable()
    if pools := sys.argv[1:]:
        from celery import maybe_patch_concurrency

        maybe_patch_concurrency(["--pool", *pools])
    lean_celery.import_celery()
    import_ours()
    gc.freeze()
    gc.enable()
    child = nursery.wait_for_child()
    become(child)
    from celery.__main__ import main as celery

    sys.exit(celery())


if __name__ == "__main__":
    main()

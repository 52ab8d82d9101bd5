"""A prefork child's report of a task, short enough that nothing can cut it in two.

A write to a pipe is all or nothing up to PIPE_BUF bytes, however full the pipe is. Half of a
longer one may stand in the pipe when the child is killed, or told of its soft time limit; the next
report is then garbage to the main process, and ends it, or leaves it waiting for the rest. So a
child writes long results into their rows itself (``handover.py``), and the rest of its report is
cut to size.

And once a task is over, its soft time limit has nothing left to end: the signal would only undo the
task's work.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from billiard import pool
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.reduction import ForkingPickler
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.serialization import UnpickleableExceptionWrapper

from ..job.exceptions import CancelledByTask, LetGo, Postponed
from ..job.outcome import Result, shorten

#: The share of PIPE_BUF (4096 bytes on Linux) for a task's outcome; the rest is billiard's: the
#: message's length, and the number of the job.
ROOM = select.PIPE_BUF - 256
#: Results, and entries for ``errors``, above this size are written by the child itself.
LIMIT = 2048
#: The least length kept of a traceback, and the most of each text of a long exception.
SHORTEST_TRACEBACK, LONGEST_TEXT = 512, 512

_SOFT_LIMIT = pool.SIG_SOFT_TIMEOUT


class _Child:
    """This process, if it is a child of a pool."""

    def __init__(self) -> None:
        self.is_one = False
        #: The process that was looked at: to ask for a signal's handler takes 3 µs.
        self._looked_at = 0
        #: The soft time limit may still end the task.
        self.may_be_ended = False

    def recognise(self) -> None:
        """See whether this is a child: billiard's handler of soft time limits tells."""
        if self._looked_at == (pid := os.getpid()):
            return
        self._looked_at = pid
        if _SOFT_LIMIT and signal.getsignal(_SOFT_LIMIT) is pool.soft_timeout_sighandler:
            self.is_one = True
            signal.signal(_SOFT_LIMIT, self._on_soft_limit)
            # An exception that leaves Celery's tracer (sys.exit, a message that cannot be pickled)
            # is reported by billiard itself.
            pool.ExceptionInfo = _make_short_info
            # So is the status of a task's sys.exit(), once more, when this child has ended.
            sys.exit = _ShortExit(sys.exit)

    def _on_soft_limit(self, *args: Any) -> None:
        if self.may_be_ended:
            pool.soft_timeout_sighandler(*args)


_child = _Child()


def begin() -> None:
    """A task begins in this process."""
    if not _child.is_one:
        _child.recognise()
    _child.may_be_ended = True


def end() -> None:
    """The task of this process is over, and its soft time limit with it."""
    _child.may_be_ended = False


def is_too_long(result: Result) -> bool:
    """True for a result that this child has to write itself."""
    if not _child.is_one:
        return False
    texts = (result.task_id, result.result, result.result_type, result.children)
    return sum(map(_length, texts)) > LIMIT


def is_too_long_entry(entry: str) -> bool:
    """True for an entry of ``errors`` that this child has to write itself."""
    return _child.is_one and len(entry) > LIMIT


def fit(text: str, result: Result | None) -> str:
    """The shown text of a returned value, cut if it would not fit beside the result itself."""
    if not _child.is_one:
        return text
    beside = 0 if result is None else 256 + sum(map(_length, result))
    return _cut(text, ROOM - beside)


def fit_failure(info: Any) -> Any:
    """The same of a failure: its traceback is cut, and if need be its exception."""
    if not _child.is_one or not isinstance(info, ExceptionInfo):
        return info
    # The main process does not use the frames, which are most of it.
    info.tb = None
    if _size(info) > ROOM:
        _shorten_failure(info)
    return info


class _ShortExit:
    """billiard's ``sys.exit()``, which keeps no status but one that a process can end with."""

    def __init__(self, note_and_exit: Callable[[Any], Any]) -> None:
        self._note_and_exit = note_and_exit

    def __call__(self, status: Any = None) -> NoReturn:
        """Leave the task."""
        is_code = status is None or (isinstance(status, int) and abs(status) < 2**31)
        with contextlib.suppress(SystemExit):
            self._note_and_exit(status if is_code else 1)
        raise SystemExit(status)


def _make_short_info(*args: Any, **kwargs: Any) -> Any:
    return fit_failure(ExceptionInfo(*args, **kwargs))


def _shorten_failure(info: Any) -> None:
    traceback, error = info.traceback or "", info.exception
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    for exception in (error, _outline(error)):
        info.type, info.traceback = type(exception), ""
        info.exception = ExceptionWithTraceback(exception, "")
        size = _size(info)
        if size <= ROOM - SHORTEST_TRACEBACK:
            # One and the same text, which is pickled once.
            info.traceback = info.exception.tb = _cut(traceback, ROOM - int(size))
            return


def _outline(error: BaseException) -> Any:
    """An exception with the same meaning to Celery that is short and can be pickled."""
    text = _cut(_text(error), LONGEST_TEXT)
    if isinstance(error, Postponed):
        entry = _short_entry(error.error) if error.error else error.error
        return Postponed(error.delay, _outline(error.exc), entry)
    if isinstance(error, CancelledByTask):
        return CancelledByTask(_cut(error.reason, LIMIT))
    if isinstance(error, Retry):
        return Retry(
            message=_cut(str(error.message), LONGEST_TEXT) if error.message else error.message,
            exc=_outline(error.exc) if error.exc else _cut(str(error.excs), LONGEST_TEXT),
            when=error.when,
        )
    if isinstance(error, Reject):
        return Reject(_cut(str(error.reason), LONGEST_TEXT), requeue=error.requeue)
    for kind in (LetGo, Ignore, SystemExit, KeyboardInterrupt, MemoryError):
        if isinstance(error, kind):
            return kind(text)
    module, name = type(error).__module__, type(error).__name__
    return UnpickleableExceptionWrapper(module, name, (text,), text)


def _short_entry(entry: str) -> str:
    """An entry for ``errors`` without its traceback, where the whole could not be written."""
    if len(entry) <= LIMIT:
        return entry
    fields = json.loads(entry)
    fields.pop("traceback", None)
    return json.dumps({name: shorten(text, LONGEST_TEXT // 4) for name, text in fields.items()})


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # a __str__ of the task's own may raise
        return f"<unprintable {type(error).__name__}>"


def _cut(text: str, room: int) -> str:
    """The text, so that it takes no more than ``room`` bytes where it is pickled."""
    if _length(text) <= room:
        return text
    # The note of what was left out takes some itself.
    return shorten(text, max(0, room - 64) // (1 if text.isascii() else 4))


def _length(text: str | bytes | None) -> int:
    if text is None:
        return 0
    if isinstance(text, bytes) or text.isascii():
        return len(text)
    return len(text.encode("utf-8", "surrogatepass"))


def _size(report: Any) -> float:
    """How many bytes it takes in the pipe; infinite for what cannot be pickled."""
    try:
        return len(ForkingPickler.dumps(report))
    except Exception:
        return math.inf

"""The terminal of ``celery pgjobs top``: keys as they are pressed, and all as it was at the end."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ..scopes.waker import Waker

try:
    import termios
    import tty
except ImportError:  # not on Windows
    HAS_TERMINALS = False
else:
    HAS_TERMINALS = True

#: What a terminal sends for keys that are not letters.
NAMES = {
    "\x1b[A": "up", "\x1bOA": "up", "\x1b[B": "down", "\x1bOB": "down", "\x1b[5~": "page up",
    "\x1b[6~": "page down", "\x1b[H": "home", "\x1b[F": "end", "\x1bOH": "home", "\x1bOF": "end",
    "\x1b": "escape", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace",
}  # fmt: skip
_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|.", re.DOTALL)
#: The signals that end what is shown, and those after which it is drawn anew.
ENDING, REDRAWING = ("SIGINT", "SIGTERM", "SIGHUP"), ("SIGWINCH", "SIGCONT")


def is_usable() -> bool:
    """True if a person can see what is drawn and press keys."""
    is_dumb = os.environ.get("TERM", "dumb") in ("dumb", "")
    return HAS_TERMINALS and sys.stdin.isatty() and sys.stdout.isatty() and not is_dumb


class Terminal:
    """Keys and signals, one after the other."""

    def __init__(self) -> None:
        self._input = sys.stdin.fileno()
        self._waker = Waker()
        #: The signal that ends it; None while it goes on.
        self.ended_by: int | None = None
        #: Its input has ended: the terminal is gone.
        self.is_gone = False
        self.is_to_stop = False
        self._handlers: dict[int, Any] = {}
        self._modes: Any = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Within the block keys come at once and are not echoed, and signals end it in order."""
        self._modes = termios.tcgetattr(self._input)
        try:
            for names, handle in ((ENDING, self._end), (REDRAWING, self._redraw)):
                for name in names:
                    number = getattr(signal, name)
                    self._handlers[number] = signal.signal(number, handle)
            self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._stop)
            tty.setcbreak(self._input)
            yield
        finally:
            self.restore()
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._waker.close()

    def restore(self) -> None:
        """The modes from before."""
        # Not TCSADRAIN: a terminal whose output is stopped would hold us.
        termios.tcsetattr(self._input, termios.TCSANOW, self._modes)

    def suspend(self) -> None:
        """Stop as by Ctrl-Z, and go on when the shell says so."""
        self.is_to_stop = False
        self.restore()
        os.kill(os.getpid(), signal.SIGSTOP)
        tty.setcbreak(self._input)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, at least one of each."""
        width, height = os.get_terminal_size(sys.stdout.fileno())
        return max(1, width), max(1, height)

    def wake(self) -> None:
        """Have :meth:`wait` return; from any thread."""
        self._waker.wake()

    def wait(self, seconds: float | None = None) -> list[str]:
        """The keys that were pressed, if any; returns for a signal and for :meth:`wake` as well."""
        if self.ended_by is not None or self.is_to_stop:
            return []
        ready, _, _ = select.select([self._input, self._waker], [], [], seconds)
        if self._waker in ready:
            self._waker.drain()
        if self._input not in ready:
            return []
        try:
            data = os.read(self._input, 1024)
        except OSError:  # EIO: it was hung up
            data = b""
        self.is_gone = not data
        return read_keys(data.decode(errors="replace"))

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.ended_by = number
        self._waker.wake()

    def _redraw(self, number: int, frame: FrameType | None) -> None:
        self._waker.wake()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.is_to_stop = True
        self._waker.wake()


def read_keys(text: str) -> list[str]:
    """The names of keys; a letter is its own."""
    return [NAMES.get(key, key) for key in _KEY.findall(text) if key in NAMES or key.isprintable()]

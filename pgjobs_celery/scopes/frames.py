"""The innermost frame of another thread."""

from __future__ import annotations

import gc
import sys
import threading
from types import FrameType


def frame_of(thread: threading.Thread) -> FrameType | None:
    """The frame in which a thread is just now; None of one that runs no code.

    Without garbage collection meanwhile: CPython holds a lock over all its threads here and makes
    frame objects, and a finalizer that lets go of the interpreter (a socket that closes) leaves it
    to a thread that may want that lock. Both wait for ever then (CPython 3.11, gh-106883).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames().get(thread.ident or 0)
    finally:
        if was_enabled:
            gc.enable()

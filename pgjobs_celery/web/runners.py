"""Threads of this process that go on with operations, while visitors look at how far they are.

A process that ends takes them along in the middle of a batch, which is rolled back: the operation
falls silent, and goes on when somebody asks for it, in whatever process that is.
"""

from __future__ import annotations

import logging
import threading
from contextvars import copy_context

from ..control.operations import SILENT, Operations
from ..printable import guarded

logger = guarded(logging.getLogger(__name__))

#: How many of this process's operations go on at once; the others wait for them.
AT_ONCE = 2

_turns = threading.BoundedSemaphore(AT_ONCE)


def start(operations: Operations, id: str) -> threading.Thread:
    """Go on with an operation in a thread, in the name of who asks for it here."""
    operations.live(id)  # before anybody looks
    context = copy_context()
    thread = threading.Thread(
        target=context.run,
        args=(_go_on, operations, id),
        name=f"pgjobs-operation-{id}",
        daemon=True,
    )
    thread.start()
    return thread


def _go_on(operations: Operations, id: str) -> None:
    while not _turns.acquire(timeout=SILENT / 2):
        operations.live(id)  # it waits, and is not forgotten
    try:
        operations.go_on(id)
    except Exception as error:
        # The record says so as well, where it could be written.
        logger.exception("operation %s has failed: %s", id, error)
    finally:
        _turns.release()

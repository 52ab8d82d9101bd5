"""What this process tells others of itself, beside that it lives."""

from __future__ import annotations

import logging
import os
import platform
import socket
from typing import TYPE_CHECKING

from ..db.rows.nodes import About
from ..printable import guarded

if TYPE_CHECKING:
    from .pool import Pool

logger = guarded(logging.getLogger(__name__))


def describe_process(pool: Pool | None) -> About:
    """This process, and the worker that it is; never raises, for a heartbeat waits for it."""
    own = {"host": socket.gethostname(), "pid": os.getpid(), "python": platform.python_version()}
    if pool is None:
        return About(own)
    try:
        about = pool.describe()
    except Exception:
        # It may be an application's own class; without its description the worker lives as well.
        logger.debug("the pool cannot be described", exc_info=True)
        return About(own)
    return about._replace(details=own | about.details)

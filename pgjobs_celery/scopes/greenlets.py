"""Whether this process's threads are greenlets."""

from __future__ import annotations

import sys


def patched_by() -> str | None:
    """``"gevent"`` or ``"eventlet"`` where it has put greenlets in the place of threads."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return None

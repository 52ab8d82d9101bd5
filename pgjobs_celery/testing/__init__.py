"""Test what an app enqueues, and run it, without a broker.

    from pgjobs_celery.testing import assert_enqueued, testing

    with testing(app):
        sign_up("ann@example.com")
        assert_enqueued(welcome, kwargs={"email": "ann@example.com"})

For any Celery app, whatever broker its settings name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .assertions import all_enqueued as all_enqueued
    from .assertions import assert_enqueued as assert_enqueued
    from .assertions import assert_enqueued_in_order as assert_enqueued_in_order
    from .assertions import expected as expected
    from .assertions import refute_enqueued as refute_enqueued
    from .capture import Enqueued as Enqueued
    from .capture import Inbox as Inbox
    from .executing import Performed as Performed
    from .modes import testing as testing
    from .running import advance as advance
    from .running import drain_queue as drain_queue
    from .running import due as due
    from .running import perform_job as perform_job
    from .ticking import due_entries as due_entries

#: The public names, each by the module that is loaded when it is first asked for.
_MODULES = {
    "Enqueued": "capture",
    "Inbox": "capture",
    "Performed": "executing",
    "advance": "running",
    "all_enqueued": "assertions",
    "assert_enqueued": "assertions",
    "drain_queue": "running",
    "due": "running",
    "due_entries": "ticking",
    "perform_job": "running",
    "assert_enqueued_in_order": "assertions",
    "expected": "assertions",
    "refute_enqueued": "assertions",
    "testing": "modes",
}

__all__ = [
    "Enqueued",
    "Inbox",
    "Performed",
    "advance",
    "all_enqueued",
    "assert_enqueued",
    "assert_enqueued_in_order",
    "drain_queue",
    "due",
    "due_entries",
    "expected",
    "perform_job",
    "refute_enqueued",
    "testing",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value

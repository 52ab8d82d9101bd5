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
    from .asserting.assertions import all_enqueued as all_enqueued
    from .asserting.assertions import assert_enqueued as assert_enqueued
    from .asserting.assertions import assert_enqueued_in_order as assert_enqueued_in_order
    from .asserting.assertions import expected as expected
    from .asserting.assertions import refute_enqueued as refute_enqueued
    from .capturing.capture import Enqueued as Enqueued
    from .capturing.capture import Inbox as Inbox
    from .modes import testing as testing
    from .perform import advance as advance
    from .perform import drain_queue as drain_queue
    from .perform import due as due
    from .perform import perform_job as perform_job
    from .perform import steps_of as steps_of
    from .running.executing import Performed as Performed
    from .running.ticking import due_entries as due_entries

#: The public names, each by the module that is loaded when it is first asked for.
_MODULES = {
    "Enqueued": "capturing.capture",
    "Inbox": "capturing.capture",
    "Performed": "running.executing",
    "advance": "perform",
    "all_enqueued": "asserting.assertions",
    "assert_enqueued": "asserting.assertions",
    "drain_queue": "perform",
    "due": "perform",
    "due_entries": "running.ticking",
    "perform_job": "perform",
    "steps_of": "perform",
    "assert_enqueued_in_order": "asserting.assertions",
    "expected": "asserting.assertions",
    "refute_enqueued": "asserting.assertions",
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
    "steps_of",
    "testing",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value

"""The helpers for one app: what pytest's fixture and unittest's mixin hand out."""

from __future__ import annotations

from functools import partial
from typing import Any

from . import assertions, running, ticking
from .modes import testing


class Helpers:
    """The functions of :mod:`pgjobs_celery.testing`, for the app of a block."""

    def __init__(self, block: testing) -> None:
        #: The block, and in modes manual and inline its ``inbox``.
        self.block = block
        self.app = app = block.app
        # Not methods: an assertion sees whether its call is in a with statement.
        self.assert_enqueued = partial(assertions.assert_enqueued, app=app)
        self.refute_enqueued = partial(assertions.refute_enqueued, app=app)
        self.all_enqueued = partial(assertions.all_enqueued, app=app)
        self.assert_enqueued_in_order = partial(assertions.assert_enqueued_in_order, app=app)
        self.perform_job = running.perform_job
        self.drain_queue = partial(running.drain_queue, app=app)
        self.advance = partial(running.advance, app=app)
        self.due = partial(running.due, app=app)
        self.due_entries = partial(ticking.due_entries, app)

    def testing(self, mode: str = "manual", **options: Any) -> testing:
        """Another block for the same app, within this one."""
        return testing(self.app, mode, **options)

    def __repr__(self) -> str:
        return repr(self.block)

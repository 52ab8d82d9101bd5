"""unittest's mixin, for Django's TestCase too.

class SignUpTest(PgJobsMixin, TestCase):
    pgjobs_app = "proj:app"

    def test_sign_up(self):
        sign_up("ann@example.com")
        self.pgjobs.assert_enqueued(welcome)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import current_app
from celery.app.utils import find_app

from .helpers import Helpers
from .modes import testing

if TYPE_CHECKING:
    from unittest import TestCase
else:
    TestCase = object


class PgJobsMixin(TestCase):
    """Have each test of a TestCase in :func:`testing`; stands in front of the TestCase."""

    #: The Celery app, or where it is, as ``celery -A`` has it; None for Celery's current app.
    pgjobs_app: Any = None
    #: The mode; a method may have ``with self.pgjobs.testing("inline"):``.
    pgjobs_mode: str = "manual"
    #: Inline: what a task raises is raised by whoever publishes it.
    pgjobs_propagate: bool = False
    #: The helpers, from before ``setUp()`` until after the last cleanup.
    pgjobs: Helpers

    def run(self, result: Any = None) -> Any:
        """Run the test, ``setUp()`` and ``tearDown()`` included, in the block."""
        app = self.pgjobs_app
        if app is None:
            app = current_app._get_current_object()
        elif isinstance(app, str):
            app = find_app(app)
        with testing(app, self.pgjobs_mode, propagate=self.pgjobs_propagate) as block:
            self.pgjobs = Helpers(block)
            return super().run(result)

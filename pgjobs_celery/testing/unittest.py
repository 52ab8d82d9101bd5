"""unittest's mixin, for Django's TestCase too.

class SignUpTest(PgJobsMixin, TestCase):
    pgjobs_app = "proj:app"

    def test_sign_up(self):
        sign_up("ann@example.com")
        self.pgjobs.assert_enqueued(welcome)
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from unittest import TestCase

from celery import current_app
from celery.app.utils import find_app

from .fixtures.helpers import Helpers
from .modes import testing

if TYPE_CHECKING:
    Base = TestCase
else:
    Base = object


class PgJobsMixin(Base):
    """Run each test of a TestCase in :func:`testing`; comes before the TestCase in the bases."""

    #: The Celery app, or where it is, as ``celery -A`` has it; None for Celery's current app.
    pgjobs_app: Any = None
    #: The mode; a method may have ``with self.pgjobs.testing("inline"):``.
    pgjobs_mode: str = "manual"
    #: Inline: an exception of a task is raised where it is published.
    pgjobs_propagate: bool = False
    #: The helpers, from before ``setUp()`` until after the last cleanup.
    pgjobs: Helpers

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if TestCase in order and order.index(TestCase) < order.index(PgJobsMixin):
            # Its tests would publish to the real broker.
            raise TypeError(f"{cls.__name__}: PgJobsMixin has to stand in front of the TestCase")

    def run(self, result: Any = None) -> Any:
        """Run the test, ``setUp()`` and ``tearDown()`` included, in the block."""
        with ExitStack() as stack:
            try:
                block = stack.enter_context(self._testing())
            except Exception:
                if result is None:
                    raise
                # An error of this test: an exception here would end the whole run.
                result.startTest(self)
                result.addError(self, sys.exc_info())
                result.stopTest(self)
                return result
            self.pgjobs = Helpers(block)
            return super().run(result)

    def _testing(self) -> testing:
        app = self.pgjobs_app
        if app is None:
            app = current_app._get_current_object()
        elif isinstance(app, str):
            app = find_app(app)
        return testing(app, self.pgjobs_mode, propagate=self.pgjobs_propagate)

"""The block of ``self.transaction()`` where a test has captured the app's jobs, without rows.

No transaction holds what such a block publishes, nor its steps: so it is done here.
"""

from __future__ import annotations

from typing import Any

from ..job.progress import progress_of
from ..job.steps import Memory
from ..publishing.bulk import bulk


class CapturedEffects:
    """Publishes what was published in the block when it ends; where it raises, forgets it."""

    def __init__(self, request: Any) -> None:
        run = progress_of(request).steps
        self._memory = None if run is None else run.memory
        self._known: dict[str, Memory] = {}
        self._bulk = bulk()

    def begin(self) -> None:
        """The block begins."""
        if self._memory is not None:
            self._known = self._memory.load()
        self._bulk.__enter__()

    def end(self, error: BaseException | None) -> None:
        """The block ends, and with an error its transaction is rolled back."""
        self._bulk.__exit__(None if error is None else type(error))
        if error is not None and self._memory is not None:
            self._memory.restore(self._known)


def captured_effects(app: Any, request: Any) -> CapturedEffects | None:
    """For an app whose jobs a test has captured; None where jobs are rows."""
    if not getattr(app._backend_cache, "stands_in", False):
        return None
    return CapturedEffects(request)

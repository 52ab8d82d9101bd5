"""Wait for what another process does to the database, where no event tells of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds that a busy machine may take for what comes at once on others.
LIMIT = 30.0
#: Seconds between two looks: at first, and once it has waited for long. A look takes processor
#: time from what is waited for.
INTERVAL, LONGEST = 0.02, 0.1


def wait_for(
    condition: Callable[[], T], timeout: float = LIMIT, message: str | Callable[[], object] = ""
) -> T:
    """Call ``condition`` until what it returns is true, and return that.

    An AssertionError of the condition counts as "not yet", and is what fails the test in the end.
    ``message``, text or a callable asked at the end, says what was hoped for, or how things stand.

    >>> wait_for(lambda: count_jobs("completed") == 3, message=lambda: all_jobs())
    """
    begun = time.monotonic()
    deadline = begun + timeout
    while True:
        failed: AssertionError | None = None
        value: object = None
        try:
            value = result = condition()
            if result:
                return result
        except AssertionError as error:
            failed = error
        if time.monotonic() > deadline:
            hoped = message() if callable(message) else message
            raise AssertionError(
                f"not within {timeout} s: {hoped or getattr(condition, '__name__', condition)}"
                + (f"\n{failed}" if failed else f" (the last look gave {value!r})")
            ) from failed
        time.sleep(min(max(INTERVAL, (time.monotonic() - begun) / 20), LONGEST))

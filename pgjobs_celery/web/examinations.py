"""The findings of the doctor, looked at seldom and for all visitors together.

The doctor may take half a second, and more than two where it looks twice. So no page waits for it
to the end: it is asked in a thread of its own, and pages show what it found the last time, and when
that was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from ..beat.doctor import look_at_schedules
from ..control.doctor.doctor import doctor
from ..control.doctor.findings import Report
from ..scopes.steady import monotonic

if TYPE_CHECKING:
    from ..db.database import Database
    from .sources import Source

#: After how many seconds it is looked at anew, when somebody visits.
FRESH = 15.0
#: How long the first visitor waits for the first report, in seconds.
PATIENCE = 0.12


@dataclass(frozen=True)
class Examination:
    """The doctor's findings, and when they were made."""

    report: Report
    at: datetime


class Examiner:
    """Examines one source when it is visited. Thread-safe."""

    def __init__(self, examine: Callable[[], Report]) -> None:
        self._examine = examine
        self._lock = threading.Lock()
        self._last: Examination | None = None
        #: When the next look is due.
        self._due = 0.0
        #: Set while nobody looks.
        self._ended = threading.Event()
        self._ended.set()

    def last(self) -> Examination | None:
        """The last findings, at once; None while the first look goes on."""
        with self._lock:
            if self._ended.is_set() and monotonic() >= self._due:
                self._ended.clear()
                threading.Thread(target=self._run, name="pgjobs-doctor", daemon=True).start()
            if self._last is not None:
                return self._last
        self._ended.wait(PATIENCE)
        return self._last

    def wait(self, seconds: float) -> bool:
        """Wait until nobody looks; False if somebody still does after so many seconds."""
        return self._ended.wait(seconds)

    def _run(self) -> None:
        try:
            report = self._examine()
            self._last = Examination(report, datetime.now(timezone.utc))
        finally:
            self._due = monotonic() + FRESH
            self._ended.set()


def examination(examiners: dict[str, Examiner], source: Source) -> Examination | None:
    """The doctor's findings in a source; None while it looks for the first time."""
    examiner = examiners.get(source.name)
    if examiner is None:
        # Of two requests at once both keep the one that came first.
        made = Examiner(partial(examine, source.database, source.app))
        examiner = examiners.setdefault(source.name, made)
    return examiner.last()


def examine(database: Database, app: Any) -> Report:
    """All that ``celery pgjobs doctor`` looks at."""
    more = {} if app is None else {"schedules": partial(look_at_schedules, app, database)}
    return doctor(database, app, more=more)

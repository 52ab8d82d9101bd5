"""Publish the bodies of chords whose header has finished, where no worker has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .loop import Service

if TYPE_CHECKING:
    from ..db.database import Database


class ChordKeeper(Protocol):
    """The result backend, as far as this service uses it."""

    def complete_chords(self, max_age: float | None) -> int:
        """Publish the bodies of complete chords, and return how many."""


class Complete(Service):
    """The safety net of chords whose last task was cancelled, or lost with its worker."""

    name = "chords"
    interval = 5.0

    def __init__(self, backend: ChordKeeper, max_age: float | None) -> None:
        self._backend = backend
        self._max_age = max_age
        self._has_run = False

    def run(self, database: Database) -> dict[str, int]:
        """Look for complete chords, and for those whose time has run out."""
        self._has_run = True
        return {"completed": self._backend.complete_chords(self._max_age)}

    def next_delay(self) -> float:
        """At once when the worker starts: it may stand in for one that was killed."""
        return self.interval if self._has_run else 0.0

"""Rescue the jobs of dead nodes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..config import Settings
from ..printable import guarded
from ..signals import jobs_rescued
from .loop import Service

if TYPE_CHECKING:
    from ..db.database import Database

logger = guarded(logging.getLogger(__name__))


class Rescue(Service):
    """Put back, or discard, the jobs of nodes that have been silent for longer than their lease.

    The heartbeat tells when: it has heard of dead nodes, and was not cut off itself.
    """

    name = "rescue"
    #: The interval unless it is told: for jobs that are held by a node without a row.
    interval = 300.0
    #: The interval, and the number of looks, after nodes were buried: a job may have been locked.
    soon, looks = 5.0, 3

    def __init__(self, on_buried: Callable[[], None] = lambda: None) -> None:
        #: How often an interruption costs a job with steps no attempt.
        self.bound = Settings.max_interruptions
        #: Called when nodes are gone, and have left queues behind.
        self._on_buried = on_buried
        self._is_told = False
        self._looks_left = 0

    def tell(self) -> None:
        """Other nodes are dead, and this one may call them so."""
        self._is_told = True

    def run(self, database: Database) -> dict[str, int]:
        """Rescue all jobs of dead nodes."""
        is_told, self._is_told = self._is_told, False
        rescue = database.claims.rescue_jobs(dead=is_told, bound=self.bound)
        for name in rescue.nodes:
            logger.warning("node %s is dead: it has not renewed its lease", name)
        self._looks_left = self.looks if rescue.nodes else max(0, self._looks_left - 1)
        if rescue.nodes:
            self._on_buried()
        if rescue.nodes or rescue.returned or rescue.discarded:
            jobs_rescued.send(sender=None, **rescue._asdict())
        return {"put back in line": rescue.returned, "discarded": rescue.discarded}

    def next_delay(self) -> float:
        """Soon after nodes were buried."""
        return self.soon if self._looks_left else self.interval

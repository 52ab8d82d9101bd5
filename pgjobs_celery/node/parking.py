"""The pauses of tasks, tags and keys that a process knows, and the jobs that it parks for them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING
from uuid import UUID

from ..job.pauses import Pause, keys_of, parked

if TYPE_CHECKING:
    from ..db.database import Database
    from ..db.rows.claims import Turn
    from ..db.rows.rules import Claimed


class Parking:
    """Puts claimed jobs that are paused back in line, in a lane that is shut.

    A pause costs the claim nothing while none is known. While one is, each claim looks at what it
    took, in its own transaction: what is parked was never claimed.
    """

    def __init__(self) -> None:
        #: Some pause holds, as far as is known here.
        self.is_needed = False
        #: The last claim took jobs that were parked, so that others may stand behind them.
        self._has_parked = False

    def together(self, database: Database) -> AbstractContextManager[None]:
        """The transaction of a claim and of what is parked of it, while a pause is known."""
        return database.transaction() if self.is_needed else nullcontext()

    def park(self, database: Database, node: UUID, turn: Turn) -> Turn:
        """The turn without those of its claims that are paused, which are parked."""
        claims = turn.claims
        if not claims or not self.is_needed:
            return turn
        rules = database.rules
        pauses = [Pause(*pause) for pause in rules.share_pauses()]
        if not pauses:
            return turn
        found = rules.look_at_claimed(node, [claim.id for claim in claims])
        places = [
            (job.id, job.attempt, parked(job.lane, holding))
            for job in found
            if (holding := holding_of(job, pauses))
        ]
        if not places:
            return turn
        gone = rules.park_jobs(node, places)
        self._has_parked = self._has_parked or bool(gone)
        return turn._replace(claims=[claim for claim in claims if claim.id not in gone])

    def has_parked(self) -> bool:
        """True once after jobs were parked: a claim that came back short has not seen all."""
        has_parked, self._has_parked = self._has_parked, False
        return has_parked


def holding_of(job: Claimed, pauses: Sequence[Pause]) -> list[Pause]:
    """The pauses that keep a job from running."""
    keys = keys_of(job.lane)
    return [pause for pause in pauses if pause.holds(job.task, job.queue, job.tags, keys)]

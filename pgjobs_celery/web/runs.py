"""The last runs of a task as bars: how long each took, and how it ended. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..db.rows.views import PastRun
from ..job.states import State

#: Sizes in pixels: of a bar, from one to the next, and of the tallest.
WIDTH, STEP, HEIGHT, LOWEST = 7, 9, 48, 3


@dataclass(frozen=True)
class Bar:
    """A run."""

    run: PastRun
    x: int
    y: float
    height: float


@dataclass(frozen=True)
class Runs:
    """The bars, the oldest first, and what they tell together."""

    bars: tuple[Bar, ...] = ()
    width: int = 0
    height: int = HEIGHT
    #: The longest and the middle one, in seconds.
    longest: float | None = None
    median: float | None = None
    failed: int = 0


def draw_runs(runs: Sequence[PastRun]) -> Runs:
    """Bars whose axis begins at 0; one that never began is as low as can be seen."""
    if not runs:
        return Runs()
    known = sorted(run.seconds for run in runs if run.seconds is not None)
    longest = known[-1] if known else 0.0
    bars = []
    for index, run in enumerate(reversed(runs)):
        share = (run.seconds or 0.0) / longest if longest else 0.0
        height = max(LOWEST, round(HEIGHT * share, 1))
        bars.append(Bar(run, index * STEP, round(HEIGHT - height, 1), height))
    return Runs(
        tuple(bars),
        len(bars) * STEP,
        HEIGHT,
        known[-1] if known else None,
        known[len(known) // 2] if known else None,
        sum(run.state is State.DISCARDED for run in runs),
    )

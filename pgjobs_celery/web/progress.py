"""How far a running job says that it has come. Pure: reads no row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..db.rows.views import ShownJob
from ..job.states import State
from .values import Number

#: Pairs of words by which tasks tell how far they are, and of how much.
_PAIRS = (("current", "total"), ("done", "total"), ("completed", "total"), ("processed", "total"))
_SHARES = {"progress": 1.0, "fraction": 1.0, "percent": 100.0, "percentage": 100.0}


@dataclass(frozen=True)
class Progress:
    """How far a job says that it has come."""

    #: From 0 to 1.
    share: float
    text: str


def progress_of(row: ShownJob, result: Any) -> Progress | None:
    """How far a running job says it is: in its meta, or by ``update_state(state="PROGRESS")``."""
    if row.state is not State.EXECUTING:
        return None
    for told in (result if row.reported_state else None, row.meta):
        if isinstance(told, Mapping):
            inner = told.get("progress")
            for each in (inner if isinstance(inner, Mapping) else None, told):
                if each is not None and (found := _read_progress(each)) is not None:
                    return found
    return None


def _read_progress(told: Mapping[str, Any]) -> Progress | None:
    for done_word, total_word in _PAIRS:
        done, total = _number(told.get(done_word)), _number(told.get(total_word))
        if done is not None and total:
            share = min(max(done / total, 0.0), 1.0)
            return Progress(share, f"{done:,.10g} of {total:,.10g}")
    for word, whole in _SHARES.items():
        if (value := _number(told.get(word))) is not None:
            # A progress above 1 is in percent.
            size = 100.0 if word == "progress" and value > 1 else whole
            share = min(max(value / size, 0.0), 1.0)
            return Progress(share, f"{100 * share:.0f} %")
    return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, Number)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < 1e15 else None

"""Explain the body of a chord that is not published yet: its id has no row."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from ..printable import one_line
from .explanation import COMMAND, Explanation, as_data, when

if TYPE_CHECKING:
    from ..db.rows.explain import ChordFacts


def explain_chord(task_id: str, chord: ChordFacts) -> Explanation:
    """Why an id without a row has none yet: its header has not finished."""
    missing = max(0, chord.size - chord.finished)
    waits = ", ".join(f"{id} ({state})" for id, state in chord.unfinished)
    named = f": {waits}{', ...' if missing > len(chord.unfinished) else ''}" if waits else ""
    text = (
        f"It is not published yet: it waits for the chord {chord.group_id}, which began at"
        f" {when(chord.inserted_at, chord.now)}, and {missing:,} of the {chord.size:,} tasks of its"
        f" header {'has' if missing == 1 else 'have'} not finished{named}."
    )
    first = next((id for id, _ in chord.unfinished), None)
    details = {
        "task_id": task_id, "group_id": chord.group_id, "size": chord.size, "missing": missing,
        "unfinished": {id: state.value for id, state in chord.unfinished}, "at": chord.now,
    }  # fmt: skip
    return Explanation(
        "waits_for_chord",
        one_line(text),
        as_data(details),
        one_line(f"{COMMAND} explain {quote(first)}") if first else None,
    )

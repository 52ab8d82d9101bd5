"""Checks of values that people and programs write: numbers, and names near the one meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, TypeGuard

#: The greatest value of PostgreSQL's integer.
LARGEST_INTEGER = 2**31 - 1


def is_whole_number(value: Any, lowest: int, highest: float = float("inf")) -> TypeGuard[int]:
    """True for an int from ``lowest`` to ``highest``; False for True and False."""
    return is_number(value) and isinstance(value, int) and lowest <= value <= highest


def is_number(value: Any) -> TypeGuard[int | float]:
    """True for an int or a float, NaN and infinity included; False for True and False."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def did_you_mean(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """The end of a message about an unknown name: the nearest known one, or an empty text.

    ``likeness`` is difflib's ratio, from 0 to 1: more alike than this, one is a slip of the other.
    """
    close = difflib.get_close_matches(name, list(known), 1, likeness)
    return f"; did you mean {close[0]!r}?" if close else ""

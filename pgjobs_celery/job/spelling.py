"""Durations and numbers of attempts, as people write them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from ..errors import InvalidOption
from .checks import LARGEST_INTEGER

UNITS = {"w": 7 * 86_400, "d": 86_400, "h": 3600, "m": 60, "s": 1}


def read_duration(text: str) -> float:
    """Seconds, from a number with an optional s, m, h, d or w. Raises InvalidOption.

    >>> read_duration("90"), read_duration("1.5h")
    (90.0, 5400.0)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw]?)", text.strip().lower())
    if not found:
        raise InvalidOption(f"{text!r} is not a duration: write 90, 15m, 2h or 3d")
    return float(found[1]) * UNITS[found[2] or "s"]


def write_duration(seconds: float) -> str:
    """The shortest text that :func:`read_duration` reads as so many seconds.

    >>> write_duration(5400.0), write_duration(604_800.0), write_duration(0.5)
    ('90m', '1w', '0.5')
    """
    for unit, size in UNITS.items():
        if size > 1 and seconds and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return format(Decimal(repr(float(seconds))).normalize(), "f")


def read_attempts(text: str) -> range | list[int]:
    """Numbers, or a span of them. Raises InvalidOption.

    >>> read_attempts("3"), read_attempts("1,4"), read_attempts("2-5")
    ([3], [1, 4], range(2, 6))
    """
    span = re.fullmatch(r"([0-9]{1,10})-([0-9]{0,10})", text.strip())
    if span:
        return range(int(span[1]), int(span[2]) + 1 if span[2] else LARGEST_INTEGER + 1)
    if not re.fullmatch(r"[0-9]{1,10}(,[0-9]{1,10})*", text.strip()):
        raise InvalidOption(f"{text!r} is not an attempt: write 3, 1,4, 2-5 or 2-")
    return [int(number) for number in text.split(",")]


def write_attempts(attempts: range | Iterable[int]) -> str:
    """The text that :func:`read_attempts` reads as these."""
    if not isinstance(attempts, range):
        return ",".join(map(str, sorted(attempts)))
    last = "" if attempts.stop > LARGEST_INTEGER else str(attempts.stop - 1)
    return f"{attempts.start}-{last}"

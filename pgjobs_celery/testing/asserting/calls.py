"""How the value of a call is used: is it a block, is it awaited?

An assertion that does not hold raises at once, but ``with assert_enqueued(welcome):`` has to wait
for the end of the block, and the function is called before there is one. What comes next in the
caller's code says which it is; that is looked at only where the assertion would raise.
"""

from __future__ import annotations

import dis
import sys
from enum import Enum, auto

#: The instruction that follows the call, by which it is known: of ``with`` and ``async with`` up to
#: Python 3.13, and since 3.14 (where a copy of the value comes first).
_ENTERS = {"SETUP_WITH", "BEFORE_WITH", "BEFORE_ASYNC_WITH", "LOAD_SPECIAL"}
_AWAITS = {"GET_AWAITABLE"}
_SKIPPED = {"CACHE", "COPY", "EXTENDED_ARG", "PRECALL", "NOP"}


class Use(Enum):
    """What becomes of a value."""

    VALUE = auto()
    BLOCK = auto()
    AWAITED = auto()


def how_is_used(depth: int) -> Use:
    """What the value of the call is for that is made ``depth`` frames above the caller."""
    frame = sys._getframe(depth + 1)
    for instruction in dis.get_instructions(frame.f_code):
        if instruction.offset <= frame.f_lasti or instruction.opname in _SKIPPED:
            continue
        if instruction.opname in _ENTERS:
            return Use.BLOCK
        return Use.AWAITED if instruction.opname in _AWAITS else Use.VALUE
    return Use.VALUE

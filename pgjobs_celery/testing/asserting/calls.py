"""Find how the value of a call is used: as a block, awaited, or otherwise.

An assertion that does not hold raises at once, but ``with assert_enqueued(welcome):`` must wait for
the end of the block, and the function is called before the block begins. The caller's next
instruction tells which it is; it is read only when the assertion would raise.
"""

from __future__ import annotations

import dis
import sys
from enum import Enum, auto

#: The instruction after the call: of ``with`` and ``async with`` up to Python 3.13, and since 3.14
#: (where a copy of the value comes first).
_ENTERS = {"SETUP_WITH", "BEFORE_WITH", "BEFORE_ASYNC_WITH", "LOAD_SPECIAL"}
_AWAITS = {"GET_AWAITABLE"}
_SKIPPED = {"CACHE", "COPY", "EXTENDED_ARG", "PRECALL", "NOP"}


class Use(Enum):
    """The use of a call's value."""

    VALUE = auto()
    BLOCK = auto()
    AWAITED = auto()


def how_is_used(depth: int) -> Use:
    """The use of the value of the call that is made ``depth`` frames above the caller."""
    frame = sys._getframe(depth + 1)
    for instruction in dis.get_instructions(frame.f_code):
        if instruction.offset <= frame.f_lasti or instruction.opname in _SKIPPED:
            continue
        if instruction.opname in _ENTERS:
            return Use.BLOCK
        return Use.AWAITED if instruction.opname in _AWAITS else Use.VALUE
    return Use.VALUE

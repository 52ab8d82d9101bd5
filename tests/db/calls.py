"""The function calls in a statement, as they are written."""

from __future__ import annotations

import re
from typing import NamedTuple

#: Written like functions, and part of the grammar: no function of anybody is looked up.
GRAMMAR = {
    "all", "any", "array", "coalesce", "exists", "extract", "greatest", "in", "least", "nullif",
    "operator", "position", "values",
}  # fmt: skip

_COMMENT = re.compile(r"--[^\n]*")
_STRING = re.compile(r"'[^']*'")
_CALL = re.compile(r"(?<![\w.%\"])((?:\"?\w+\"?\.)?)([a-z_][a-z0-9_]*)\(", re.IGNORECASE)


class FoundCall(NamedTuple):
    """A call: the schema that it names ("" for none), the function, and its arguments."""

    schema: str
    name: str
    arguments: tuple[str, ...]


def calls_in(sql: str) -> list[FoundCall]:
    """The calls in ``sql``, in their order; those of the grammar are none."""
    sql = _COMMENT.sub("", sql)
    blanked = _STRING.sub(lambda found: "'" + "x" * (len(found[0]) - 2) + "'", sql)
    return [
        FoundCall(found[1].strip('".'), found[2], _arguments(sql, blanked, found.end()))
        for found in _CALL.finditer(blanked)
        if found[1] or found[2].lower() not in GRAMMAR
    ]


def _arguments(sql: str, blanked: str, start: int) -> tuple[str, ...]:
    depth, begins, found = 1, start, []
    for place in range(start, len(blanked)):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(blanked[place], 0)
        if depth == 0 or (depth == 1 and blanked[place] == ","):
            found.append(sql[begins:place].strip())
            begins = place + 1
        if depth == 0:
            break
    return tuple(found) if found != [""] else ()

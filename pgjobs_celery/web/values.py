"""Values of a row, read without running anything of them, and as a tree that can be shown.

Only plain JSON is read, with its numbers as they were written: one beyond 2^53 stays what it is. A
pickle is a program, and none of ours.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .redact import Hidden

#: How many entries of one list or object are shown, and how many of all together.
MOST_ENTRIES, MOST_ITEMS = 100, 600
#: How much of a text is shown, in characters, and how deep a value is followed.
LONGEST, DEEPEST = 2_000, 40


class Number(str):
    """A number as it was written."""

    __slots__ = ()


@dataclass(frozen=True)
class Unread:
    """A value that is not read, and why."""

    why: str


#: There is none.
ABSENT = Unread("")


def decode(data: bytes | None, size: int | None, content_type: str | None) -> Any:
    """The value in some bytes that are plain JSON; an :class:`Unread` of anything else."""
    if size is None or (data is not None and not data):
        return ABSENT
    if data is None:
        return Unread(f"{_bytes(size)}: too large to be shown here")
    try:
        return read_json(data)
    except (ValueError, RecursionError):
        kind = content_type or "unknown type"
        return Unread(f"{_bytes(size)} of {kind}: only plain JSON is read here")


def read_json(data: bytes | str) -> Any:
    """A value from JSON, its numbers as they were written. Raises ValueError, RecursionError."""
    return json.loads(data, parse_int=Number, parse_float=Number, parse_constant=Number)


def write_json(value: Any) -> str:
    """JSON that has numbers as they were written, and a text where a value was hidden."""
    return "".join(_written(value, "\n"))


def _written(value: Any, line: str) -> Iterator[str]:
    if isinstance(value, Number):
        yield value
    elif isinstance(value, Hidden):
        yield json.dumps(repr(value))
    elif isinstance(value, Mapping) and value:
        for index, (key, each) in enumerate(value.items()):
            yield f"{',' if index else '{'}{line}  {json.dumps(str(key))}: "
            yield from _written(each, f"{line}  ")
        yield f"{line}}}"
    elif isinstance(value, (list, tuple)) and value:
        for index, each in enumerate(value):
            yield f"{',' if index else '['}{line}  "
            yield from _written(each, f"{line}  ")
        yield f"{line}]"
    else:
        yield json.dumps(value, default=str)


@dataclass(frozen=True)
class Item:
    """A value in a tree that is shown."""

    #: Its key or its place; empty for the value as a whole.
    label: str
    #: ``text``, ``number``, ``word`` (true, false, null), ``list``, ``object``, ``hidden``,
    #: ``typed`` (a date, a UUID, ... as Celery's JSON has it) or ``more`` (what is not shown).
    kind: str
    text: str
    items: tuple[Item, ...] = ()
    #: How many entries it has, or characters that are not shown.
    size: int = 0


def tree(value: Any, label: str = "") -> Item:
    """A value as a tree, cut where it is large."""
    return _Tree().item(value, label, 0)


def is_cut(item: Item) -> bool:
    """True if a tree lacks something of its value."""
    if item.kind == "more" or (item.size and item.kind not in ("list", "object")):
        return True
    return any(map(is_cut, item.items))


def arguments(values: Sequence[Any], names: Sequence[str] = ()) -> Item:
    """Positional arguments, with the names of the parameters as far as they are known."""
    growing = _Tree()
    items = tuple(
        growing.item(each, names[index] if index < len(names) else str(index), 1)
        for index, each in enumerate(islice(values, MOST_ENTRIES))
    )
    return Item("", "list", "", (*items, *_more(len(values))), len(values))


def _more(size: int) -> tuple[Item, ...]:
    if size <= MOST_ENTRIES:
        return ()
    return (Item("", "more", f"{size - MOST_ENTRIES:,} more", size=size - MOST_ENTRIES),)


class _Tree:
    def __init__(self) -> None:
        self.count = 0

    def item(self, value: Any, label: str, depth: int) -> Item:
        self.count += 1
        label = visible(label[:LONGEST])
        if isinstance(value, Hidden):
            return Item(label, "hidden", repr(value))
        if isinstance(value, Number):
            text, size = _cut(value)
            return Item(label, "number", text, size=size)
        if isinstance(value, bool) or value is None:
            return Item(label, "word", json.dumps(value))
        if isinstance(value, (int, float)):
            return Item(label, "number", repr(value))
        if isinstance(value, Mapping):
            return self._object(value, label, depth)
        if isinstance(value, (list, tuple)):
            entries = ((str(index), each) for index, each in enumerate(value))
            return self._branch("list", entries, len(value), label, depth)
        text, size = _cut(str(value))
        return Item(label, "text", text, size=size)

    def _object(self, value: Mapping[Any, Any], label: str, depth: int) -> Item:
        if value.keys() == {"__type__", "__value__"}:
            inner = value["__value__"]
            if not isinstance(inner, (Mapping, list)):
                text, size = _cut(str(inner))
                return Item(
                    label, "typed", f"{visible(str(value['__type__'])[:100])} {text}", (), size
                )
        entries = ((str(key), each) for key, each in value.items())
        return self._branch("object", entries, len(value), label, depth)

    def _branch(
        self, kind: str, entries: Iterator[tuple[str, Any]], size: int, label: str, depth: int
    ) -> Item:
        if depth >= DEEPEST or self.count >= MOST_ITEMS:
            return Item(
                label, kind, "", (Item("", "more", f"{size:,} not shown"),) if size else (), size
            )
        items = tuple(
            self.item(each, key, depth + 1) for key, each in islice(entries, MOST_ENTRIES)
        )
        return Item(label, kind, "", (*items, *_more(size)), size)


def _cut(text: str) -> tuple[str, int]:
    """The beginning of a text, and how many characters are missing."""
    return visible(text[:LONGEST]), max(0, len(text) - LONGEST)


#: Of category Cf, and needed to write: joiners of emoji and of Persian, and the soft hyphen.
_HARMLESS = {"\u200c", "\u200d", "\xad"}
_ESCAPED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str) -> str:
    """A text whose invisible characters can be seen: ``\\x00``, ``\\u202e``.

    Those are control characters other than line breaks and tabs, changes of the writing direction,
    and halves of characters, which no page can hold.
    """
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or char in "\n\t" or char in _HARMLESS
        else _escaped(char)
        if unicodedata.category(char) in _ESCAPED
        else char
        for char in text
    )


def _escaped(char: str) -> str:
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _bytes(size: int) -> str:
    """``12 bytes``, ``3.2 MB``."""
    if size < 1000:
        return f"{size} bytes"
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= one:
            return f"{size / one:.3g} {unit}"
    return f"{size} bytes"


def call(task: str, args: Sequence[Any], kwargs: Mapping[str, Any], module: str = "") -> str:
    """A test that runs the task with these arguments, as Python."""
    package, _, name = task.rpartition(".")
    package = module or package
    is_named = name.isidentifier() and all(part.isidentifier() for part in package.split("."))
    lines = ["from pgjobs_celery.testing import perform_job"]
    if is_named:
        lines.append(f"from {package} import {name}")
        word, target = name, name
    else:
        word, target = "task", f"app.tasks[{task!r}]"
    words = [target]
    if args:
        words.append(literal(args))
    if kwargs:
        words.append(f"kwargs={literal(kwargs)}")
    lines += ["", "", f"def test_{word}():", f"    performed = perform_job({', '.join(words)})"]
    lines.append('    assert performed.outcome == "completed"')
    return visible("\n".join(lines) + "\n")


def literal(value: Any) -> str:
    """A value from JSON as a literal of Python."""
    if isinstance(value, Hidden):
        return "..."
    if isinstance(value, Number):
        return f'float("{value}")' if value.lstrip("-") in ("NaN", "Infinity") else str(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{str(k)!r}: {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(literal, value)) + "]"
    return repr(value)

"""Filters as one line of text, as people type them into a search box.

state:discarded task:mail.send tags:vip kwargs.user_id:7 newer_than:1h 6c8b3c1e

The words are those of ``jobs(app).filter()`` and of ``celery pgjobs jobs``; a word without a name
is the beginning of a task id. docs/reference/search.md is the reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ..errors import InvalidOption, PgJobsError
from ..job.checks import did_you_mean
from ..job.spelling import read_attempts, read_duration, write_attempts, write_duration
from ..job.states import State
from .filters import FILTERS, Filters, text, to_json

#: How long a search may be, in characters: it stands in the address of a page.
LONGEST = 4000
#: How long a path is that is suggested.
LONGEST_PATH = 100
#: How much of a word an error shows.
_SHOWN = 60

#: Names that people know from the command line.
ALIASES = {"tag": "tags"}

_DURATIONS = frozenset({"older_than", "newer_than", "finished_before", "finished_after"})
_OBJECTS = frozenset({"kwargs", "meta", "stamps"})

_QUOTED = r'"(?:[^"\\]|\\.)*"'
#: A name, a path in what it names, and a colon.
_HEAD = re.compile(rf'([A-Za-z][A-Za-z_-]*)((?:\.(?:{_QUOTED}|[^\s.:"]+))*):', re.DOTALL)
_STEP = re.compile(rf'\.({_QUOTED}|[^\s.:"]+)', re.DOTALL)
_WORD = re.compile(r"\S+")
_SPACE = re.compile(r"\s*")
#: One of several values: it needs no quotes.
_PLAIN = re.compile(r'[^\s,"]+')
_DECODER = json.JSONDecoder(strict=False)


class InvalidSearch(InvalidOption):
    """A search that cannot be read."""

    def __init__(self, complaint: str, word: str = "", at: int = 0) -> None:
        shown = word if len(word) <= _SHOWN else f"{word[:_SHOWN]}…"
        super().__init__(f"{complaint} (in {shown!r})" if word else complaint)
        #: The error, without the word.
        self.complaint = complaint
        #: The word that is wrong; empty if it is none in particular.
        self.word = word
        #: Where it begins, in characters from 0.
        self.at = at

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.complaint, self.word, self.at)


@dataclass(frozen=True)
class Search:
    """A text that was read: filters, and beginnings of ids of which any will do."""

    filters: Filters = field(default_factory=Filters)
    beginnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The text in its one canonical form: read again, it means the same."""
        return write(self)


def parse(text: str) -> Search:
    """The filters that a text means. Raises InvalidSearch: what is wrong with which word.

    A name that stands twice adds its values, as with the options of the command line: of queues any
    will do, of tags all must be there. What is in an object and two ages must both hold.
    """
    if len(text) > LONGEST:
        raise InvalidSearch(f"a search may have {LONGEST:,} characters, not {len(text):,}")
    return _Reader(text).read()


class _Reader:
    """Reads a text from the left to the right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        #: Where the word begins that is being read.
        self._start = 0
        self._given: dict[str, Any] = {}
        self._beginnings: dict[str, None] = {}

    def read(self) -> Search:
        while self._skip_space():
            self._start = self._at
            if head := _HEAD.match(self._text, self._at):
                self._at = head.end()
                self._read_filter(head[1], head[2])
            else:
                self._beginnings[self._read_beginning()] = None
        return Search(Filters(self._given), tuple(self._beginnings))

    def _skip_space(self) -> bool:
        """True if there is more behind it."""
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._at < len(self._text)

    def _read_beginning(self) -> str:
        word = self._read_quoted() if self._text[self._at] == '"' else self._read_word()
        self._expect_end()
        if not word:
            self._refuse("a beginning of an id must not be empty")
        try:
            return text("an id", word)
        except InvalidOption as error:
            self._refuse(str(error))

    def _read_filter(self, given: str, path: str) -> None:
        name = given.lower().replace("-", "_")
        name = ALIASES.get(name, name)
        if name not in FILTERS:
            near = did_you_mean(name, [*FILTERS, *ALIASES])
            self._refuse(
                f"there is no filter {given!r}{near or '; an id with a colon needs quotes'}"
            )
        if path and name not in _OBJECTS:
            self._refuse(f"{name} takes no path: write {name}:…")
        if self._at >= len(self._text) or self._text[self._at].isspace():
            self._refuse(f"{given} needs a value behind the colon")
        try:
            self._add(name, self._value(name, [_step(step) for step in _STEP.findall(path)]))
        except InvalidSearch:
            raise
        except PgJobsError as error:
            self._refuse(str(error))

    def _value(self, name: str, path: list[str]) -> Any:
        """The value of the filter, as ``jobs(app).filter()`` would be."""
        if name in _DURATIONS:
            return read_duration(self._read_word())
        if name == "attempt":
            return read_attempts(self._read_word())
        if name == "args" or name in _OBJECTS:
            value = self._read_json()
            if name == "args":
                return value if isinstance(value, list) else [value]
            for step in reversed(path):
                value = {step: value}
            return value
        return self._read_values()

    def _add(self, name: str, value: Any) -> None:
        new = FILTERS[name].read(name, value)
        old = self._given.get(name)
        if old is None:
            self._given[name] = new
        elif name in _OBJECTS:
            self._given[name] = self._merge(old, new, name)
        elif isinstance(old, frozenset) and isinstance(new, frozenset):
            self._given[name] = old | new
        else:
            self._given[name] = FILTERS[name].both(old, new)

    def _merge(self, old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> dict[str, Any]:
        merged = dict(old)
        for key, value in new.items():
            if key not in merged or merged[key] == value:
                merged[key] = value
            elif isinstance(merged[key], Mapping) and isinstance(value, Mapping):
                merged[key] = self._merge(merged[key], value, f"{path}.{key}")
            else:
                self._refuse(f"{path}.{key} cannot be {merged[key]!r} and {value!r} at once")
        return merged

    def _read_values(self) -> list[str]:
        """Values with commas between them, in quotes where they need them."""
        values = []
        while True:
            if self._text.startswith('"', self._at):
                values.append(self._read_quoted())
            elif found := _PLAIN.match(self._text, self._at):
                values.append(found[0])
                self._at = found.end()
            else:
                self._refuse("a value is missing beside a comma")
            if not self._text.startswith(",", self._at):
                self._expect_end()
                return values
            self._at += 1

    def _read_json(self) -> Any:
        """A list, an object or a text in quotes as in JSON, or a word: a number, or a text."""
        if self._text[self._at] in '"[{':
            value = self._read_decoded()
            self._expect_end()
            return value
        return _number_or_text(self._read_word())

    def _read_quoted(self) -> str:
        return str(self._read_decoded())

    def _read_decoded(self) -> Any:
        try:
            value, self._at = _DECODER.raw_decode(self._text, self._at)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "nested too deeply")
            self._refuse(f"this is not complete as JSON: {reason}", is_rest=True)
        return value

    def _read_word(self) -> str:
        found = _WORD.match(self._text, self._at)
        if not found:
            self._refuse("a value is missing")
        self._at = found.end()
        return found[0]

    def _expect_end(self) -> None:
        if self._at < len(self._text) and not self._text[self._at].isspace():
            self._refuse('a quote or a comma stands where it cannot: write "…" around the value')

    def _refuse(self, complaint: str, *, is_rest: bool = False) -> NoReturn:
        end = _WORD.match(self._text, max(self._at, self._start))
        word = self._text[self._start : end.end() if end else self._at]
        if is_rest:
            word = self._text[self._start :]
        raise InvalidSearch(complaint, word, self._start) from None


def _step(written: str) -> str:
    return str(json.loads(written, strict=False)) if written.startswith('"') else written


def _number_or_text(word: str) -> Any:
    """A number, true, false and null as JSON has them; all else is a text."""
    try:
        value = json.loads(word, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return word
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


# Write


def write(search: Search) -> str:
    """The text that :func:`parse` reads as this search.

    Raises InvalidOption for filters that no job can meet, which no text means.
    """
    if search.filters.is_impossible:
        raise InvalidOption("no search means: none at all")
    words = [word for name, value in search.filters.given.items() for word in _words(name, value)]
    return " ".join([*words, *map(_bare, search.beginnings)])


def write_word(name: str, value: Any) -> str:
    """A filter with one value as a word of a search: for links to what is in a row."""
    return " ".join(_words(name, Filters().narrow(**{name: value}).given[name]))


def _words(name: str, value: Any) -> list[str]:
    if name in _DURATIONS:
        return [f"{name}:{write_duration(value)}"]
    if name == "attempt":
        return [f"{name}:{write_attempts(value)}"]
    if name == "args":
        return [f"{name}:{_quote(json.loads(to_json(name, value)))}"]
    if name in _OBJECTS:
        plain = json.loads(to_json(name, value))
        return [f"{name}.{_key(key)}:{_as_json(each)}" for key, each in plain.items()]
    values = sorted(each.value if isinstance(each, State) else each for each in value)
    return [f"{name}:{','.join(map(_one_of, values))}"]


def _key(key: str) -> str:
    return key if re.fullmatch(r'[^\s.:"]+', key) else _quote(key)


def _one_of(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else _quote(value)


def _as_json(value: Any) -> str:
    is_plain = (
        isinstance(value, str)
        and _WORD.fullmatch(value)
        and value[0] not in '"[{'
        and _number_or_text(value) == value
        and isinstance(_number_or_text(value), str)
    )
    return str(value) if is_plain else json.dumps(value, ensure_ascii=False)


def _bare(beginning: str) -> str:
    is_plain = _WORD.fullmatch(beginning) and beginning[0] != '"' and not _HEAD.match(beginning)
    return beginning if is_plain and '"' not in beginning else _quote(beginning)


def _quote(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def paths(path: str, given: Mapping[str, Any], depth: int = 3) -> Iterator[str]:
    """The path to each plain value in an object, as a search has it: ``kwargs.user_id``."""
    for key, value in given.items():
        here = f"{path}.{_key(key)}"
        if isinstance(value, Mapping):
            if depth > 1:
                yield from paths(here, value, depth - 1)
        elif not isinstance(value, list) and len(here) <= LONGEST_PATH:
            yield here

"""Which values of a row may be shown: secrets are taken out here, on the server.

By key, wherever it stands in arguments, meta and results; by task, where all that is given to it is
secret; and by a hook of one's own. A value that was hidden is hidden in errors and tracebacks, too.
"""

from __future__ import annotations

import fnmatch
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidOption

#: Words that make a key secret, alone or among others: ``db_password``, ``X-Auth-Token``.
KEYS = (
    "access_key", "api_key", "apikey", "auth", "authorization", "cookie", "credential",
    "credentials", "cvc", "cvv", "iban", "jwt", "otp", "passphrase", "passwd", "password",
    "pin", "private_key", "pwd", "secret", "secrets", "session_id", "sessionid", "signature",
    "ssn", "token", "tokens",
)  # fmt: skip

#: Words after which a key tells of a secret, and is none: ``token_count``, ``max_tokens``.
_HARMLESS = {"count", "counts", "max", "min", "total", "limit", "length", "size", "used", "usage"}

#: The text that stands in place of a value.
MASK = "[hidden]"
#: A hidden text is looked for in errors from so many characters on: a shorter one is in many words.
SHORTEST = 4
#: How many hidden texts are looked for, and how deep values are followed.
MOST_HIDDEN, DEEPEST = 200, 60
#: How much of the beginning of a hidden text, before a cut, is compared character by character.
LONGEST_BEGINNING = 1000

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
#: Secrets that tell by themselves what they are: of a URL, of a header, a JSON web token, a key.
#: A token is looked for near the beginning of a run of its characters only: to begin at each place
#: of a long run would take the square of its length.
_TELLING = re.compile(
    r"(?P<url>\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{0,100}:)(?P<password>[^\s/@]{1,200})(?=@)"
    r"|\b(?P<scheme>Bearer|Basic)\s+(?P<credential>[A-Za-z0-9+/._~=-]{8,})"
    r"|(?<![A-Za-z0-9_-])(?P<before>[A-Za-z0-9_-]{0,40}?)"
    r"(?P<jwt>eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*)"
    r"|(?P<pem>-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z))",
    re.DOTALL,
)

#: Is told the task, the part (``args``, ``kwargs``, ``meta``, ``result``) and the value; returns
#: what may be shown of it.
Hook = Callable[[str, str, Any], Any]


class Hidden:
    """Stands where a value was that may not be shown."""

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hidden)

    def __hash__(self) -> int:
        return hash(Hidden)


HIDDEN = Hidden()


@dataclass(frozen=True)
class Redaction:
    """The values to hide.

    ``keys`` are words that make a key secret, or the name of a positional argument; case, ``_`` and
    ``-`` do not count. ``tasks`` are names of tasks, ``*`` and ``?`` allowed, with the keys that
    are secret in them, or True for all that they are given and give. ``hook`` is called at last.
    """

    keys: Collection[str] = KEYS
    tasks: Mapping[str, bool | Collection[str]] = field(default_factory=dict)
    hook: Hook | None = None

    def __post_init__(self) -> None:
        if isinstance(self.keys, str):
            raise InvalidOption(f"keys must be a list of words, not the text {self.keys!r}")
        for task, keys in self.tasks.items():
            if isinstance(keys, str):
                raise InvalidOption(f"the keys of {task!r} must be a list, not the text {keys!r}")

    def of(self, task: str) -> Redactor:
        """Hides what is secret in a job of this task."""
        own: list[str] = []
        hides_all = False
        for pattern, keys in self.tasks.items():
            if fnmatch.fnmatchcase(task, pattern):
                if keys is True:
                    hides_all = True
                elif keys:
                    own += keys
        return Redactor(task, (*self.keys, *own), hides_all, self.hook)

    def of_any(self) -> Redactor:
        """Hides what is secret in a job of whichever task."""
        own = [key for keys in self.tasks.values() if not isinstance(keys, bool) for key in keys]
        hides_all = any(keys is True for keys in self.tasks.values())
        return Redactor("", (*self.keys, *own), hides_all, self.hook)


class Redactor:
    """Hides what is secret in one job. Show values first: texts are shown without their secrets."""

    def __init__(
        self, task: str, keys: Iterable[str], hides_all: bool, hook: Hook | None = None
    ) -> None:
        self.task = task
        self.hides_all = hides_all
        self._hook = hook
        self._keys = {words for key in keys if (words := _words(key))}
        self._longest = max(map(len, self._keys), default=0)
        self._known: dict[str, bool] = {}
        self._hidden: set[str] = set()
        self._looked_for: _LookedFor | None = None
        #: A secret is too short to be looked for in texts.
        self._has_short = False
        #: There are more secrets than are looked for: no text can be told to have none.
        self._has_more = False

    def is_secret(self, key: str) -> bool:
        """True if what stands under this key may not be shown."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._is_secret(_words(key[:200]))
        return known

    def _is_secret(self, words: tuple[str, ...]) -> bool:
        if _HARMLESS.intersection(words):
            return words in self._keys
        return any(
            words[start : start + length] in self._keys
            for length in range(1, self._longest + 1)
            for start in range(len(words) - length + 1)
        )

    def given(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], names: Sequence[str] = ()
    ) -> tuple[list[Any], Any]:
        """Arguments and keyword arguments; what is secret in one is so in the other."""
        for index, value in enumerate(args):
            if self._hides(index, names):
                self._remember(value, 0)
            else:
                self.learn(value)
        shown = self.value("kwargs", kwargs)
        return self.args(args, names), shown

    def args(self, values: Sequence[Any], names: Sequence[str] = ()) -> list[Any]:
        """Positional arguments; ``names`` are those of the task's parameters, as far as known."""
        shown = [
            self._hide(value) if self._hides(index, names) else self._walk(value, 0)
            for index, value in enumerate(values)
        ]
        return list(self._asked("args", shown))

    def _hides(self, index: int, names: Sequence[str]) -> bool:
        """True if the positional argument at this place is secret."""
        return self.hides_all or (index < len(names) and self.is_secret(names[index]))

    def learn(self, value: Any, depth: int = 0) -> None:
        """Remember what is secret in a value that is shown later, or not at all."""
        if not isinstance(value, (dict, list, tuple)):
            return
        if depth > DEEPEST:
            self._has_more = True  # what stands there was not looked at
        elif isinstance(value, dict):
            for key, each in value.items():
                if self.is_secret(str(key)):
                    self._remember(each, 0)
                else:
                    self.learn(each, depth + 1)
        else:
            for each in value:
                self.learn(each, depth + 1)

    def value(self, part: str, value: Any) -> Any:
        """A value of that part: ``kwargs``, ``meta`` or ``result``."""
        self.learn(value)
        if self.hides_all and part != "meta":
            return self._asked(part, self._each(value) if part == "kwargs" else self._hide(value))
        return self._asked(part, self._walk(value, 0))

    def text(self, text: str) -> str:
        """A text, such as an error's message, without what was hidden elsewhere."""
        if self.hides_all:
            return MASK if text else text
        return self._cleaned(text)

    def _cleaned(self, text: str) -> str:
        if self._has_more:
            return MASK if text else text
        shown = _TELLING.sub(_masked, text)
        if self._looked_for is None:
            self._looked_for = _LookedFor(self._hidden)
        return self._looked_for.hidden_in(shown)

    def spelled(self, text: str) -> str:
        """Arguments as their publisher wrote them for people; nothing where that may tell."""
        return MASK if self._has_short else self.text(text)

    def traceback(self, text: str) -> str:
        """A traceback; of a task whose values are all secret, the places only."""
        return self.places(text) if self.hides_all or self._has_more else self.text(text)

    def places(self, text: str) -> str:
        """The places that a traceback names, and nothing else of it."""
        return "\n".join(line for line in text.splitlines() if _PLACE.match(line))

    def _asked(self, part: str, value: Any) -> Any:
        return value if self._hook is None else self._hook(self.task, part, value)

    def _walk(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            # A number that was read is a str, too.
            return self._cleaned(value) if type(value) is str else value
        if not isinstance(value, (dict, list, tuple)):
            return value
        if depth > DEEPEST:
            return HIDDEN  # what stands there was not looked at
        if isinstance(value, dict):
            return {
                key: self._hide(each) if self.is_secret(str(key)) else self._walk(each, depth + 1)
                for key, each in value.items()
            }
        return [self._walk(each, depth + 1) for each in value]

    def _each(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return self._hide(value)
        return {key: self._hide(each) for key, each in value.items()}

    def _hide(self, value: Any) -> Any:
        """The mask, for a value that is remembered; nothing and truth are no secrets."""
        if value is None or isinstance(value, bool) or value == "":
            return value
        self._remember(value, 0)
        return HIDDEN

    def _remember(self, value: Any, depth: int) -> None:
        if isinstance(value, Mapping):
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            if depth > DEEPEST:
                self._has_more = True
            for each in value if not self._has_more else ():
                self._remember(each, depth + 1)
        elif isinstance(value, bool) or value in (None, ""):
            return
        elif len(text := str(value)) < SHORTEST:
            self._has_short = True
        elif text not in self._hidden:
            if len(self._hidden) >= MOST_HIDDEN:
                self._has_more = True
                return
            # As it stands in the repr of an error's arguments, too.
            self._hidden.update((text, repr(text)[1:-1]))
            self._looked_for = None


class _LookedFor:
    """Texts that are hidden in others, made ready to be looked for in many of them."""

    def __init__(self, hidden: Iterable[str]) -> None:
        self._longest_first = sorted(hidden, key=len, reverse=True)
        self._sorted = sorted(self._longest_first)
        self._beginnings = {each[:SHORTEST] for each in self._sorted}
        self._long = {
            each[:LONGEST_BEGINNING]
            for each in self._longest_first
            if len(each) > LONGEST_BEGINNING
        }

    def hidden_in(self, text: str) -> str:
        """The text with the mask in their place."""
        # Most texts are short and hold none: these do not pay for each secret.
        if len(text) < len(self._sorted) and self._beginnings.isdisjoint(
            text[at : at + SHORTEST] for at in range(len(text) - SHORTEST + 1)
        ):
            return text
        for secret in self._longest_first:
            text = text.replace(secret, MASK)
        if "..." not in text:
            return text
        *cut, last = text.split("...")
        return "...".join([*map(self._without_beginning, cut), last])

    def _without_beginning(self, part: str) -> str:
        """A text that was cut may end in the first part of a secret."""
        if len(part) >= LONGEST_BEGINNING:
            places = [at for each in self._long if (at := part.find(each)) >= 0]
            if places:
                return part[: min(places)] + MASK
        for at in range(max(0, len(part) - LONGEST_BEGINNING), len(part) - SHORTEST + 1):
            if part[at : at + SHORTEST] in self._beginnings and self._is_beginning(part[at:]):
                return part[:at] + MASK
        return part

    def _is_beginning(self, text: str) -> bool:
        place = bisect_left(self._sorted, text)
        return place < len(self._sorted) and self._sorted[place].startswith(text)


_PLACE = re.compile(r'Traceback |  File "')


def _words(key: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORDS.findall(key))


def _masked(found: re.Match[str]) -> str:
    if found["url"] is not None:
        return found["url"] + MASK
    if found["scheme"] is not None:
        return f"{found['scheme']} {MASK}"
    return f"{found['before'] or ''}{MASK}"

"""When two jobs are equal: which fields count, for how long, and in which states."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any, NamedTuple

from kombu.utils import json as kombu_json

from ..errors import InvalidOption, UnknownOption
from .checks import did_you_mean, is_number
from .states import WAITING, State

#: The fields that may tell jobs apart; ``args`` are the arguments by name, however passed.
FIELDS = ("task", "queue", "args", "meta")
#: The fields that may be replaced in a waiting job.
REPLACEABLE = ("args", "queue", "priority", "eta", "max_attempts", "tags", "meta")

#: A longer period, in seconds, is for ever: a hundred years. PostgreSQL cannot compute more.
LONGEST_PERIOD = 100 * 365 * 86_400.0

_INCOMPLETE = (State.SCHEDULED, State.AVAILABLE, State.EXECUTING, State.RETRYABLE)
#: Names for sets of states; Oban's but for the last.
GROUPS: dict[str, tuple[State, ...]] = {
    "all": tuple(State),
    "incomplete": _INCOMPLETE,
    "successful": (*_INCOMPLETE, State.COMPLETED),
    "scheduled": (State.SCHEDULED,),
    "waiting": (State.SCHEDULED, State.AVAILABLE, State.RETRYABLE),
}


@dataclass(frozen=True)
class Unique:
    """A job is not published while another, equal one exists.

        @app.task(base=PgTask, unique=Unique(period=3600, keys=["user_id"]))

    The names and defaults are Oban's. Raises InvalidOption for a value without a meaning.
    """

    #: How long a job counts after it was published: seconds, a timedelta, or None for as long as
    #: its row is kept.
    period: float | timedelta | None = 60.0
    #: The fields that must be equal: any of ``task``, ``queue``, ``args`` and ``meta``.
    fields: Sequence[str] = ("task", "queue", "args")
    #: The arguments that count (or keys of ``meta``, if only that counts); empty for all.
    keys: Sequence[str] = ()
    #: The states in which it counts: a list, or "all", "incomplete", "successful", "scheduled" or
    #: "waiting" (scheduled, available, retryable).
    states: str | Sequence[str | State] = "successful"
    #: The fields of the waiting job that the new one's replace: any of ``args``, ``queue``,
    #: ``priority``, ``eta``, ``max_attempts``, ``tags`` and ``meta``; or a mapping of states to
    #: such lists.
    replace: Sequence[str] | Mapping[str, Sequence[str]] = ()
    #: Where ``eta`` is replaced: how long a job may be moved at most, counted from when it was
    #: published or, if it has begun since, from its last attempt. Seconds, a timedelta, or None
    #: for any time.
    max_wait: float | timedelta | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "period", _check_period(self.period))
        set_field(self, "fields", _check_names("fields", self.fields, FIELDS))
        if not self.fields:
            raise InvalidOption("unique: fields must name at least one field")
        set_field(self, "keys", _check_texts("keys", self.keys))
        if self.keys and not {"args", "meta"} & set(self.fields):
            raise InvalidOption("unique: keys are those of args or meta; fields names neither")
        set_field(self, "states", _check_states(self.states))
        set_field(self, "replace", _check_replace(self.replace))
        set_field(self, "max_wait", _check_period(self.max_wait, name="max_wait"))

    @property
    def seconds(self) -> float | None:
        """``period`` in seconds."""
        assert not isinstance(self.period, timedelta)
        return self.period

    def replaced(self, state: State) -> Sequence[str]:
        """The fields to replace of a job in this state; none once it runs."""
        if state not in WAITING:
            return ()
        if isinstance(self.replace, Mapping):
            return self.replace.get(state.value, ())
        return self.replace

    def __json__(self) -> dict[str, Any]:
        """The form in which a signature carries it to another process (for kombu's JSON)."""
        return {
            "period": self.period,
            "fields": list(self.fields),
            "keys": list(self.keys),
            "states": list(self.states),
            "replace": self.replace if isinstance(self.replace, Mapping) else list(self.replace),
            "max_wait": self.max_wait,
        }

    @property
    def countdown(self) -> float | None:
        """Seconds that a job waits which is published without a time; None for not at all."""
        return None

    @property
    def latest(self) -> float | None:
        """``max_wait`` in seconds."""
        assert not isinstance(self.max_wait, timedelta)
        return self.max_wait

    def to_header(self, digest: bytes) -> dict[str, Any]:
        """The rule and its digest for one job, as the message carries them."""
        fields = Unique.__json__(self)
        return {
            "key": digest.hex(),
            "queue": "queue" in self.fields,
            **{name: fields[name] for name in ("period", "states", "replace")},
            **({} if self.max_wait is None else {"max_wait": self.max_wait}),
        }

    def digest(self, task: str, arguments: Any, meta: Mapping[str, Any]) -> bytes:
        """A hash that equal jobs share. The queue is left out: it is not known until the task is
        routed. Raises InvalidOption for arguments that JSON cannot hold.
        """
        parts: dict[str, Any] = {}
        if "task" in self.fields:
            parts["task"] = task
        if "args" in self.fields:
            parts["args"] = _only(self.keys, arguments)
        if "meta" in self.fields:
            parts["meta"] = meta if "args" in self.fields else _only(self.keys, meta)
        try:
            text = kombu_json.dumps(parts, sort_keys=True)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidOption(
                f"unique: the arguments of {task} cannot be compared ({error}); name those that "
                "count in keys"
            ) from None
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, init=False)
class Debounce(Unique):
    """A job waits for ``seconds``; each further call until then replaces it and waits anew.

        @app.task(base=PgTask, unique=Debounce(30, keys=["product_id"]))

    So it runs once, with the arguments of the last call, when ``seconds`` have passed without
    another. ``max_wait`` limits how long it may be put off; as long as ``seconds``, it has the job
    run at most once in ``seconds``, with the last arguments. A job that runs does not count.
    Raises InvalidOption for a value without a meaning.
    """

    #: How long a job waits, in seconds, unless its call has a countdown or an eta.
    wait: float = 0.0

    def __init__(
        self,
        seconds: float | timedelta,
        keys: Sequence[str] = (),
        *,
        max_wait: float | timedelta | None = None,
        fields: Sequence[str] | None = None,
        replace: Sequence[str] | Mapping[str, Sequence[str]] = REPLACEABLE,
    ) -> None:
        wait = _check_period(seconds, "Debounce", "seconds")
        if wait is None:
            raise InvalidOption(f"Debounce waits for seconds, at most 100 years, not {seconds!r}")
        object.__setattr__(self, "wait", wait)
        if fields is None:  # without keys all calls of the task are the same
            fields = ("task", "queue", "args") if keys else ("task", "queue")
        super().__init__(None, fields, keys, "waiting", replace, max_wait)

    @property
    def countdown(self) -> float | None:
        return self.wait

    def __json__(self) -> dict[str, Any]:
        form = {"seconds": self.wait, **super().__json__()}
        return {name: value for name, value in form.items() if name not in ("period", "states")}


def as_unique(value: Any, base: Unique | None = None) -> Unique | None:
    """The rule that a task or call declares: a Unique or Debounce; a mapping of options (missing
    ones are those of ``base``); True for "as long as the first one's row is kept"; or none.

    Raises InvalidOption and UnknownOption.
    """
    if value is None or value is False:
        return None
    if value is True:
        return Unique(period=None)
    if isinstance(value, Mapping):
        is_debounce = "seconds" in value or isinstance(base, Debounce)
        kind: type[Unique] = Debounce if is_debounce else Unique
        known = list(signature(kind).parameters)
        given = {**(base.__json__() if type(base) is kind else {}), **value}
        for name in value:
            if name not in known:
                near = did_you_mean(str(name), known)
                raise UnknownOption(f"{kind.__name__.lower()} has no option {name!r}{near}")
        return kind(**given)
    if not isinstance(value, Unique):
        raise InvalidOption(f"unique must be a Unique(...) or Debounce(...), not {value!r}")
    return value


class UniqueJob(NamedTuple):
    """The uniqueness of one job: its rule and its digest."""

    rule: Unique
    digest: bytes

    def key(self, queue: str) -> bytes:
        """The key that only one row may have."""
        if "queue" not in self.rule.fields:
            return self.digest
        return hashlib.sha256(self.digest + queue.encode("utf-8", "surrogatepass")).digest()


def read_unique(header: Any) -> UniqueJob:
    """The reverse of :meth:`Unique.to_header`. Raises InvalidOption."""
    try:
        rule = Unique(
            period=header["period"],
            fields=("task", "queue") if header["queue"] else ("task",),
            states=header["states"],
            replace=header["replace"],
            max_wait=header.get("max_wait"),
        )
        return UniqueJob(rule, bytes.fromhex(header["key"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidOption(f"unique is not what a task would publish: {error!r}") from None


def _only(keys: Sequence[str], values: Any) -> Any:
    if not keys:
        return values
    if not isinstance(values, Mapping):
        raise InvalidOption(
            f"unique: keys {list(keys)} need arguments that can be told by name: {values!r}"
        )
    return {key: values[key] for key in keys if key in values}


def _check_period(period: Any, what: str = "unique", name: str = "period") -> float | None:
    if period is None:
        return None
    seconds = period.total_seconds() if isinstance(period, timedelta) else period
    if not is_number(seconds) or not seconds > 0:
        raise InvalidOption(
            f"{what}: {name} must be seconds above 0, a timedelta, or None, not {period!r}"
        )
    return None if seconds > LONGEST_PERIOD else float(seconds)


def _check_texts(what: str, names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise InvalidOption(f"unique: {what} must be a list of names, not {names!r}")
    texts: list[str] = []
    for name in names:
        if not isinstance(name, str) or not name:
            raise InvalidOption(f"unique: {what} must be names, not {name!r}")
        texts.append(str(name))
    return tuple(texts)


def _check_names(what: str, names: Any, known: Sequence[str]) -> tuple[str, ...]:
    checked = _check_texts(what, names)
    for name in checked:
        if name not in known:
            meant = did_you_mean(name, known, 0.5) or f": {', '.join(known)}"
            raise InvalidOption(f"unique: {what} cannot name {name!r}{meant}")
    return checked


def _check_states(states: Any) -> tuple[str, ...]:
    if isinstance(states, str):
        if states not in GROUPS:
            raise InvalidOption(
                f"unique: states must be a list of states, or one of {', '.join(GROUPS)}, "
                f"not {states!r}"
            )
        states = GROUPS[states]
    known = [state.value for state in State]
    checked = _check_names("states", [str(each) for each in states], known)
    if not checked:
        raise InvalidOption("unique: states must name at least one state")
    return checked


def _check_replace(replace: Any) -> tuple[str, ...] | dict[str, tuple[str, ...]]:
    if not isinstance(replace, Mapping):
        return _check_fields(replace)
    chosen = {str(state): _check_fields(names) for state, names in replace.items()}
    waiting = sorted(state.value for state in WAITING)
    for state in chosen:
        if state not in waiting:
            raise InvalidOption(
                f"unique: replace knows the states {', '.join(waiting)}, not {state!r}: nothing is "
                "replaced in a job that runs or has ended"
            )
    return chosen


def _check_fields(names: Any) -> tuple[str, ...]:
    # Oban's word for an eta.
    names = ["eta" if name == "scheduled_at" else name for name in _check_texts("replace", names)]
    return _check_names("replace", names, REPLACEABLE)

"""Options of a job that Celery does not know: checked once, sent in one header."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..errors import InvalidOption, UnknownOption
from .checks import LARGEST_INTEGER, did_you_mean, is_whole_number
from .flow import check_cost
from .flow_options import check_gates
from .idempotency import Idempotency, check_key, check_time, read_idempotency
from .unique import UniqueJob, read_unique

#: The message header they travel in: canvas, ``retry()`` and other brokers keep headers.
HEADER = "pgjobs"

#: The names of the options, in the header too.
NAMES = (
    "max_attempts", "tags", "meta", "unique", "durability", "cost", "idempotency_key",
    "idempotency_for",
)  # fmt: skip
#: Those that become gates, which are named in the header only where the call itself gives them.
FLOW_NAMES = ("rate", "concurrency")
#: The options of a class, a decorator or a call.
OPTIONS = (*NAMES, *FLOW_NAMES)

#: ``durability``: ``delay()`` returns when the job is on the server's disk, or before.
FULL, RELAXED = "full", "relaxed"

#: The greatest number that the column holds.
MOST_ATTEMPTS = LARGEST_INTEGER
#: The longest tag, in characters, and the most of them: they are for people and for filters.
LONGEST_TAG, MOST_TAGS = 255, 100

#: Options of Celery that a misspelt name may mean.
_CELERYS = (
    "acks_late", "autoretry_for", "dont_autoretry_for", "default_retry_delay", "ignore_result",
    "max_retries", "priority", "queue", "rate_limit", "reject_on_worker_lost", "retry_backoff",
    "retry_backoff_max", "retry_jitter", "retry_kwargs", "routing_key", "serializer",
    "soft_time_limit", "throws", "time_limit", "track_started",
)  # fmt: skip
#: How alike two names must be for one to be a slip of the other (difflib's ratio): ``tag`` and
#: ``tags`` 0.86, ``uniq`` and ``unique`` 0.8, ``max_retries`` and ``max_attempts`` 0.52.
_OURS_LIKE, _CELERYS_LIKE = 0.8, 0.9


class JobOptions(NamedTuple):
    """The options of one job."""

    max_attempts: int | None = None
    tags: tuple[str, ...] = ()
    #: As JSON.
    meta: str = "{}"
    unique: UniqueJob | None = None
    #: FULL or RELAXED; None: as its queue has it.
    durability: str | None = None
    #: How many tokens its start takes; None: as its task has it.
    cost: int | None = None
    #: The rates and limits that it has instead of its task's; None: its task's.
    gates: tuple[str, ...] | None = None
    #: The key with which it is published once; None without one.
    idempotency: Idempotency | None = None


def check_names(names: Iterable[str], where: str, known: Iterable[str] = ()) -> None:
    """Raise UnknownOption for a misspelt option: it would have no effect.

    Any other name is the application's: Celery makes it an attribute of the task.
    """
    known = {*known, *OPTIONS, *_CELERYS, "backoff"}
    for name in names:
        if name in known or name.startswith("_"):
            continue
        near = did_you_mean(name, (*OPTIONS, "backoff"), _OURS_LIKE)
        near = near or did_you_mean(name, _CELERYS, _CELERYS_LIKE)
        if near:
            raise UnknownOption(f"{where} has no option {name!r}{near}")


def check_max_attempts(value: Any) -> int:
    """How often a job may start, the first run included. Raises InvalidOption."""
    if not is_whole_number(value, 1, MOST_ATTEMPTS):
        raise InvalidOption(
            f"max_attempts must be a whole number from 1 on (the first run counts), not {value!r}"
        )
    return value


def check_durability(value: Any) -> str:
    """Whether ``delay()`` waits for the disk. Raises InvalidOption."""
    if value not in (FULL, RELAXED):
        raise InvalidOption(
            f"durability must be {FULL!r} (the job is on disk when delay() returns) or "
            f"{RELAXED!r} (a crash of the server may lose it), not {value!r}"
        )
    return str(value)


def attempts_from_retries(max_retries: Any) -> int:
    """Celery's ``max_retries`` as max_attempts: without the first run, and None for any number."""
    if max_retries is None:
        return MOST_ATTEMPTS
    if not is_whole_number(max_retries, 0):
        raise InvalidOption(f"max_retries must be a whole number from 0 on, not {max_retries!r}")
    return min(max_retries + 1, MOST_ATTEMPTS)


def check_exceptions(name: str, value: Any) -> tuple[type[BaseException], ...]:
    """The exceptions that an option names. Raises InvalidOption."""
    kinds = tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else (None,)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise InvalidOption(f"{name} must be a tuple of exception classes, not {value!r}")
    return kinds


def normalise_tags(tags: Any) -> tuple[str, ...]:
    """Tags as Oban keeps them: trimmed, in lower case, each once, in the order given.

    Raises InvalidOption for one that is empty (Oban drops it), too long, or not a text.
    """
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise InvalidOption(f"tags must be a list of texts, not {tags!r}")
    normal: dict[str, None] = {}
    for tag in tags:
        if not isinstance(tag, (str, int)) or isinstance(tag, bool):
            raise InvalidOption(f"a tag must be a text, not {tag!r}")
        text = str(tag).strip().lower()
        if not text:
            raise InvalidOption(f"a tag must not be empty: {tag!r}")
        if len(text) > LONGEST_TAG:
            raise InvalidOption(
                f"a tag may have {LONGEST_TAG} characters, not {len(text)}: {text[:40]}..."
            )
        check_text(text, "a tag")
        normal[text] = None
    if len(normal) > MOST_TAGS:
        raise InvalidOption(f"a job may have {MOST_TAGS} tags, not {len(normal)}")
    return tuple(normal)


def check_meta(meta: Any) -> dict[str, Any]:
    """A mapping that ``jsonb`` can hold. Raises InvalidOption."""
    if not isinstance(meta, Mapping):
        raise InvalidOption(f"meta must be a mapping, not {meta!r}")
    encode_json(meta, "meta")
    return dict(meta)


def encode_json(value: Any, what: str) -> str:
    """``value`` as JSON that PostgreSQL can store. Raises InvalidOption."""
    if value == {}:
        return "{}"
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOption(f"{what} cannot be written as JSON: {error}") from None
    for part in _texts(value):
        check_text(part, what)
    return text


def merge(
    base: Mapping[str, Any], given: Mapping[str, Any], header: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The header of one job. The call's options count first, then the header's, then the task's.

    Tags and meta of the call add to the task's (in Oban they replace them). Raises InvalidOption.
    """
    merged = {**base, **(header or {})}
    if "max_attempts" in given:
        merged["max_attempts"] = check_max_attempts(given["max_attempts"])
    if given.get("tags") is not None:
        tags = normalise_tags([*merged.get("tags", ()), *normalise_tags(given["tags"])])
        merged["tags"] = list(tags)
    if given.get("meta") is not None:
        merged["meta"] = {**merged.get("meta", {}), **check_meta(given["meta"])}
    if given.get("durability") is not None:
        merged["durability"] = check_durability(given["durability"])
    if isinstance(given.get("cost"), int):
        merged["cost"] = check_cost(given["cost"])
    if given.get("idempotency_key") is not None:
        merged["idempotency_key"] = check_key(given["idempotency_key"])
    if given.get("idempotency_for") is not None:
        if "idempotency_key" not in merged:
            raise InvalidOption("idempotency_for is given without an idempotency_key")
        merged["idempotency_for"] = check_time(given["idempotency_for"])
    return merged


def read_options(header: Any) -> JobOptions:
    """The options in a message, which any program may have written. Raises InvalidOption."""
    if header is None:
        return JobOptions()
    if not isinstance(header, Mapping):
        raise InvalidOption(f"the header {HEADER!r} must be a mapping, not {header!r}")
    attempts, unique = header.get("max_attempts"), header.get("unique")
    durability, cost, gates = header.get("durability"), header.get("cost"), header.get("gates")
    return JobOptions(
        None if attempts is None else check_max_attempts(attempts),
        normalise_tags(header.get("tags") or ()),
        encode_json(check_meta(header.get("meta") or {}), "meta"),
        read_unique(unique) if unique else None,
        None if durability is None else check_durability(durability),
        None if cost is None else check_cost(cost),
        None if gates is None else check_gates(gates),
        read_idempotency(header) if "idempotency_key" in header else None,
    )


def published_options(request: Any) -> dict[str, Any]:
    """The header that a running job was published with; one edited by hand into something else
    counts as empty."""
    header = (request.headers or {}).get(HEADER)
    return dict(header) if isinstance(header, Mapping) else {}


def check_text(text: str, what: str) -> None:
    """Raise InvalidOption for a text that PostgreSQL cannot store."""
    if "\x00" in text:
        raise InvalidOption(f"{what} must not contain a NUL character: {text[:40]!r}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidOption(f"{what} must be valid Unicode: {text[:40]!r}") from None


def _texts(value: Any) -> Iterable[str]:
    """Every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)

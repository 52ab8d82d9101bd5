"""The idempotency key of a job: published again with it, it is the job that exists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from ..errors import IdempotencyMismatch, InvalidOption
from .checks import is_number
from .unique import LONGEST_PERIOD

#: The longest key, in characters: Stripe's.
LONGEST_KEY = 255
#: For how long a key counts where neither call nor task says it, in seconds: a week is longer than
#: the senders of webhooks go on trying, which is three days for most.
USUAL_TIME = 7 * 86_400.0


class Idempotency(NamedTuple):
    """A job's key, and how long it counts."""

    key: str
    #: From its publication on, in seconds.
    seconds: float = USUAL_TIME


def check_key(value: Any) -> str:
    """A key as it is kept. Raises InvalidOption."""
    key = str(value) if isinstance(value, UUID) else value
    if not isinstance(key, str):
        raise InvalidOption(f"idempotency_key must be a text or a UUID, not {value!r:.100}")
    if not key.strip():
        raise InvalidOption(f"idempotency_key must not be empty: {key!r:.100}")
    if len(key) > LONGEST_KEY:
        raise InvalidOption(
            f"idempotency_key may have {LONGEST_KEY} characters, not {len(key):,} (take a hash of "
            f"it): {key[:40]!r}..."
        )
    if "\x00" in key:
        raise InvalidOption(f"idempotency_key must not contain a NUL character: {key!r:.100}")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InvalidOption(f"idempotency_key must be valid Unicode: {key!r:.100}") from None
    return str(key)


def check_time(value: Any) -> float:
    """For how long a key counts, in seconds. Raises InvalidOption."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not is_number(seconds) or not seconds > 0:
        raise InvalidOption(
            f"idempotency_for must be seconds above 0, or a timedelta, not {value!r:.100}"
        )
    return min(float(seconds), LONGEST_PERIOD)


def read_idempotency(header: Mapping[str, Any]) -> Idempotency | None:
    """The key in a job's options, if it has one. Raises InvalidOption."""
    key, time = header.get("idempotency_key"), header.get("idempotency_for")
    if key is None:
        return None
    return Idempotency(check_key(key), USUAL_TIME if time is None else check_time(time))


def require_same_arguments(
    task: str, key: str, task_id: str, first: bytes | None, second: bytes | None
) -> None:
    """Raise IdempotencyMismatch where two jobs with a key have other arguments, by their hashes."""
    if first is None or second is None or first == second:
        return
    raise IdempotencyMismatch(
        f"task {task} was published with the idempotency key {key[:40]!r} before, as {task_id}, "
        "and with other arguments: take another key for another job, and pass only what is the "
        "same each time (the id of an event, not all of its delivery)"
    )


def digest_arguments(content_type: str | None, body: bytes) -> bytes | None:
    """A hash that jobs with the same arguments share; None where they are not plain JSON.

    The successors of the job (a chain, callbacks) have new ids each time, and do not count.
    """
    if content_type != "application/json":
        return None
    try:
        args, kwargs, *_ = json.loads(body)
        text = json.dumps([args, kwargs], sort_keys=True)
    except (ValueError, TypeError, RecursionError):
        return None  # compressed, or not what Celery writes
    return hashlib.sha256(text.encode()).digest()

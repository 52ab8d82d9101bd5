"""An entry of ``errors`` as it is read: typed, whatever a hand has written into the row."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, NamedTuple

from .fingerprint import cause_of, fingerprint, own_frame

#: How much is read of a text that may be of any length.
LONGEST = 100_000


class Recorded(NamedTuple):
    """An entry of ``errors`` as far as it tells; None, or empty, for what it does not."""

    attempt: int | None
    began: datetime | None
    at: datetime | None
    worker: str | None
    type: str
    message: str
    module: str | None
    traceback: str | None
    #: The innermost line of the user's own code, as ``app/tasks.py:12 in charge``.
    frame: str | None
    cause: str

    def fingerprint(self, task: str) -> str:
        """The name of the problem, for a job of that task."""
        return fingerprint(task, self.type, self.cause)


def read_entry(entry: Any) -> Recorded:
    """Read what the entry tells. Never raises."""
    if not isinstance(entry, dict):
        entry = {} if entry is None else {"message": entry}
    kind, message = _text(entry.get("type")), _text(entry.get("message"))
    traceback = _text(entry.get("traceback")) or None
    own = None
    cause = entry.get("cause")
    if not isinstance(cause, str):
        own = own_frame(traceback)
        cause = cause_of(kind, message, own)
    attempt = entry.get("attempt")
    is_number = isinstance(attempt, int) and not isinstance(attempt, bool)
    return Recorded(
        attempt=attempt if is_number and 0 <= attempt < 2**31 else None,
        began=read_time(entry.get("began")),
        at=read_time(entry.get("at")),
        worker=_text(entry["worker"]) or None if _is(entry.get("worker")) else None,
        type=kind,
        message=message,
        module=_text(entry.get("module")) or None,
        traceback=traceback,
        frame=_text(entry.get("frame")) or (str(own) if own else None),
        cause=cause,
    )


def read_time(value: Any) -> datetime | None:
    """A time as PostgreSQL writes it into JSON; None where Python cannot read it."""
    found = re.fullmatch(
        r"(.{19})(?:\.(\d{1,6}))?([-+]\d\d:\d\d)", value[:40] if _is(value) else ""
    )
    if found is None:
        return None
    try:
        # Python 3.10 reads three digits of a fraction, or six.
        return datetime.fromisoformat(f"{found[1]}.{(found[2] or '').ljust(6, '0')}{found[3]}")
    except ValueError:
        return None


def _is(value: Any) -> bool:
    return isinstance(value, str)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        try:
            value = json.dumps(value, ensure_ascii=False, default=str)
        except (TypeError, ValueError, RecursionError):
            return ""
    return str(value[:LONGEST])

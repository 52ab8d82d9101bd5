"""Keys and values, as Celery's key-value backends offer them to programs.

    app.backend.set("last-import", "2027-01-31")
    app.backend.get("last-import")          # b"2027-01-31", as on Redis

Celery's own results are not such values here: they stand in the rows of their jobs.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from .row_results import RowResults


class KeyValues(RowResults):
    """The methods of ``celery.backends.base.BaseKeyValueStoreBackend``."""

    #: Celery's mark of a backend whose counting is atomic.
    implements_incr = True

    def get(self, key: str | bytes) -> bytes | None:
        """The value of a key; None if it does not exist."""
        return self.mget([key])[0]

    def mget(self, keys: Iterable[str | bytes]) -> list[bytes | None]:
        """The values of keys, in their order; None for each that does not exist."""
        wanted = [_bytes(key) for key in keys]
        database = self.database
        found = database.retrying(lambda: database.entries.get_entries(wanted)) if wanted else {}
        return [found.get(key) for key in wanted]

    def set(
        self, key: str | bytes, value: Any, expires: float | timedelta | None = None, **_: Any
    ) -> None:
        """Set the value of a key: bytes, text or a number.

        It expires in ``expires`` seconds or, without that, after ``result_expires``, as on Redis;
        with ``result_expires=None`` it stays.
        """
        if expires is None:
            expires = self.prepare_expires(None)
        seconds = expires.total_seconds() if isinstance(expires, timedelta) else expires or None
        database = self.database
        name, content = _bytes(key), _bytes(value)
        database.retrying(lambda: database.entries.set_entry(name, content, seconds))

    def delete(self, key: str | bytes) -> int:
        """Delete a key and its value; return how many were deleted, 0 or 1."""
        database = self.database
        return database.retrying(lambda: database.entries.delete_entry(_bytes(key)))

    def incr(self, key: str | bytes) -> int:
        """Add 1 to a number, from 0 if the key does not exist, and return it.

        Atomic: no two callers get the same. Raises InvalidOption if the value is not a number.
        """
        return self.database.entries.increment_entry(_bytes(key))

    def expire(self, key: str | bytes, value: float | timedelta) -> bool:
        """Let a key expire in ``value`` seconds; False if it does not exist."""
        seconds = value.total_seconds() if isinstance(value, timedelta) else value
        database = self.database
        return database.retrying(lambda: database.entries.expire_entry(_bytes(key), seconds))


def _bytes(value: Any) -> bytes:
    """As Redis's client has it: numbers are their text."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TypeError(f"a key or value is bytes, text or a number, not {type(value).__name__}")
    return str(value).encode()

"""The rows of ``entries``: keys and values that programs keep in the result backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import psycopg

from ...errors import InvalidOption

if TYPE_CHECKING:
    from ..session import Session

#: The longest key, in bytes: it stands in an index.
LONGEST_KEY = 2_000


class Entries:
    """Statements on keys and values, one method each.

    All of them may run twice, but for :meth:`increment_entry`.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_entries(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those of the keys that are there."""
        return dict(self._session.fetch("get_entries", keys=list(keys)))

    def set_entry(self, key: bytes, value: bytes, expires: float | None) -> None:
        """Set a value, for that many seconds or for good. Raises InvalidOption for a long key."""
        self._session.fetch("set_entry", key=_checked(key), value=value, expires=expires)

    def delete_entry(self, key: bytes) -> int:
        """Take a key away; how many that were."""
        return int(self._session.fetch("delete_entry", key=key)[0][0])

    def expire_entry(self, key: bytes, expires: float) -> bool:
        """Have a key go in that many seconds; False if it is not there."""
        return bool(self._session.fetch("expire_entry", key=key, expires=expires)[0][0])

    def increment_entry(self, key: bytes) -> int:
        """Count one more; how many that are. Raises InvalidOption unless the value is a number."""
        try:
            return int(self._session.fetch("increment_entry", key=_checked(key))[0][0])
        except psycopg.DataError as error:
            raise InvalidOption(
                f"the value of {key!r} is not a whole number, or too large to count on: {error}"
            ) from None

    def prune_entries(self, limit: int) -> int:
        """Delete up to ``limit`` that have expired; how many."""
        return int(self._session.fetch("prune_entries", limit=limit)[0][0])


def _checked(key: bytes) -> bytes:
    if len(key) > LONGEST_KEY:
        raise InvalidOption(f"a key may have {LONGEST_KEY:,} bytes, not {len(key):,}")
    return key

"""Read a time up to which something holds: a time, or a duration from now on."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ..errors import InvalidOption
from .filters import seconds


class Until(NamedTuple):
    """A time, or so many seconds from now by the server's clock; neither for no end."""

    until: datetime | None = None
    seconds: float | None = None

    @property
    def data(self) -> dict[str, Any]:
        """As the audit keeps it."""
        if self.until is not None:
            return {"until": self.until.isoformat()}
        return {} if self.seconds is None else {"seconds": self.seconds}


def read_until(value: datetime | timedelta | float | None) -> Until:
    """A time, or seconds or a timedelta from now. Raises InvalidOption."""
    if value is None:
        return Until()
    if isinstance(value, datetime):
        try:
            return Until(value if value.tzinfo else value.astimezone())
        except (OverflowError, OSError, ValueError):
            raise InvalidOption(f"until cannot be {value!r}") from None
    return Until(seconds=seconds("until", value))

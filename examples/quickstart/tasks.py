"""What the worker does: find each country's next clock changes, and go wrong in telling ways."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from app import app
from celery import Task
from zones import next_change


@app.task
def find_changes(country: str, zones: list[str], after: str) -> dict[str, Any]:
    """The next clock change of each of a country's zones."""
    return {"country": country, "changes": [describe_change(zone, after) for zone in zones]}


@app.task
def find_first_change(zones: list[str], after: str) -> dict[str, str]:
    """The change that comes first; the quickstart has it run a few seconds later."""
    changes = [describe_change(zone, after) for zone in zones]
    return min((change for change in changes if "at" in change), key=lambda change: change["at"])


@app.task(bind=True, max_retries=5)
def ask_slow_source(self: Task, zone: str, after: str) -> dict[str, Any]:
    """Fails twice, as a flaky web service would, and succeeds the third time."""
    if self.request.retries < 2:
        error = ConnectionError(f"no answer, try number {self.request.retries + 1}")
        raise self.retry(exc=error, countdown=1)
    return {**describe_change(zone, after), "tries": self.request.retries + 1}


def describe_change(zone: str, after: str) -> dict[str, str]:
    """One zone's next change in words, as far as it has one."""
    change = next_change(zone, datetime.fromisoformat(after).astimezone(timezone.utc))
    if change is None:
        return {"zone": zone}
    at, before, then = change
    return {"zone": zone, "at": at.isoformat(), "from": sign(before), "to": sign(then)}


def sign(offset: timedelta) -> str:
    """An offset from UTC as people write it: +05:30."""
    minutes = int(offset.total_seconds() // 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"

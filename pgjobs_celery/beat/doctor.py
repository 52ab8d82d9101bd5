"""The doctor's look at the entries of an app."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..control.doctor.findings import Finding, finding
from .check import check_schedules
from .schedules import Schedules

#: The rules whose findings mean that an entry is not published, or runs into an error.
WRONG = ("task", "damaged", "wrong")


def look_at_schedules(app: Any) -> Iterator[Finding]:
    """Entries that cannot be published, and crontabs that a change of the clocks skips or repeats.

    The other findings of ``celery pgjobs schedules check`` are about style.
    """
    schedules = Schedules(app)
    for name, rule, text in check_schedules(app, schedules, schedules.now()):
        if rule in WRONG:
            advice = "celery -A proj pgjobs schedules repair" if rule == "damaged" else ""
            yield finding(
                "schedule_wrong",
                f"Entry {name}: {text}.",
                advice or "Correct the entry, or deploy its task",
                name,
                rule=rule,
            )
        elif rule == "clocks":
            yield finding(
                "crontab_clocks",
                f"Entry {name}: {text}.",
                "Use cron() in place of crontab(), or a time zone without changes: tz='UTC'; see"
                " docs/explanation/clocks-and-schedules.md",
                name,
            )

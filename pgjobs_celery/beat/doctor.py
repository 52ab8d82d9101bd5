"""The doctor's look at the entries of an app."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import Any

from ..control.doctor.findings import Finding, finding
from ..db.database import Database
from .check import check_schedules
from .schedules import Schedules

#: The rules whose findings mean that an entry is not published, or runs into an error.
WRONG = ("task", "damaged", "wrong")
#: How many entries are named that have the same crontab.
FEW = 5


def look_at_schedules(app: Any, database: Database) -> Iterator[Finding]:
    """Entries that cannot be published, and crontabs that a change of the clocks skips or repeats.

    The other findings of ``celery pgjobs schedules check`` are about style.
    """
    schedules = Schedules(app, database)
    clocks: dict[str, list[str]] = {}
    texts: dict[str, list[str]] = {}
    for name, rule, text in check_schedules(app, schedules, schedules.now()):
        if rule in WRONG:
            repair = f"celery -A proj pgjobs schedules repair {quote(name)}"
            yield finding(
                "schedule_wrong",
                f"Entry {name}: {text}.",
                repair if rule == "damaged" else "Correct the entry, or deploy its task",
                name,
                rule=rule,
            )
        elif rule == "clocks":
            texts.setdefault(name, []).append(text)
    for name, of_entry in texts.items():
        clocks.setdefault("; ".join(of_entry), []).append(name)
    for text, names in clocks.items():
        named = ", ".join(names[:FEW]) + (f" and {len(names) - FEW:,} more" if names[FEW:] else "")
        yield finding(
            "crontab_clocks",
            f"{'Entries' if names[1:] else 'Entry'} {named}: {text}.",
            "Use cron() in place of crontab(), or a time zone without changes: tz='UTC'; see"
            " docs/explanation/clocks-and-schedules.md",
            names[0],
            entries=names,
        )

"""Entries: as ``beat_schedule`` has them, as their rows do, and one from the other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from celery.beat import ScheduleEntry
from kombu.utils.json import dumps, loads

from ..control.filters import text
from ..db.rows.schedules import ScheduleRow
from ..errors import InvalidOption, PgJobsError, UnknownOption
from ..job.checks import did_you_mean, is_whole_number
from ..job.envelope import LONGEST_NAME
from ..job.options import check_text
from .missed import MISSED, MOST, ONCE
from .next_tick import next_tick
from .spec import definition_of, from_spec, to_schedule, to_spec

#: The keys of an entry in ``beat_schedule``.
KEYS = ("task", "schedule", "args", "kwargs", "options", "relative", "missed", "missed_limit")


class PgEntry(ScheduleEntry):
    """Celery's entry, which also knows how to treat missed ticks.

    ``missed`` and ``missed_limit`` may stand among its options, too, where ``add_periodic_task()``
    puts keys that it does not know. Raises UnknownOption for an unknown key, InvalidOption for an
    invalid value.
    """

    #: ``"once"``, ``"skip"`` or ``"all"``; see :func:`pgjobs_celery.beat.missed.find_due`.
    missed = ONCE
    #: How many of them ``"all"`` publishes at most; no more than ``missed.MOST``.
    missed_limit = 100

    def __init__(
        self,
        name: Any = None,
        task: Any = None,
        last_run_at: datetime | None = None,
        total_run_count: int | None = None,
        schedule: Any = None,
        args: Any = (),
        kwargs: Any = None,
        options: Any = None,
        relative: bool = False,
        app: Any = None,
        missed: str | None = None,
        missed_limit: int | None = None,
        **unknown: Any,
    ) -> None:
        for key in unknown:
            raise UnknownOption(f"there is no key {key!r}{did_you_mean(key, KEYS)}")
        options = dict(_mapping("options", options))
        missed = options.pop("missed", None) if missed is None else missed
        given_limit = options.pop("missed_limit", None) if missed_limit is None else missed_limit
        super().__init__(
            check_name("its name", name),
            check_name("task", getattr(task, "name", task)),
            last_run_at,
            total_run_count,
            to_schedule(schedule, relative=relative, app=app),
            _arguments(args),
            _mapping("kwargs", kwargs),
            options,
            app=app,
        )
        if missed is not None:
            self.missed = _missed(missed)
        if given_limit is not None:
            self.missed_limit = _limit(given_limit)


def _missed(given: Any) -> str:
    if given not in MISSED:
        raise InvalidOption(f"missed must be 'once', 'skip' or 'all', not {given!r}")
    return str(given)


def _limit(given: Any) -> int:
    if not is_whole_number(given, 1, MOST):
        raise InvalidOption(
            f"missed_limit must be a whole number from 1 to {MOST:,}, not {given!r}"
        )
    return given


def check_name(what: str, name: Any) -> str:
    """A name that a column, and its index, can hold. Raises InvalidOption."""
    if not 0 < len(text(what, name).encode()) <= LONGEST_NAME:
        raise InvalidOption(f"{what} must have 1 to {LONGEST_NAME:,} bytes, not {name[:40]!r}")
    return str(name)


def _mapping(what: str, given: Any) -> Any:
    if given is not None and not isinstance(given, Mapping):
        raise InvalidOption(f"{what} must be a dict, not {given!r}")
    return given or {}


def _arguments(given: Any) -> Any:
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable | None):
        raise InvalidOption(f"args must be a tuple or list, not {given!r}")
    return given if isinstance(given, (list, tuple)) else tuple(given or ())


def to_row(entry: PgEntry, now: datetime, *, is_configured: bool) -> ScheduleRow:
    """The row of an entry; its first tick is the first after ``now``."""
    spec = json.dumps(to_spec(entry.schedule))
    check_text(json.loads(spec).get("repr", ""), "the repr of its schedule")
    return ScheduleRow(
        name=entry.name,
        is_configured=is_configured,
        task=entry.task,
        args=_json(list(entry.args or ())),
        kwargs=_json(entry.kwargs),
        options=_json(entry.options),
        schedule=spec,
        definition=definition_of(entry.schedule),
        missed=entry.missed,
        missed_limit=entry.missed_limit,
        next_run_at=next_tick(entry.schedule, now),
    )


def damage_of(row: ScheduleRow) -> str:
    """The times of a row that cannot be read, as the end of a sentence; empty if all can be."""
    if not row.unreadable:
        return ""
    verb = "is not a time" if len(row.unreadable) == 1 else "are not times"
    return f"its {', '.join(row.unreadable)} {verb} from the year 1 to 9999"


def to_entry(row: ScheduleRow, app: Any) -> PgEntry:
    """An entry that was made at run time. Raises PgJobsError for a row that cannot be read."""
    try:
        return PgEntry(
            name=row.name,
            task=row.task,
            schedule=from_spec(json.loads(row.schedule), app),
            args=loads(row.args or "[]"),
            kwargs=loads(row.kwargs or "{}"),
            options=loads(row.options or "{}"),
            missed=row.missed,
            missed_limit=row.missed_limit,
            app=app,
        )
    except Exception as error:  # any program may have written it, and other entries must go on
        raise PgJobsError(f"the row of entry {row.name!r} cannot be read: {error}") from error


def _json(value: Any) -> str | None:
    """As JSON, for people and for beats of other programs; None for what only this one knows."""
    try:
        return str(dumps(value))
    except (TypeError, ValueError):
        return None

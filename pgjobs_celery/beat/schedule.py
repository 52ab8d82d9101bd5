"""An entry of beat as it is shown to people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery.schedules import BaseSchedule
from kombu.utils.json import loads

from ..db.rows.schedules import NEVER, ScheduleRow
from ..errors import PgJobsError
from ..job.checks import did_you_mean
from ..job.states import State
from .entry import PgEntry, damage_of, to_entry
from .spec import from_spec


@dataclass(frozen=True)
class Schedule:
    """An entry as it is now; a field that this process cannot know is None."""

    name: str
    task: str
    args: list[Any] | None
    kwargs: dict[str, Any] | None
    #: The options of its jobs: ``queue``, ``priority``, ``tags``, ...
    options: dict[str, Any] | None
    schedule: BaseSchedule | None
    #: The schedule as its row has it.
    spec: Mapping[str, Any]
    #: How missed ticks are treated: ``"skip"``, ``"once"`` or ``"all"``.
    missed: str
    missed_limit: int
    #: None while it is paused, or where its row has none that can be read.
    next_run_at: datetime | None
    last_run_at: datetime | None
    #: The job that was published last, and its state; None where its row has been deleted.
    last_task_id: str | None
    last_state: State | None
    #: How often it was published.
    total_run_count: int
    paused_at: datetime | None
    #: It is one of the program's ``beat_schedule``.
    is_configured: bool
    #: None of its ticks is published.
    is_paused: bool = False
    #: Why its row, written by hand, cannot be read; empty for one that can be.
    damage: str = ""


def to_handle(row: ScheduleRow, app: Any) -> Schedule:
    """An entry as it is shown."""
    return Schedule(
        name=row.name,
        task=row.task,
        args=_loaded(row.args, list),
        kwargs=_loaded(row.kwargs, Mapping),
        options=_loaded(row.options, Mapping),
        schedule=find_schedule(row, app),
        spec=_loaded(row.schedule, Mapping) or {},
        missed=row.missed,
        missed_limit=row.missed_limit,
        next_run_at=None if row.is_paused or row.next_run_at == NEVER else row.next_run_at,
        last_run_at=row.last_run_at,
        last_task_id=row.last_task_id,
        last_state=State(row.last_state) if row.last_state else None,
        total_run_count=row.total_run_count,
        paused_at=row.paused_at,
        is_configured=row.is_configured,
        is_paused=row.is_paused,
        damage=find_damage(row, app),
    )


def find_damage(row: ScheduleRow, app: Any) -> str:
    """Why beats cannot publish it, or not all of it can be shown; empty if nothing is wrong.

    The arguments of one of the program's own entries are not read from its row.
    """
    damage = damage_of(row)
    if not row.is_configured:
        try:
            to_entry(row, app)
        except PgJobsError as error:
            damage = "; ".join(filter(None, (damage, str(error))))
    return damage


def find_schedule(row: ScheduleRow, app: Any) -> BaseSchedule | None:
    """The schedule of a row; None where it is known to the program only, or cannot be made here."""
    try:
        return from_spec(json.loads(row.schedule), app)
    except Exception:  # a row that was written by hand; Celery's solar() without its library
        return None


def find_own(app: Any, name: Any) -> PgEntry | None:
    """The program's own entry of this name. Raises the error that it has."""
    program = app.conf.beat_schedule
    return PgEntry(**dict(program[name], name=name, app=app)) if name in program else None


def unknown_task(app: Any, name: str) -> str:
    """A message that no task of this name is registered, with the nearest; empty if one is.

    Empty, too, where no task at all is registered: a program that publishes by name loads none.
    """
    own = {each for each in app.tasks if not each.startswith("celery.")}
    if name in app.tasks or not own:
        return ""
    return f"no task {name!r} is registered in app {app.main!r} here{did_you_mean(name, own)}"


def _loaded(text: str | None, kind: type) -> Any:
    """The value of a column; None where it is of another kind, or cannot be read."""
    try:
        value = None if text is None else loads(text)
    except Exception:  # kombu's way with dates and others raises what it likes
        return None
    return value if isinstance(value, kind) else None

"""An entry of beat as people say it, as its row shows it, and as it is published by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from celery.beat import BeatLazyFunc
from celery.canvas import Signature
from celery.schedules import BaseSchedule
from kombu.utils.json import loads

from ..config import check_queue_name, did_you_mean
from ..control.filters import to_json
from ..db.rows.schedules import NEVER, ScheduleRow
from ..errors import InvalidOption, PgJobsError, UnknownOption
from ..job.job import HIGHEST_RANK, LOWEST_RANK
from ..job.options import NAMES, check_max_attempts, check_meta, normalise_tags
from ..job.states import State
from ..job.unique import as_unique
from ..tasks.task import PgTask
from .entry import PgEntry, check_name, damage_of, to_entry
from .missed import ONCE
from .publisher import noted
from .spec import OTHER, from_spec, next_tick, to_schedule, to_spec

#: What an entry's jobs may be published with: not what each of them has for itself, nor what lives
#: in one process only.
OPTIONS = frozenset({
    *NAMES, "add_to_parent", "compression", "countdown", "delivery_mode", "eta", "exchange",
    "expiration", "expires", "headers", "ignore_result", "link", "link_error", "mandatory",
    "priority", "queue", "retry", "retry_policy", "routing_key", "serializer", "shadow",
    "soft_time_limit", "time_limit",
})  # fmt: skip
#: What :meth:`Schedules.put` says beside them, for who has misspelt one.
WORDS = ("task", "schedule", "missed", "missed_limit", "next_run_at")


@dataclass(frozen=True)
class Schedule:
    """An entry as it is now; what only the program knows of it, or nobody, is None."""

    name: str
    task: str
    args: list[Any] | None
    kwargs: dict[str, Any] | None
    #: What its jobs are published with: ``queue``, ``priority``, ``tags``, ...
    options: dict[str, Any] | None
    schedule: BaseSchedule | None
    #: The schedule as its row has it.
    spec: Mapping[str, Any]
    #: What becomes of ticks that no beat was there for: ``"skip"``, ``"once"`` or ``"all"``.
    missed: str
    missed_limit: int
    #: None while it is paused, or where its row has none that can be read.
    next_run_at: datetime | None
    last_run_at: datetime | None
    #: The job that was published last, and what has become of it; None where its row has gone.
    last_task_id: str | None
    last_state: State | None
    #: How often it was published.
    total_run_count: int
    paused_at: datetime | None
    #: It is one of the program's ``beat_schedule``.
    is_configured: bool
    #: None of its ticks is published.
    is_paused: bool = False
    #: How its row cannot be read, which somebody has written by hand; empty for one that can be.
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

    What one of the program's own is to publish is not read from its row.
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
    """The program's own entry of this name. Raises what is wrong with it."""
    program = app.conf.beat_schedule
    return PgEntry(**dict(program[name], name=name, app=app)) if name in program else None


def read_entry(
    app: Any,
    name: str,
    task: Any,
    schedule: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    missed: str = ONCE,
    missed_limit: int = 100,
    options: Mapping[str, Any] | None = None,
) -> PgEntry:
    """The entry that is meant. Raises InvalidOption and UnknownOption."""
    name = check_name("name", name)
    where = f"entry {name!r}"
    options = options or {}
    if isinstance(task, Signature):
        if task.get("subtask_type"):
            raise InvalidOption(
                f"{where}: a {task['subtask_type']} is no task that beat can publish: make a task "
                "that calls it"
            )
        args = task.args if task.immutable else (*args, *task.args)
        kwargs = {**task.kwargs, **(kwargs or {})}
        options = {**task.options, **options}
        task = task.task
    task = check_name(f"{where}: task", getattr(task, "name", task))
    try:
        entry = PgEntry(
            name=name,
            task=task,
            schedule=_check_schedule(schedule, app),
            args=args,
            kwargs=kwargs,
            options=_check_options(options, app.tasks.get(task)),
            missed=missed,
            missed_limit=missed_limit,
            app=app,
        )
        entry.args = list(entry.args)
        for word in ("args", "kwargs", "options"):
            to_json(word, getattr(entry, word))
    except (InvalidOption, UnknownOption) as error:
        said = str(error)
        raise type(error)(said if said.startswith(where) else f"{where}: {said}") from None
    return entry


def _check_schedule(given: Any, app: Any) -> BaseSchedule:
    """A schedule that a row can hold, and that is due at some time."""
    schedule = to_schedule(given, app=app)
    if to_spec(schedule)["type"] == OTHER:
        raise InvalidOption(
            f"a schedule of class {type(schedule).__name__} is known to the program only: put the "
            "entry into its beat_schedule, or say it with cron()"
        )
    try:
        next_tick(schedule, datetime.now(timezone.utc))
    except InvalidOption:
        raise
    except Exception as error:  # whatever Celery's classes raise for what never is
        raise InvalidOption(f"{schedule!r} cannot be computed: {error!r}") from error
    return schedule


def _check_options(options: Mapping[str, Any], task: Any) -> dict[str, Any]:
    """What jobs are published with; wrong here, it would be with every tick."""
    given = dict(options)
    for name in given:
        if name not in OPTIONS:
            near = did_you_mean(name, (*OPTIONS, *WORDS))
            raise UnknownOption(f"there is no option {name!r} of a task to be published{near}")
    if "max_attempts" in given:
        check_max_attempts(given["max_attempts"])
    if given.get("tags") is not None:
        given["tags"] = list(normalise_tags(given["tags"]))
    if given.get("meta") is not None:
        check_meta(given["meta"])
    if given.get("unique") is not None:
        if task is not None and not isinstance(task, PgTask):
            raise InvalidOption(
                f"unique is for tasks of the class PgTask, which {task.name} is not"
            )
        rule = as_unique(given["unique"])
        given["unique"] = rule and rule.__json__()
    if given.get("queue") is not None:
        given["queue"] = check_queue_name(getattr(given["queue"], "name", given["queue"]))
    priority = given.get("priority")
    if priority is not None and (
        isinstance(priority, bool)
        or not isinstance(priority, int)
        or not LOWEST_RANK <= priority <= HIGHEST_RANK
    ):
        raise InvalidOption(f"priority must be {LOWEST_RANK} to {HIGHEST_RANK}, not {priority!r}")
    if not isinstance(given.get("headers") or {}, Mapping):
        raise InvalidOption(f"headers must be a mapping, not {given['headers']!r}")
    return given


def unknown_task(app: Any, name: str) -> str:
    """That no task of this name is registered, with the nearest that is; nothing if one is.

    Nor where none is registered at all: who publishes by names only has loaded none.
    """
    own = {each for each in app.tasks if not each.startswith("celery.")}
    if name in app.tasks or not own:
        return ""
    return f"no task {name!r} is registered in app {app.main!r} here{did_you_mean(name, own)}"


def publish_entry(
    app: Any,
    task: str,
    args: Iterable[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    known: Mapping[str, Any],
) -> Any:
    """Publish a job of an entry, with what is known of it in its meta; the handle on its result."""
    given = [_called(value) for value in args]
    named = {key: _called(value) for key, value in kwargs.items()}
    sent = noted(app, task, options, known)
    registered = app.tasks.get(task)
    if registered is not None:
        return registered.apply_async(given, named, **sent)
    return app.send_task(task, given, named, **sent)


def _called(value: Any) -> Any:
    """Celery's way to say an argument that is known when it is due only."""
    return value() if isinstance(value, BeatLazyFunc) else value


def read_published(row: ScheduleRow, app: Any) -> tuple[Any, Any, Any]:
    """Arguments and options of the jobs of a row; the program's own where the row has none.

    Raises PgJobsError where this is not that program.
    """
    if row.args is not None and row.kwargs is not None and row.options is not None:
        return loads(row.args), loads(row.kwargs), loads(row.options)
    own = find_own(app, row.name) if row.is_configured else None
    if own is None:
        raise PgJobsError(
            f"entry {row.name!r} has arguments that only its program knows: run it there"
        )
    return own.args or (), own.kwargs or {}, own.options or {}


def _loaded(text: str | None, kind: type) -> Any:
    """What a column says; None where it is of another kind, or cannot be read."""
    try:
        value = None if text is None else loads(text)
    except Exception:  # kombu's way with dates and others raises what it likes
        return None
    return value if isinstance(value, kind) else None

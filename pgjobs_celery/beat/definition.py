"""Read an entry from its definition: check what ``put()`` was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from celery.canvas import Signature
from celery.schedules import BaseSchedule

from ..config import check_queue_name
from ..control.filters import to_json
from ..errors import InvalidOption, UnknownOption
from ..job.checks import did_you_mean, is_whole_number
from ..job.options import (
    NAMES,
    check_durability,
    check_max_attempts,
    check_meta,
    normalise_tags,
)
from ..job.rows import HIGHEST_RANK, LOWEST_RANK
from ..job.unique import as_unique
from ..tasks.task import PgTask
from .entry import PgEntry, check_name
from .missed import ONCE
from .next_tick import next_tick
from .spec import OTHER, to_schedule, to_spec

#: The options that an entry's jobs may have: none that differs from job to job, and none that lives
#: in one process only.
OPTIONS = frozenset({
    *NAMES, "add_to_parent", "compression", "countdown", "delivery_mode", "eta", "exchange",
    "expiration", "expires", "headers", "ignore_result", "link", "link_error", "mandatory",
    "priority", "queue", "retry", "retry_policy", "routing_key", "serializer", "shadow",
    "soft_time_limit", "time_limit",
}) - {"idempotency_key", "idempotency_for"}  # fmt: skip
#: Further parameters of :meth:`Schedules.put`, as suggestions for a misspelt option.
WORDS = ("task", "schedule", "missed", "missed_limit", "next_run_at")


@dataclass(frozen=True)
class EntrySpec:
    """An entry as a program gives it to :meth:`Schedules.put`, unchecked."""

    name: str
    #: A task, its name or a signature.
    task: Any
    schedule: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    missed: str = ONCE
    missed_limit: int = 100
    options: Mapping[str, Any] = field(default_factory=dict)


def read_entry(app: Any, spec: EntrySpec) -> PgEntry:
    """The entry that is specified. Raises InvalidOption and UnknownOption."""
    name = check_name("name", spec.name)
    where = f"entry {name!r}"
    task, args, kwargs, options = spec.task, spec.args, spec.kwargs, spec.options
    if isinstance(task, Signature):
        if task.get("subtask_type"):
            raise InvalidOption(
                f"{where}: a {task['subtask_type']} is not a task that beat can publish: make a "
                "task that calls it"
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
            schedule=_check_schedule(spec.schedule, app),
            args=args,
            kwargs=kwargs,
            options=_check_options(options, app.tasks.get(task)),
            missed=spec.missed,
            missed_limit=spec.missed_limit,
            app=app,
        )
        entry.args = list(entry.args)
        for word in ("args", "kwargs", "options"):
            to_json(word, getattr(entry, word))
    except (InvalidOption, UnknownOption) as error:
        message = str(error)
        raise type(error)(message if message.startswith(where) else f"{where}: {message}") from None
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
    """The options of an entry's jobs, checked: a wrong one would fail with every tick."""
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
    if given.get("durability") is not None:
        check_durability(given["durability"])
    if given.get("unique") is not None:
        if task is not None and not isinstance(task, PgTask):
            raise InvalidOption(
                f"unique is for tasks of the class PgTask, which {task.name} is not"
            )
        rule = as_unique(given["unique"])
        given["unique"] = rule.__json__() if rule else None
    if given.get("queue") is not None:
        given["queue"] = check_queue_name(getattr(given["queue"], "name", given["queue"]))
    priority = given.get("priority")
    if priority is not None and not is_whole_number(priority, LOWEST_RANK, HIGHEST_RANK):
        raise InvalidOption(f"priority must be {LOWEST_RANK} to {HIGHEST_RANK}, not {priority!r}")
    if not isinstance(given.get("headers") or {}, Mapping):
        raise InvalidOption(f"headers must be a mapping, not {given['headers']!r}")
    return given

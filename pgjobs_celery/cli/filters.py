"""The options of ``celery pgjobs`` that select jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..errors import InvalidOption
from ..job import spelling
from ..job.states import BY_CELERY_NAME, State
from .database import database_options

F = TypeVar("F", bound=Callable[..., Any])


def read_duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Seconds, from a number with an optional s, m, h, d or w; an option's callback."""
    try:
        return None if value is None else spelling.read_duration(value)
    except InvalidOption as error:
        raise click.BadParameter(str(error)) from None


def read_json(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """The value of a JSON text; an option's callback."""
    try:
        return None if value is None else json.loads(value)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{value!r} is not JSON: {error}") from None


def read_attempts(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> list[int] | range | None:
    """Numbers, or a span of them; an option's callback."""
    try:
        return None if value is None else spelling.read_attempts(value)
    except InvalidOption as error:
        raise click.BadParameter(str(error)) from None


def _many(flag: str, help: str) -> Any:
    return click.option(flag, multiple=True, help=f"{help}; may be repeated.")


def _age(flag: str, help: str) -> Any:
    return click.option(flag, metavar="AGE", callback=read_duration, help=help)


def _json(flag: str, help: str) -> Any:
    return click.option(flag, metavar="JSON", callback=read_json, help=help)


#: The option of each filter.
FILTER_OPTIONS: dict[str, Any] = {
    "id": _many("--id", "Celery's id of the task"),
    "task": _many("--task", "The task's name"),
    "queue": _many("--queue", "The queue"),
    "state": click.option(
        "--state",
        multiple=True,
        type=click.Choice([*(state.value for state in State), *BY_CELERY_NAME]),
        metavar="STATE",
        help=f"{', '.join(State)}, or Celery's word for it; may be repeated.",
    ),
    "tags": click.option("--tag", "tags", multiple=True, help="A tag; repeated: all of them."),
    "args": _json("--args", "An array: the arguments by position contain it."),
    "kwargs": _json("--kwargs", "An object: the arguments by name contain it."),
    "meta": _json("--meta", "An object: meta contains it."),
    "attempt": click.option(
        "--attempt",
        metavar="N",
        callback=read_attempts,
        help="How often it was begun: 3, 1,4, 2-5, 2-.",
    ),
    "older_than": _age("--older-than", "Put in line longer ago: 90, 15m, 2h, 3d."),
    "newer_than": _age("--newer-than", "Put in line since."),
    "finished_before": _age("--finished-before", "Finished longer ago."),
    "finished_after": _age("--finished-after", "Finished since."),
    "group": _many("--group", "The id of its group"),
    "parent": _many("--parent", "The id of the task that published it"),
    "root": _many("--root", "The id of the first task of its workflow"),
    "worker": _many("--worker", "The worker that ran it last"),
    "stamps": _json("--stamps", "An object: a stamp, and the values of which it has one."),
    "error": _many("--error", "The type of the exception that it failed with: ValueError"),
    "fingerprint": _many("--fingerprint", "The problem, as celery pgjobs failures names it"),
    "lane": click.option(
        "--lane",
        multiple=True,
        help="A rate, limit or pause: rate/queue/mail, or share; repeated: all of them.",
    ),
    "key": _many("--key", "A key by which rates, limits or turns count it"),
    "idempotency_key": _many("--idempotency-key", "The key that it was published with"),
}


def filter_options(command: F) -> F:
    """An option for each filter, and those that name the database."""
    command = database_options(command)
    for option in reversed(FILTER_OPTIONS.values()):
        command = option(command)
    return command

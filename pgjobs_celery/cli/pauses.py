"""``celery pgjobs pause`` and ``resume``: queues, and the jobs of a task, a tag or a key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from ..control.rights import ACTION_RIGHTS
from ..errors import InvalidOption
from ..job import spelling
from .database import database_options
from .jobs import moment
from .output import echo
from .queues import connected

F = TypeVar("F", bound=Callable[..., Any])


def read_end(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> datetime | float | None:
    """A time, or a duration from now."""
    try:
        return None if value is None else spelling.read_duration(value)
    except InvalidOption:
        try:
            return moment(value)
        except InvalidOption:
            raise click.BadParameter(
                f"{value!r} is neither a duration (90, 15m, 2h) nor a time (2027-01-31T06:00+01:00)"
            ) from None


until_option = click.option(
    "--until", metavar="TIME", callback=read_end, help="A duration (90, 15m, 2h) or a time."
)


def pause_options(command: F) -> F:
    """The options that name paused jobs, but for whole queues."""
    for option in (
        click.option("--key", help="Of one key of the queue, instead of all of it."),
        click.option("--tag", help="The jobs with a tag, in all queues."),
        click.option("--task", help="The jobs of a task, in all queues."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@pause_options
@until_option
@database_options
@click.pass_context
def pause(
    ctx: click.Context,
    queues: tuple[str, ...],
    task: str | None,
    tag: str | None,
    key: str | None,
    until: datetime | float | None,
    url: str | None,
    schema: str | None,
) -> None:
    """Stop workers from starting jobs of queues, or of a task, tag or key; running ones go on."""
    check_named(queues, task, tag, key)
    end = "" if until is None else f" until {until}"
    if isinstance(until, float):
        end = f" for {spelling.write_duration(until)}"
    is_part = task is not None or tag is not None or key is not None
    rights = ACTION_RIGHTS["pause_jobs" if is_part else "pause_queue"]
    with connected(ctx, url, schema, rights) as (database, app):
        from ..control.flows import Flows
        from ..control.queues import Queues

        if is_part:
            queue = queues[0] if queues else None
            Flows(database, app).pause(task=task, tag=tag, key=key, queue=queue, until=until)
            echo(f"{named(task, tag, key, queue)} is paused{end}")
            return
        for name in queues:
            Queues(database, app).pause(name, until)
            echo(f"{name} is paused{end}")


@click.command()
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@pause_options
@database_options
@click.pass_context
def resume(
    ctx: click.Context,
    queues: tuple[str, ...],
    task: str | None,
    tag: str | None,
    key: str | None,
    url: str | None,
    schema: str | None,
) -> None:
    """Let workers start jobs of these queues, or of a task, tag or key, again."""
    check_named(queues, task, tag, key)
    is_part = task is not None or tag is not None or key is not None
    rights = ACTION_RIGHTS["resume_jobs" if is_part else "resume_queue"]
    with connected(ctx, url, schema, rights) as (database, app):
        from ..control.flows import Flows
        from ..control.queues import Queues

        if is_part:
            queue = queues[0] if queues else None
            was_paused = Flows(database, app).resume(task=task, tag=tag, key=key, queue=queue)
            what = named(task, tag, key, queue)
            echo(f"{what} is resumed" if was_paused else f"{what} was not paused")
            return
        for name in queues:
            was_paused = Queues(database, app).resume(name)
            echo(f"{name} is resumed" if was_paused else f"{name} was not paused")


def check_named(
    queues: tuple[str, ...], task: str | None, tag: str | None, key: str | None
) -> None:
    """Raises click.UsageError unless the words name something that can be paused."""
    if task is None and tag is None and key is None:
        if not queues:
            raise click.UsageError("name a queue, or give --task, --tag, or --key and its queue")
    elif sum(each is not None for each in (task, tag, key)) > 1:
        raise click.UsageError("give one of --task, --tag and --key")
    elif key is not None and len(queues) != 1:
        raise click.UsageError("--key is a key of one queue: name that")
    elif key is None and queues:
        raise click.UsageError("--task and --tag are paused in all queues: name none")


def named(task: str | None, tag: str | None, key: str | None, queue: str | None) -> str:
    """The paused jobs, in words."""
    if key is not None:
        return f"key {key} of {queue}"
    return f"task {task}" if task is not None else f"tag {tag}"


COMMANDS = (pause, resume)

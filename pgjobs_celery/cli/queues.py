"""``celery pgjobs pause``, ``resume`` and ``limit``: what holds for a queue on every worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from .database import database_options, find_database, reported, rights_of
from .output import echo

if TYPE_CHECKING:
    from ..control.queues import Queues


def read_limit(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    """A whole number from 0; None for ``none``."""
    if value.lower() == "none":
        return None
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither a whole number from 0 nor none.")
    return int(value)


@click.command()
@click.argument("queues", nargs=-1, required=True, metavar="QUEUE...")
@database_options
@click.pass_context
def pause(ctx: click.Context, queues: tuple[str, ...], url: str | None, schema: str | None) -> None:
    """Stop workers from starting jobs of these queues; running ones go on."""
    with controlled(ctx, url, schema) as control:
        for queue in queues:
            control.pause(queue)
            echo(f"{queue} is paused")


@click.command()
@click.argument("queues", nargs=-1, required=True, metavar="QUEUE...")
@database_options
@click.pass_context
def resume(
    ctx: click.Context, queues: tuple[str, ...], url: str | None, schema: str | None
) -> None:
    """Let workers start jobs of these queues again."""
    with controlled(ctx, url, schema) as control:
        for queue in queues:
            was_paused = control.resume(queue)
            echo(f"{queue} is resumed" if was_paused else f"{queue} was not paused")


@click.command()
@click.argument("queue")
@click.argument("number", callback=read_limit, metavar="N|none")
@database_options
@click.pass_context
def limit(
    ctx: click.Context, queue: str, number: int | None, url: str | None, schema: str | None
) -> None:
    """Run at most N jobs of a queue at once, on all workers together; none: any number."""
    with controlled(ctx, url, schema) as control:
        control.limit(queue, number)
        if number is None:
            echo(f"{queue} has no limit")
        else:
            echo(f"{queue} is limited to {number} at once")


COMMANDS = (pause, resume, limit)


@contextmanager
def controlled(ctx: click.Context, url: str | None, schema: str | None) -> Iterator[Queues]:
    """The queues of the app's database, or that of ``--url``; every error is one line."""
    # Every celery command imports this module; only these change a queue.
    from ..control.queues import Queues
    from ..db.database import get_database

    with reported():
        app = getattr(ctx.obj, "app", None)
        database = get_database(*find_database(app, url, schema))
        database.rights = rights_of(ctx)
        database.verify()
        try:
            yield Queues(database, app)
        finally:
            database.close()

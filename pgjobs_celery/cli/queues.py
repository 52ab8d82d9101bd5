"""``celery pgjobs queues``, ``pause``, ``resume`` and ``limit``: what holds on every worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .database import database_options, find_database, reported, rights_of
from .filters import read_duration
from .output import echo, echo_json, json_option, show_table

if TYPE_CHECKING:
    from ..control.one_queue import OneQueue
    from ..control.queues import Queues
    from ..db.database import Database
    from ..db.rights import Rights

F = TypeVar("F", bound=Callable[..., Any])


def read_limit(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    """A whole number from 0; None for ``none``."""
    if value.lower() == "none":
        return None
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither a whole number from 0 nor none.")
    return int(value)


def read_weight(ctx: click.Context, param: click.Parameter, value: str) -> float | None:
    """A number; None for ``none``."""
    try:
        return None if value.lower() == "none" else float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a number nor none.") from None


def read_rate(ctx: click.Context, param: click.Parameter, value: str) -> str | None:
    """A rate as it is written; None for ``none``."""
    return None if value.lower() == "none" else value


def rule_options(command: F) -> F:
    """The options of a rate."""
    for option in (
        click.option(
            "--scope",
            type=click.Choice(["global", "worker"]),
            default="global",
            show_default=True,
            help="All workers together, or each by itself.",
        ),
        click.option(
            "--algorithm",
            type=click.Choice(["window", "bucket"]),
            help="Never more in any period, or refilled evenly; default: window, or bucket with"
            " --burst.",
        ),
        click.option("--burst", type=int, help="How many may begin at once: makes it a bucket."),
        by_option,
    ):
        command = option(command)
    return command


by_option = click.option(
    "--by", metavar="PATH", help="Of each value of an argument: kwargs.tenant_id, args.0."
)


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


@click.group("queues")
def queues() -> None:
    """Change the rules of queues: rates, limits, fair shares, depths, pauses."""


@queues.command("list")
@json_option
@database_options
@click.pass_context
def list_queues(ctx: click.Context, *, as_json: bool, url: str | None, schema: str | None) -> None:
    """List the queues with a rule or a pause, and those that were declared to stay."""
    with controlled(ctx, url, schema) as control:
        found = list(control)
    if as_json:
        from ..control.explanation import as_data

        echo_json([as_data(asdict(each)) for each in found])
    elif not found:
        echo("No queue has a rule.")
    else:
        columns = [
            (name, {"overflow": "fold"})
            for name in ("queue", "at once", "fair by", "depth", "when full", "paused")
        ]
        rows = [
            (
                each.name,
                "" if each.concurrency is None else str(each.concurrency),
                each.fair_by or "",
                "" if each.max_depth is None else str(each.max_depth),
                each.on_full or "",
                "" if each.paused_at is None
                else f"until {each.paused_until:%Y-%m-%d %H:%M:%S %Z}" if each.paused_until
                else "yes",
            )
            for each in found
        ]  # fmt: skip
        show_table(columns, rows, no_color=bool(getattr(ctx.obj, "no_color", False)))
        echo("Rates, and limits by key: celery pgjobs flows list")


def rule_command(*options: Callable[[Any], Any]) -> Callable[[Callable[..., str]], click.Command]:
    """A command on the rules of one queue, with these arguments and options besides.

    The function gets the queue and what was given, and returns what is printed.
    """

    def decorate(function: Callable[..., str]) -> click.Command:
        @click.pass_context
        @wraps(function)
        def run(
            ctx: click.Context, /, queue: str, url: str | None, schema: str | None, **given: Any
        ) -> None:
            with controlled(ctx, url, schema) as control:
                echo(function(control[queue], **given))

        command: Any = run
        shared: list[Callable[[Any], Any]] = [click.argument("queue"), *options, database_options]
        for option in reversed(shared):
            command = option(command)
        return queues.command()(command)

    return decorate


@rule_command(click.argument("rate", callback=read_rate, metavar="RATE|none"), rule_options)
def rate(queue: OneQueue, rate: str | None, **rule: Any) -> str:
    """Begin at most so many jobs of a queue in a time: 100/m, 7/10s; none: as many as may be."""
    queue.rate(rate, **rule)
    each = f" of each {rule['by']}" if rule["by"] else ""
    return f"{queue.name} begins {'any number' if rate is None else f'at most {rate}'}{each}"


@rule_command(
    click.argument("number", callback=read_limit, metavar="N|none"),
    by_option,
    click.option("--scope", type=click.Choice(["global", "worker"]), default="global"),
)
def concurrency(queue: OneQueue, number: int | None, by: str | None, scope: str) -> str:
    """Run at most N jobs of a queue at once, of each value of --by; none: any number."""
    queue.concurrency(number, by=by, scope=scope)
    each = f" of each {by}" if by else ""
    where = " on each worker" if scope == "worker" else ""
    return f"{queue.name} runs {'any number' if number is None else number} at once{each}{where}"


@rule_command(
    click.argument("path"),
    click.option(
        "--ageing", metavar="TIME", callback=read_duration, help="One rank per so much wait."
    ),
)
def fair(queue: OneQueue, path: str, ageing: float | None) -> str:
    """Serve the values of an argument (kwargs.tenant_id) in turn."""
    queue.fair(path, ageing)
    return f"{queue.name} serves each {path} in turn"


@rule_command()
def unfair(queue: OneQueue) -> str:
    """Serve the jobs of a queue in their order again."""
    queue.unfair()
    return f"{queue.name} has one line"


@rule_command(
    click.argument("key"),
    click.argument("weight", callback=read_weight, metavar="WEIGHT|none"),
)
def weight(queue: OneQueue, key: str, weight: float | None) -> str:
    """Give a key of a fair queue so many turns where others have one; none: one."""
    queue.weight(key, weight)
    return f"{key} has weight {1 if weight is None else f'{weight:g}'} in {queue.name}"


@rule_command(
    click.argument("number", callback=read_limit, metavar="N|none"),
    click.option(
        "--on-full",
        type=click.Choice(["raise", "wait", "drop_oldest"]),
        default="raise",
        show_default=True,
        help="A publisher's choice where so many wait.",
    ),
    click.option("--wait", metavar="TIME", callback=read_duration, help="For how long it waits."),
)
def depth(queue: OneQueue, number: int | None, on_full: str, wait: float | None) -> str:
    """Let at most N jobs of a queue wait; none: any number."""
    queue.max_depth(number, on_full, wait)
    return f"{queue.name} holds {'any number' if number is None else f'at most {number}'} that wait"


@queues.command()
@click.argument("queue")
@json_option
@database_options
@click.pass_context
def explain(
    ctx: click.Context, queue: str, *, as_json: bool, url: str | None, schema: str | None
) -> None:
    """Say whether a queue is full, why its publishers are refused, and what to do about it."""
    with controlled(ctx, url, schema) as control:
        found = control[queue].explain()
    if as_json:
        echo_json(asdict(found))
        return
    echo(found.text)
    if found.remedy:
        echo(f"Try: {found.remedy}")


@rule_command()
def reset(queue: OneQueue) -> str:
    """Forget the rules of a queue that were set by hand, but for its pause and its limit."""
    queue.reset()
    return f"{queue.name} has the rules of the code"


@contextmanager
def connected(
    ctx: click.Context, url: str | None, schema: str | None, rights: Rights | None = None
) -> Iterator[tuple[Database, Any]]:
    """The app's database, or that of ``--url``, and the app; every error is one line."""
    # Every celery command imports this module; only these change a queue.
    from ..db.database import get_database

    with reported():
        app = getattr(ctx.obj, "app", None)
        database = get_database(*find_database(app, url, schema))
        database.rights = rights or rights_of(ctx)
        database.verify()
        try:
            yield database, app
        finally:
            database.close()


@contextmanager
def controlled(ctx: click.Context, url: str | None, schema: str | None) -> Iterator[Queues]:
    """The queues of that database."""
    from ..control.queues import Queues

    with connected(ctx, url, schema) as (database, app):
        yield Queues(database, app)

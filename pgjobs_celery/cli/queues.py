"""``celery pgjobs queues``, ``pause``, ``resume`` and ``limit``: what holds on every worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .database import database_options, find_database, reported, rights_of
from .filters import read_duration
from .output import echo, echo_json, show_table

if TYPE_CHECKING:
    from ..control.one_queue import OneQueue
    from ..control.queues import Queues
    from ..db.database import Database
    from ..db.rights import Rights

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="For machines.")


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


@queues.command()
@click.argument("queue")
@click.argument("rate", callback=read_rate, metavar="RATE|none")
@rule_options
@database_options
@click.pass_context
def rate(
    ctx: click.Context,
    /,
    queue: str,
    rate: str | None,
    url: str | None,
    schema: str | None,
    **rule: Any,
) -> None:
    """Begin at most so many jobs of a queue in a time: 100/m, 7/10s; none: as many as may be."""
    with one_queue(ctx, queue, url, schema) as control:
        control.rate(rate, **rule)
        each = f" of each {rule['by']}" if rule["by"] else ""
        echo(f"{queue} begins {'any number' if rate is None else rate}{each}")


@queues.command()
@click.argument("queue")
@click.argument("number", callback=read_limit, metavar="N|none")
@by_option
@click.option("--scope", type=click.Choice(["global", "worker"]), default="global")
@database_options
@click.pass_context
def concurrency(
    ctx: click.Context,
    queue: str,
    number: int | None,
    by: str | None,
    scope: str,
    url: str | None,
    schema: str | None,
) -> None:
    """Run at most N jobs of a queue at once, of each value of --by; none: any number."""
    with one_queue(ctx, queue, url, schema) as control:
        control.concurrency(number, by=by, scope=scope)
        each = f" of each {by}" if by else ""
        where = " on each worker" if scope == "worker" else ""
        echo(f"{queue} runs {'any number' if number is None else number} at once{each}{where}")


@queues.command()
@click.argument("queue")
@click.argument("path")
@click.option("--ageing", metavar="TIME", callback=read_duration, help="One rank per so much wait.")
@database_options
@click.pass_context
def fair(
    ctx: click.Context,
    queue: str,
    path: str,
    ageing: float | None,
    url: str | None,
    schema: str | None,
) -> None:
    """Serve the values of an argument (kwargs.tenant_id) in turn."""
    with one_queue(ctx, queue, url, schema) as control:
        control.fair(path, ageing)
        echo(f"{queue} serves each {path} in turn")


@queues.command()
@click.argument("queue")
@database_options
@click.pass_context
def unfair(ctx: click.Context, queue: str, url: str | None, schema: str | None) -> None:
    """Serve the jobs of a queue in their order again."""
    with one_queue(ctx, queue, url, schema) as control:
        control.unfair()
        echo(f"{queue} has one line")


@queues.command()
@click.argument("queue")
@click.argument("key")
@click.argument("weight", callback=read_weight, metavar="WEIGHT|none")
@database_options
@click.pass_context
def weight(
    ctx: click.Context,
    queue: str,
    key: str,
    weight: float | None,
    url: str | None,
    schema: str | None,
) -> None:
    """Give a key of a fair queue so many turns where others have one; none: one."""
    with one_queue(ctx, queue, url, schema) as control:
        control.weight(key, weight)
        echo(f"{key} has weight {1 if weight is None else f'{weight:g}'} in {queue}")


@queues.command()
@click.argument("queue")
@click.argument("number", callback=read_limit, metavar="N|none")
@click.option(
    "--on-full",
    type=click.Choice(["raise", "wait", "drop_oldest"]),
    default="raise",
    show_default=True,
    help="A publisher's choice where so many wait.",
)
@click.option("--wait", metavar="TIME", callback=read_duration, help="For how long it waits.")
@database_options
@click.pass_context
def depth(
    ctx: click.Context,
    queue: str,
    number: int | None,
    on_full: str,
    wait: float | None,
    url: str | None,
    schema: str | None,
) -> None:
    """Let at most N jobs of a queue wait; none: any number."""
    with one_queue(ctx, queue, url, schema) as control:
        control.max_depth(number, on_full, wait)
        echo(f"{queue} holds {'any number' if number is None else f'at most {number}'} that wait")


@queues.command()
@click.argument("queue")
@json_option
@database_options
@click.pass_context
def explain(
    ctx: click.Context, queue: str, *, as_json: bool, url: str | None, schema: str | None
) -> None:
    """Say whether a queue is full, why its publishers are refused, and what to do about it."""
    with one_queue(ctx, queue, url, schema) as control:
        found = control.explain()
    if as_json:
        echo_json(asdict(found))
        return
    echo(found.text)
    if found.remedy:
        echo(f"\n  {found.remedy}")


@queues.command()
@click.argument("queue")
@database_options
@click.pass_context
def reset(ctx: click.Context, queue: str, url: str | None, schema: str | None) -> None:
    """Forget the rules of a queue that were set by hand, but for its pause and its limit."""
    with one_queue(ctx, queue, url, schema) as control:
        control.reset()
        echo(f"{queue} has the rules of the code")


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


@contextmanager
def one_queue(
    ctx: click.Context, queue: str, url: str | None, schema: str | None
) -> Iterator[OneQueue]:
    """The rules of one queue of that database."""
    with controlled(ctx, url, schema) as control:
        yield control[queue]

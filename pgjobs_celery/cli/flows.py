"""``celery pgjobs flows``: the rates and limits by name, how they stand, and pauses of jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from .database import database_options
from .output import echo, echo_json, failure, json_option, show_table
from .queues import connected, read_rate, rule_options

if TYPE_CHECKING:
    from ..control.flows import Flow, Flows, KeyState
    from ..db.rows.rules import PauseRow

LEFT: dict[str, Any] = {"overflow": "fold"}
RIGHT: dict[str, Any] = {"justify": "right"}


@click.group("flows")
def flows() -> None:
    """Look at the rates and limits of tasks, queues and names, and set them by hand."""


@flows.command("list")
@json_option
@database_options
@click.pass_context
def list_flows(ctx: click.Context, *, as_json: bool, url: str | None, schema: str | None) -> None:
    """List the rules with their busiest key, and the pauses of tasks, tags and keys."""
    with controlled(ctx, url, schema) as control:
        rules, pauses = list(control), control.pauses()
    if as_json:
        from ..control.explanation import as_data as plain

        data = {"flows": [as_data(each) for each in rules]}
        echo_json(plain({**data, "pauses": [each._asdict() for each in pauses]}))
        return
    no_color = bool(getattr(ctx.obj, "no_color", False))
    if rules:
        columns = [
            ("flow", LEFT), ("limit", RIGHT), ("by", LEFT), ("set by", LEFT), ("used", RIGHT),
            ("keys", RIGHT), ("waiting", RIGHT), ("next", RIGHT),
        ]  # fmt: skip
        show_table(columns, map(_row, rules), no_color=no_color)
    for pause in pauses:
        echo(_paused(pause))
    if not rules and not pauses:
        echo("There are no rates, no limits by key, and no pauses of jobs.")


@flows.command()
@click.argument("name")
@click.option("--keys", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
@database_options
@click.pass_context
def show(
    ctx: click.Context, *, name: str, keys: int, as_json: bool, url: str | None, schema: str | None
) -> None:
    """Show one rule and its busiest keys."""
    with controlled(ctx, url, schema) as control:
        rule = control.get(name, keys)
        if rule is None:
            known = [each.name for each in control]
    if rule is None:
        raise failure(LookupError(_unknown(name, known)))
    if as_json:
        echo_json(as_data(rule))
        return
    words = ["any number" if rule.limit is None else str(rule.limit)]
    words += ["at once"] if rule.kind == "running" else []
    words += [f"of each {rule.by}"] if rule.by else []
    words += [f"bursts of {rule.burst}"] if rule.burst else []
    words += [rule.algorithm] if rule.kind == "rate" else []
    words += ["on each worker"] if rule.scope == "worker" else []
    echo(f"{rule.name}: {', '.join(words)}; set by {rule.source}")
    columns = [
        ("key", LEFT), ("used", RIGHT), ("free", RIGHT), ("waiting", RIGHT), ("next", RIGHT)
    ]  # fmt: skip
    no_color = bool(getattr(ctx.obj, "no_color", False))
    show_table(columns, map(_key_row, rule.keys), no_color=no_color)
    if (more := rule.keys_in_use - len(rule.keys)) > 0:
        echo(f"{more:,} more keys are in use.")


@flows.command("set")
@click.argument("name")
@click.argument("limit", callback=read_rate, metavar="RATE|N|none")
@rule_options
@database_options
@click.pass_context
def set_flow(
    ctx: click.Context,
    /,
    name: str,
    limit: str | None,
    url: str | None,
    schema: str | None,
    **rule: Any,
) -> None:
    """Set a rule by hand: a rate (100/m), or for running/... how many at once."""
    with controlled(ctx, url, schema) as control:
        control.set(name, limit, **rule)
        echo(f"{name} is set to {'any number' if limit is None else limit}")


@flows.command()
@click.argument("name")
@database_options
@click.pass_context
def reset(ctx: click.Context, name: str, url: str | None, schema: str | None) -> None:
    """Let the rule of the code count again."""
    with controlled(ctx, url, schema) as control:
        was_set = control.reset(name)
        echo(f"{name} is reset" if was_set else f"{name} was not set by hand")


def as_data(rule: Flow) -> dict[str, Any]:
    """A rule for machines."""
    data = asdict(rule)
    data["keys"] = [asdict(each) for each in rule.keys]
    return data | {"kind": rule.kind, "used": rule.used}


def _row(rule: Flow) -> list[str]:
    waiting = f"{'>' if rule.is_cut else ''}{rule.waiting:,}"
    first = rule.keys[0] if rule.keys else None
    return [
        rule.name, "any" if rule.limit is None else str(rule.limit), rule.by or "", rule.source,
        str(rule.used), str(rule.keys_in_use) if rule.by else "", waiting,
        "" if first is None else _next(first),
    ]  # fmt: skip


def _key_row(key: KeyState) -> list[str]:
    free = "any" if key.free is None else str(key.free)
    return [key.key or "(all)", str(key.used), free, f"{key.waiting:,}", _next(key)]


def _next(key: KeyState) -> str:
    if key.next_in is None:
        return "when a job ends"
    return "now" if key.next_in <= 0 else f"in {key.next_in:.1f} s"


def _paused(pause: PauseRow) -> str:
    what = f"{pause.kind} {pause.name}" + (f" of {pause.queue}" if pause.queue else "")
    until = f", until {_time(pause.until)}" if pause.until else ""
    return f"{what} is paused since {_time(pause.paused_at)}{until}"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _unknown(name: str, known: list[str]) -> str:
    from ..job.checks import did_you_mean

    return f"there is no rule {name!r}{did_you_mean(name, known)}"


@contextmanager
def controlled(ctx: click.Context, url: str | None, schema: str | None) -> Iterator[Flows]:
    """The rules of the app's database, or that of ``--url``."""
    from ..control.flows import Flows

    with connected(ctx, url, schema) as (database, app):
        yield Flows(database, app)

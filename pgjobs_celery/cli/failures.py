"""``celery pgjobs failures``: which problems jobs stand at, and what changed with a deploy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import InvalidOption
from ..printable import one_line
from .database import database_options, find_database, reported, rights_of
from .output import echo, echo_json, failure, json_option, show_table

if TYPE_CHECKING:
    from ..control.failures import Change, Comparison
    from ..control.problems import Failures, Problem

F = TypeVar("F", bound=Callable[..., Any])

#: How much of a message stands in the table.
LONGEST = 100


def read_moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """A time, from how long ago it was or in ISO 8601; an option's callback."""
    from ..control.failures import moment

    try:
        return None if value is None else moment(value, datetime.now(timezone.utc))
    except InvalidOption as error:
        raise click.BadParameter(str(error)) from None


def _moment(flag: str, help: str) -> Callable[[F], F]:
    return click.option(flag, metavar="TIME", callback=read_moment, help=help)


@click.command("failures")
@database_options
@_moment("--since", "Only what failed since: 90, 15m, 2h, 3d ago, or a time in UTC.")
@_moment("--compare", "Before and after this time, that of a deploy for one: what is new, or gone.")
@click.option("--task", "tasks", multiple=True, help="Only of this task; may be repeated.")
@click.option("--queue", "queues", multiple=True, help="Only in this queue; may be repeated.")
@click.option("--error", "errors", multiple=True, help="Only of this type; may be repeated.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="0: all of them."
)
@json_option
@click.pass_context
def failures(
    ctx: click.Context,
    /,
    *,
    url: str | None,
    schema: str | None,
    since: datetime | None,
    compare: datetime | None,
    limit: int,
    as_json: bool,
    **words: Any,
) -> None:
    """List failures that are alike together, the last seen first."""
    # Every celery command imports this module; only this one opens a database.
    from ..control import failures as control
    from ..db.database import CONNECTION_ERRORS, get_database

    if compare is not None and (since is not None or any(words.values())):
        raise click.UsageError("--compare compares all failures: it takes no other filter")
    with reported():
        database = get_database(*find_database(getattr(ctx.obj, "app", None), url, schema))
        database.rights = rights_of(ctx)
        try:
            if compare is not None:
                compared = control.compare(database, compare)
            else:
                found = control.failures(database, since, **words)
        except CONNECTION_ERRORS as error:
            raise failure(error) from error
        finally:
            database.close()
    no_color = bool(getattr(ctx.obj, "no_color", False))
    if compare is not None:
        show_changes(compared, limit, as_json=as_json, no_color=no_color)
    else:
        show_failures(found, limit, as_json=as_json, no_color=no_color)


def show_failures(found: Failures, limit: int, *, as_json: bool, no_color: bool) -> None:
    """A line for each problem."""
    shown = found.problems[: limit or None]
    if as_json:
        echo_json([problem_data(problem) for problem in shown])
    elif shown:
        columns = [
            *_columns("jobs", "failed", right=True), *_columns("last seen (UTC)"),
            *_columns("first seen (UTC)"), *_columns("fingerprint", "task", "error", fold=True),
        ]  # fmt: skip
        rows = [
            (
                f"{problem.jobs:,}", f"{problem.discarded + problem.retryable:,}",
                shown_time(problem.last_seen), shown_time(problem.first_seen),
                problem.fingerprint, ", ".join(problem.tasks), error_of(problem),
            )
            for problem in shown
        ]  # fmt: skip
        show_table(columns, rows, no_color=no_color)
        echo(looked_at(found, len(shown)))
    else:
        echo("No job stands at a failure.")


def show_changes(compared: Comparison, limit: int, *, as_json: bool, no_color: bool) -> None:
    """A line for each problem, new ones first."""
    shown = compared.changes[: limit or None]
    if as_json:
        echo_json([change_data(change) for change in shown])
    elif shown:
        columns = [
            *_columns("change"), *_columns("before", "after", right=True),
            *_columns("first seen (UTC)"), *_columns("fingerprint", "task", "error", fold=True),
        ]  # fmt: skip
        rows = [
            (
                change.kind, f"{change.before:,}", f"{change.after:,}",
                shown_time(change.problem.first_seen), change.problem.fingerprint,
                ", ".join(change.problem.tasks), error_of(change.problem),
            )
            for change in shown
        ]  # fmt: skip
        show_table(columns, rows, no_color=no_color)
        for name, one in (("before", compared.before), ("after", compared.after)):
            echo(f"{name}: {looked_at(one, len(one.problems))}")
    else:
        echo("No job stands at a failure.")


def looked_at(found: Failures, shown: int) -> str:
    """The span, how many failures it has, and what was left out."""
    span = f"{shown_time(found.since)} to {shown_time(found.until)} UTC"
    text = f"{found.looked:,} failures, {span}"
    if found.is_cut:
        text += "; older ones were not looked at"
    left = len(found.problems) + found.more - shown
    return f"{text}; {left:,} more problems, --limit 0 shows all" if left > 0 else text


def problem_data(problem: Problem) -> dict[str, Any]:
    """A problem as ``--json`` prints it: every field, times in ISO 8601."""
    data = asdict(problem)
    for name in ("first_seen", "last_seen"):
        data[name] = data[name].astimezone(timezone.utc).isoformat()
    return data


def change_data(change: Change) -> dict[str, Any]:
    """A change as ``--json`` prints it."""
    return {
        "change": change.kind,
        "before": change.before,
        "after": change.after,
        "expected": round(change.expected, 2),
        **problem_data(change.problem),
    }


def error_of(problem: Problem) -> str:
    """``ValueError: invalid literal ... (app/tasks.py:12 in charge)``."""
    text = ": ".join(filter(None, (problem.type, problem.message)))
    text = one_line(text if len(text) <= LONGEST else text[:LONGEST] + "...")
    return f"{text} ({one_line(problem.frame)})" if problem.frame else text


def shown_time(moment: datetime) -> str:
    """To the second."""
    return f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}"


def _columns(
    *names: str, right: bool = False, fold: bool = False
) -> Sequence[tuple[str, dict[str, Any]]]:
    if right:
        return [(name, {"justify": "right"}) for name in names]
    return [(name, {"overflow": "fold"} if fold else {"no_wrap": True}) for name in names]

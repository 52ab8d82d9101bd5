"""``celery pgjobs history``: how often tasks ran and failed, and how long they waited and ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .database import database_options, find_database, reported, rights_of
from .output import echo, echo_json, failure, readable, show_table

if TYPE_CHECKING:
    from ..control.history import Measured, Window

#: The percentiles of waits and run times that are shown.
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@click.command("history")
@database_options
@click.option(
    "--range", "window", type=click.Choice(("hour", "day", "week")), default="hour",
    show_default=True, help="The last hour, day or week.",
)  # fmt: skip
@click.option(
    "--by", type=click.Choice(("task", "queue")), default="task", show_default=True,
    help="A line for each of these.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="For machines; with the histograms.")
@click.pass_context
def history(
    ctx: click.Context, /, *, url: str | None, schema: str | None, window: str, by: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Tell how many jobs ended and failed, and how long they waited and ran."""
    # Every celery command imports this module; only this one reads the history.
    from ..control.history import table, window_named
    from ..db.database import CONNECTION_ERRORS, get_database

    chosen = window_named(window)
    with reported():
        database = get_database(*find_database(getattr(ctx.obj, "app", None), url, schema))
        database.rights = rights_of(ctx)
        try:
            found = table(database, chosen, by)
        except CONNECTION_ERRORS as error:
            raise failure(error) from error
        finally:
            database.close()
    if as_json:
        echo_json(as_data(found, chosen, by))
    elif found:
        show(found, chosen, by, no_color=bool(getattr(ctx.obj, "no_color", False)))
    else:
        echo("Nothing ended in this time.")


def as_data(found: Mapping[str, Measured], window: Window, by: str) -> dict[str, Any]:
    """For ``--json``: durations in seconds, and the histograms with their bounds."""
    from ..control.history import BOUNDS

    return {
        "range": window.name,
        "seconds": window.seconds,
        "bounds": list(BOUNDS),
        by: {
            name: {
                **asdict(each.period),
                "ended": each.ended,
                "wait": {word: each.wait(share) for word, share in SHARES.items()},
                "run": {word: each.run(share) for word, share in SHARES.items()},
            }
            for name, each in found.items()
        },
    }


def show(found: Mapping[str, Measured], window: Window, by: str, *, no_color: bool) -> None:
    """One line for each, the busiest first."""
    right = {"justify": "right"}
    names = (
        "ended", "a minute", "failed", "retried", *(f"wait {word}" for word in SHARES),
        *(f"run {word}" for word in SHARES),
    )  # fmt: skip
    columns: list[tuple[str, dict[str, Any]]] = [
        (by, {"overflow": "fold"}), *((name, right) for name in names),
    ]  # fmt: skip
    rows = [
        (
            name, f"{each.ended:,}", f"{each.ended / window.seconds * 60:,.3g}", failed(each),
            f"{each.retried:,}", *(span(each.wait(share)) for share in SHARES.values()),
            *(span(each.run(share)) for share in SHARES.values()),
        )
        for name, each in found.items()
    ]  # fmt: skip
    show_table(columns, rows, no_color=no_color)


def failed(each: Measured) -> str:
    """``9 (14 %)``; nothing where none failed."""
    from ..control.attention import percent

    return f"{each.failed:,} ({percent(each.failure_share or 0.0)})" if each.failed else ""


def span(seconds: float | None) -> str:
    """A duration: ``4.2 ms``, ``1.23 s``, from a minute on ``0:04:10``; nothing for None."""
    if seconds is None or seconds >= 60:
        return readable(seconds)
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"

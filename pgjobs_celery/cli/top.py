"""``celery pgjobs top``: queues, workers and failures on the terminal, as they are."""

from __future__ import annotations

import logging
import signal
import time
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from ..db.dsn import describe
from .database import database_options, find_database, reported, rights_of
from .output import echo_json, writing
from .workers import as_data as worker_data
from .workers import in_time

if TYPE_CHECKING:
    from ..control.overview import Overview
    from ..db.database import Database
    from .top_view import View


@click.command("top")
@database_options
@click.option(
    "--interval",
    type=click.FloatRange(min=0.2),
    default=2.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--sort", default="ready", show_default=True, help="The column to sort queues by.")
@click.option("--filter", "words", default="", help="Only queues whose name contains this.")
@click.option("--once", is_flag=True, help="Print all of it once; so without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Once, for machines.")
@click.pass_context
def top(
    ctx: click.Context,
    *,
    url: str | None,
    schema: str | None,
    interval: float,
    sort: str,
    words: str,
    once: bool,
    as_json: bool,
) -> None:
    """Watch queues, workers and failures; keys pause, resume, filter and sort."""
    # Every celery command imports this module; only this one draws.
    from ..db.database import get_database
    from . import terminal
    from .top_look import look
    from .top_view import SORTS, View

    if sort not in SORTS:
        raise click.BadParameter(f"choose one of {', '.join(SORTS)}", param_hint="--sort")
    with reported():
        database = get_database(*find_database(getattr(ctx.obj, "app", None), url, schema))
        database.rights = rights_of(ctx)
        with in_time():
            found = look(database)
        view = View(sort, words, overview=found)
        if as_json:
            echo_json(as_data(found))
        elif once or not terminal.is_usable():
            print_once(view, database, no_color=bool(getattr(ctx.obj, "no_color", False)))
        else:
            ended_by = watch(view, database, getattr(ctx.obj, "app", None), interval)
            if ended_by not in (None, signal.SIGINT):
                ctx.exit(128 + ended_by)


def as_data(found: Overview) -> dict[str, Any]:
    """What ``--json`` prints: durations in seconds, times in ISO 8601."""
    data: dict[str, Any] = {
        "seconds": found.seconds,
        "queues": [asdict(queue) for queue in found.queues],
        "workers": [worker_data(worker) for worker in found.workers],
        "failures": [asdict(failure) for failure in found.failures],
    }
    for each in data["queues"]:
        if isinstance(each["paused_at"], datetime):
            each["paused_at"] = each["paused_at"].astimezone(timezone.utc).isoformat()
    return data


def print_once(view: View, database: Database, *, no_color: bool) -> None:
    """Print it, and leave."""
    from rich.console import Console

    from .top_screen import draw_all

    console = Console(no_color=no_color, highlight=False)
    if not console.is_terminal:
        console.width = 160  # a pipe has no edge to wrap at
    with writing():
        console.print(draw_all(view, title_of(database), console.width))


def watch(view: View, database: Database, app: Any, interval: float) -> int | None:
    """Show it until a key or a signal ends that; the signal."""
    from rich.console import Console
    from rich.live import Live

    from .terminal import Terminal
    from .top_look import Looker
    from .top_screen import draw

    # A line of a log would stand in the middle of the screen; the head tells of the same.
    logging.getLogger().handlers[:] = [logging.NullHandler()]
    terminal, console = Terminal(), Console(highlight=False)
    assert view.overview is not None
    looker = Looker(database, app, interval, view.overview, terminal.wake)
    looker.start()

    def screen() -> Any:
        # Not the console's own, which COLUMNS and LINES in the environment would hold fast.
        console.size = size = terminal.size
        view.overview = looker.overview
        view.message, looker.message = looker.message or view.message, ""
        corners = f" {title_of(database)}", f"{datetime.now():%H:%M:%S}  every {interval:g} s "
        return draw(view, corners, trouble_of(looker.trouble, looker.looked_at), *size)

    with terminal.reading():
        while terminal.ended_by is None and not terminal.is_gone:
            with Live(
                screen(), console=console, screen=True, auto_refresh=False, redirect_stderr=False
            ) as live:
                while terminal.ended_by is None and not terminal.is_gone:
                    for key in terminal.wait():
                        action = view.press(key)
                        if action is not None and action.kind == "quit":
                            looker.stop()
                            return None
                        if action is not None:
                            looker.ask(action)
                    if terminal.is_to_stop or terminal.is_gone:
                        break
                    live.update(screen(), refresh=True)
            if terminal.is_to_stop:
                terminal.suspend()
    looker.stop()
    return terminal.ended_by


def title_of(database: Database) -> str:
    """Which jobs these are."""
    return f"{database.schema} at {describe(database.conninfo)}"


def trouble_of(why: str, looked_at: float) -> str:
    """Why what is shown is old, and how old; empty if it is not."""
    return f" {time.monotonic() - looked_at:.0f} s old: {why}" if why else ""

"""``celery pgjobs workers``: which workers live, what each is, and what it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from .database import database_options, find_database, reported, rights_of
from .output import echo, echo_json, json_option, readable, show_table

if TYPE_CHECKING:
    from ..control.workers import Worker
    from ..db.database import Database

#: How long the database may take to answer, in seconds.
ANSWER_SECONDS = 10.0


@click.command("workers")
@database_options
@json_option
@click.pass_context
def workers(ctx: click.Context, *, url: str | None, schema: str | None, as_json: bool) -> None:
    """Show the workers: pool, queues, lease, versions, and what each runs and for how long."""
    # Every celery command imports this module; only this one looks at workers.
    from ..control.workers import list_workers

    with looking(ctx, url, schema) as database:
        found = list_workers(database)
    if as_json:
        echo_json([as_data(worker) for worker in found])
        return
    if not found:
        echo("No workers.")
        return
    no_color = bool(getattr(ctx.obj, "no_color", False))
    show_workers(found, no_color=no_color)
    if any(worker.jobs for worker in found):
        show_held(found, no_color=no_color)


@contextmanager
def looking(ctx: click.Context, url: str | None, schema: str | None) -> Iterator[Database]:
    """The database of the command, for a look that ends in time; every error is one line."""
    from ..db.database import get_database

    with reported(), in_time():
        database = get_database(*find_database(getattr(ctx.obj, "app", None), url, schema))
        database.rights = rights_of(ctx)
        try:
            yield database
        finally:
            database.close()


@contextmanager
def in_time() -> Iterator[None]:
    """A database that does not answer ends the command with a line that says so."""
    from ..db.database import OutOfTime, answered_by
    from ..scopes.steady import monotonic

    try:
        with answered_by(monotonic() + ANSWER_SECONDS):
            yield
    except OutOfTime:
        raise click.ClickException(
            f"the database has not answered within {ANSWER_SECONDS:g} s: a table may be locked, or "
            "the server busy; celery pgjobs doctor tells"
        ) from None


def as_data(worker: Worker) -> dict[str, Any]:
    """A worker as ``--json`` prints it; times in ISO 8601, durations in seconds."""
    data: dict[str, Any] = {**asdict(worker), "is_alive": worker.is_alive}
    for each in (data, *data["jobs"]):
        for name, value in each.items():
            if isinstance(value, datetime):
                each[name] = value.astimezone(timezone.utc).isoformat()
    return data


def show_workers(workers: Sequence[Worker], *, no_color: bool) -> None:
    """One line per worker; a column that no worker needs is left out."""
    has_lost = any(worker.lost_claims for worker in workers)
    columns: list[tuple[str, dict[str, Any]]] = [
        ("worker", {"overflow": "fold"}),
        ("pool", {"overflow": "fold"}),
        ("jobs", {"justify": "right", "no_wrap": True}),
        ("queues", {"overflow": "fold"}),
        ("lease", {"no_wrap": True}),
        *((("lost claims", {"justify": "right"}),) if has_lost else ()),
        ("up", {"justify": "right", "no_wrap": True}),
        ("process", {"overflow": "fold"}),
        ("version", {"overflow": "fold"}),
    ]
    rows = [
        (
            *(
                worker.name,
                worker.pool or "-",
                runs(worker),
                ", ".join(worker.queues),
                lease(worker),
            ),
            *((str(worker.lost_claims),) if has_lost else ()),
            *(readable(worker.uptime), process(worker), versions(worker)),
        )
        for worker in workers
    ]
    show_table(columns, rows, no_color=no_color)


def show_held(workers: Sequence[Worker], *, no_color: bool) -> None:
    """One line per job that a worker holds."""
    columns: list[tuple[str, dict[str, Any]]] = [
        ("worker", {"overflow": "fold"}),
        ("for", {"justify": "right", "no_wrap": True}),
        *((name, {"overflow": "fold"}) for name in ("task", "queue")),
        ("attempt", {"justify": "right"}),
        ("id", {"overflow": "fold"}),
    ]
    rows = [
        (worker.name, readable(job.seconds), job.task, job.queue, str(job.attempt), job.task_id)
        for worker in workers
        for job in worker.jobs
    ]
    show_table(columns, rows, no_color=no_color)


def runs(worker: Worker) -> str:
    """How many jobs it holds, and of how many that it can run."""
    return f"{len(worker.jobs)}" if worker.slots is None else f"{len(worker.jobs)}/{worker.slots}"


def lease(worker: Worker) -> str:
    """How it stands with its heartbeats."""
    if not worker.is_alive:
        # The heartbeat of a worker that others have condemned is at the beginning of time.
        silent = -worker.lease_left
        return f"dead for {readable(silent)}" if silent < 86_400 else "dead"
    left = f"{worker.lease_left:.0f} s left"
    return f"silent, {left}" if worker.is_silent else left


def process(worker: Worker) -> str:
    """Where it runs."""
    return "-" if worker.host is None else f"{worker.host}:{worker.pid}"


def versions(worker: Worker) -> str:
    """Of this package, and of Celery."""
    own = worker.version or "-"
    return own if worker.celery is None else f"{own}, Celery {worker.celery}"

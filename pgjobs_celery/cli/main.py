"""``celery pgjobs``: migrate the schema, see what the queues hold, look after the rows.

Celery finds the group through its entry point group ``celery.commands`` and loads it with every
``celery`` command, so whatever takes long to import is imported where it is used.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import click
from celery.bin.base import handle_preload_options

from .. import _required  # noqa: F401
from ..config import read_settings
from ..db.dsn import describe
from ..db.migrations import files as migration_files
from ..db.migrations import live, versions
from ..db.migrations import migrate as migrations
from ..db.sql import statement
from ..errors import SchemaMissing
from ..job.states import State
from . import audit as cli_audit
from . import doctor as cli_doctor
from . import failures as cli_failures
from . import flows as cli_flows
from . import history as cli_history
from . import jobs as cli_jobs
from . import metrics as cli_metrics
from . import pauses as cli_pauses
from . import queues as cli_queues
from . import ready as cli_ready
from . import schedules as cli_schedules
from . import top as cli_top
from . import web as cli_web
from . import workers as cli_workers
from .database import RIGHTS, database_options, find_database, reported
from .output import echo, echo_json, echo_lines, json_option, readable, show_table


@click.group()
@click.pass_context
@handle_preload_options  # type: ignore[untyped-decorator]
def pgjobs(ctx: click.Context, **preload: Any) -> None:
    """Look after the PostgreSQL schema and the jobs in it."""
    # Every celery command imports this module; only those of this group act.
    from ..control.acting import CLI, acting_through

    ctx.with_resource(acting_through(CLI))


OTHERS = (
    cli_audit.audit,
    cli_doctor.doctor,
    cli_failures.failures,
    cli_flows.flows,
    cli_queues.queues,
    cli_queues.limit,
    cli_history.history,
    cli_metrics.metrics,
    cli_ready.ready,
    cli_workers.workers,
    cli_top.top,
    cli_web.web,
    cli_schedules.schedules,
)

for command in (*cli_jobs.COMMANDS, *cli_pauses.COMMANDS, *OTHERS):
    pgjobs.add_command(command)
for command in cli_pauses.COMMANDS:  # `celery pgjobs queues pause` as well
    cli_queues.queues.add_command(command)


@pgjobs.command()
@database_options
@click.option("--to", type=click.IntRange(min=0), help="Go up or down to this version; 0: remove.")
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if there is work to do.")
@click.option("--sql", "as_sql", is_flag=True, help="Change nothing; print the SQL for psql.")
@click.option(
    "--lock-timeout",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="Seconds to wait for a locked table; 0: for ever.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for another process that migrates.",
)
@click.pass_context
def migrate(
    ctx: click.Context,
    *,
    url: str | None,
    schema: str | None,
    to: int | None,
    check: bool,
    as_sql: bool,
    lock_timeout: float,
    wait: float,
) -> None:
    """Bring the schema to the version this release needs, or to another one."""
    if check and as_sql:
        raise click.UsageError("--check and --sql cannot be used together")
    with opened(ctx, url, schema) as db:
        if as_sql:
            steps = migrations.plan(db.connection, db.schema, to)
            echo_lines(migration_files.script(steps, lock_timeout))
        elif check:
            ctx.exit(0 if check_version(db, to) else 1)
        else:
            warn_of_workers(db, migrations.plan(db.connection, db.schema, to))
            steps = migrations.migrate(
                db.connection,
                db.schema,
                to,
                lock_timeout=lock_timeout,
                wait=wait,
                on_step=lambda step: echo(f"{step}  {step.seconds:.2f} s"),
            )
            version = versions.status(db.connection, db.schema).version
            echo(f"{db} is at version {version}" + ("" if steps else ": nothing to do"))


@pgjobs.command()
@database_options
@json_option
@click.pass_context
def status(ctx: click.Context, *, url: str | None, schema: str | None, as_json: bool) -> None:
    """Show what each queue holds, how long the oldest has waited, what is paused or limited."""
    with opened(ctx, url, schema) as db:
        now = versions.status(db.connection, db.schema, rights=RIGHTS["status"])
        if not now.version:
            raise SchemaMissing(f"{db} has no tables yet: run `{versions.COMMAND}`")
        with versions.permitted(db.connection, db.schema, RIGHTS["status"]):
            queues = count_jobs(db)
    if as_json:
        echo_json(as_data(db, now, queues))
        return
    if queues:
        print_table(queues, no_color=bool(getattr(ctx.obj, "no_color", False)))
    else:
        echo("No jobs.")
    echo(describe_version(db, now))


@pgjobs.command()
@database_options
@click.option("--once", is_flag=True, help="Do what there is to do, and leave.")
@click.pass_context
def maintain(ctx: click.Context, *, url: str | None, schema: str | None, once: bool) -> None:
    """Stage, rescue, prune and reap here: for workers that have pgjobs_maintenance = False."""
    # Every celery command imports this module; only this one runs services.
    from ..db.database import get_database
    from ..maintenance.heartbeat import Heartbeat
    from ..node.nodes import get_node

    app = getattr(ctx.obj, "app", None)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with reported():
        database = get_database(*find_database(app, url, schema))
        database.verify()
        settings = replace(read_settings(app.conf if app else {}), maintenance=True)
        node = get_node(database)
        node.configure(f"maintenance@{socket.gethostname()}", settings)
        node.start()
        echo(f"maintaining schema {database.schema} at {describe(database.conninfo)}")
        if once:
            node.services.hurry_all()
            # Only a node that has lived for a while can call others dead.
            stopped.wait(Heartbeat.grace + 2 * settings.heartbeat_interval)
        else:
            stopped.wait()
        node.close()


#: The version of the schema from which queues can be paused and limited.
LIMITS_VERSION = 2


@dataclass(frozen=True)
class Opened:
    """The database a command works on."""

    connection: versions.Connection
    conninfo: str
    schema: str

    def __str__(self) -> str:
        return f"schema {self.schema} at {describe(self.conninfo)}"


@dataclass
class QueueCount:
    """The jobs of one queue."""

    queue: str
    states: dict[State, int] = field(default_factory=lambda: dict.fromkeys(State, 0))
    #: Seconds since the oldest ready job could have run; None where none is ready.
    oldest_wait: float | None = None
    #: The time since which it is paused, and how many of its jobs may run at once.
    paused_at: datetime | None = None
    concurrency: int | None = None


@contextmanager
def opened(ctx: click.Context, url: str | None, schema: str | None) -> Iterator[Opened]:
    """The database of the app or of ``--url``; every error in the block is one line."""
    with reported():
        conninfo, options = find_database(getattr(ctx.obj, "app", None), url, schema)
        with migrations.session(conninfo, options.connect_timeout) as connection:
            yield Opened(connection, conninfo, options.schema)


def warn_of_workers(db: Opened, steps: Sequence[migration_files.Step]) -> None:
    """Name the live workers that the steps would break."""
    if broken := live.broken_by(db.connection, db.schema, steps):
        echo(f"Warning: {live.warning(broken)}", err=True)


def check_version(db: Opened, to: int | None) -> bool:
    """Print the steps of ``migrate``; True if there are none."""
    now = versions.status(db.connection, db.schema)
    steps = migrations.plan(db.connection, db.schema, to)
    if steps:
        echo(f"{db} is at version {now.version}, to be done:")
        for step in steps:
            echo(f"  {step}")
        echo(f"run `{versions.COMMAND}{'' if to is None else f' --to {to}'}`")
        warn_of_workers(db, steps)
    elif to is None:
        echo(describe_version(db, now))
    else:
        echo(f"{db} is at version {now.version}: nothing to do")
    for file in now.changed:
        echo(f"note: {file}.sql is not what was applied; the file was edited since")
    return not steps


def describe_version(db: Opened, now: versions.Status) -> str:
    """Where the schema stands, in one line."""
    if now.pending:
        return (
            f"{db} is at version {now.version}, this release needs {now.newest}: "
            f"run `{versions.COMMAND}`"
        )
    if now.version > now.newest:
        fits = "not fit for this one" if now.is_breaking else "fit for this one"
        return f"{db} is at version {now.version}, from a newer release, {fits} ({now.newest})"
    return f"{db} is at version {now.version}: up to date"


def count_jobs(db: Opened) -> list[QueueCount]:
    """The jobs of each queue; reads every retained row."""
    queues: dict[str, QueueCount] = {}
    rows = db.connection.execute(statement("count_jobs", db.schema)).fetchall()
    for queue, state, jobs, oldest_wait in rows:
        count = queues.setdefault(queue, QueueCount(queue))
        count.states[State(state)] = jobs
        if oldest_wait is not None:
            count.oldest_wait = max(0.0, oldest_wait)
    if versions.status(db.connection, db.schema).version >= LIMITS_VERSION:
        rows = db.connection.execute(statement("list_limited", db.schema)).fetchall()
        for queue, paused_at, concurrency in rows:
            count = queues.setdefault(queue, QueueCount(queue))
            count.paused_at, count.concurrency = paused_at, concurrency
    return [queues[queue] for queue in sorted(queues)]


def as_data(db: Opened, now: versions.Status, queues: list[QueueCount]) -> dict[str, Any]:
    """The data of ``status --json``; waits in seconds."""
    waits = [queue.oldest_wait for queue in queues if queue.oldest_wait is not None]
    return {
        "database": describe(db.conninfo),
        "schema": db.schema,
        "version": now.version,
        "newest": now.newest,
        "pending": [str(file) for file in now.pending],
        "oldest_wait": max(waits, default=None),
        "queues": [
            {
                "queue": queue.queue,
                "jobs": {state.value: jobs for state, jobs in queue.states.items()},
                "oldest_wait": queue.oldest_wait,
                "paused_at": queue.paused_at.isoformat() if queue.paused_at else None,
                "concurrency": queue.concurrency,
            }
            for queue in queues
        ],
    }


def print_table(queues: list[QueueCount], *, no_color: bool) -> None:
    """One line per queue; a column that no queue needs is left out."""
    states = [state for state in State if any(queue.states[state] for queue in queues)]
    right = {"justify": "right"}
    columns: list[tuple[str, dict[str, Any]]] = [
        ("queue", {"overflow": "fold"}),
        *((state.value, right) for state in states),
        ("oldest wait", right),
    ]
    is_limited = any(queue.concurrency is not None for queue in queues)
    is_paused = any(queue.paused_at is not None for queue in queues)
    if is_limited:
        columns.append(("limit", right))
    if is_paused:
        columns.append(("paused since", {}))
    rows = []
    for queue in queues:
        cells = [queue.queue or "(no queue)", *(str(queue.states[state]) for state in states)]
        cells.append(readable(queue.oldest_wait))
        if is_limited:
            cells.append("" if queue.concurrency is None else str(queue.concurrency))
        if is_paused:
            cells.append(f"{queue.paused_at:%Y-%m-%d %H:%M}" if queue.paused_at else "")
        rows.append(cells)
    show_table(columns, rows, no_color=no_color)

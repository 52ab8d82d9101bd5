"""``celery pgjobs audit``: who did what to jobs, queues and entries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timezone
from typing import TYPE_CHECKING, Any

import click

from ..printable import one_line
from .database import database_options, find_database, reported, rights_of
from .filters import read_duration
from .output import echo, echo_json, failure, json_option, show_table

if TYPE_CHECKING:
    from ..db.rows.audit import AuditEntry


@click.command("audit")
@database_options
@click.option("--actor", help="Only what this one did: the name in full.")
@click.option("--action", help="Only this action: cancel_jobs, pause_queue, ...")
@click.option("--queue", help="Only what was done to this queue, or to jobs of it alone.")
@click.option("--schedule", help="Only what was done to this entry.")
@click.option("--job", metavar="ID", help="Only what was done to this job: its id in full.")
@click.option(
    "--since", metavar="AGE", callback=read_duration, help="Only the last: 90, 15m, 2h, 3d."
)
@click.option(
    "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="0: all of them."
)
@json_option
@click.pass_context
def audit(
    ctx: click.Context,
    /,
    *,
    url: str | None,
    schema: str | None,
    limit: int,
    as_json: bool,
    **filters: Any,
) -> None:
    """List who did what to jobs, queues and entries, the newest first."""
    # Every celery command imports this module; only this one opens a database.
    from ..control.audit import audit as audit_of
    from ..db.database import CONNECTION_ERRORS, get_database

    with reported():
        database = get_database(*find_database(getattr(ctx.obj, "app", None), url, schema))
        database.rights = rights_of(ctx)
        try:
            entries = audit_of(database).list(limit or None, **filters)
        except CONNECTION_ERRORS as error:
            raise failure(error) from error
        finally:
            database.close()
    if as_json:
        echo_json([as_data(entry) for entry in entries])
    elif entries:
        print_entries(entries, no_color=bool(getattr(ctx.obj, "no_color", False)))
        if limit and len(entries) == limit:
            echo(f"The last {limit}; --limit 0 shows all.")
    else:
        echo("Nothing of that was recorded.")


def as_data(entry: AuditEntry) -> dict[str, Any]:
    """An entry as ``--json`` prints it: every field of AuditEntry, the time in ISO 8601."""
    return {**entry._asdict(), "at": entry.at.astimezone(timezone.utc).isoformat()}


def print_entries(entries: Sequence[AuditEntry], *, no_color: bool) -> None:
    """One line per action."""
    columns: list[tuple[str, dict[str, Any]]] = [
        ("at (UTC)", {"no_wrap": True}),
        *((name, {"overflow": "fold"}) for name in ("actor", "via", "action", "to", "with")),
    ]
    rows = [
        (
            f"{entry.at.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}",
            *(entry.actor, entry.via, entry.action, target(entry), words(entry)),
        )
        for entry in entries
    ]
    show_table(columns, rows, no_color=no_color)


def target(entry: AuditEntry) -> str:
    """The target of the action: ``3 jobs of queue emails``."""
    if entry.schedule is not None:
        return f"entry {entry.schedule}"
    queue = f"queue {entry.queue}" if entry.queue is not None else ""
    if not entry.jobs:
        return queue
    jobs = f"job {entry.task_ids[0]}" if entry.jobs == 1 == len(entry.task_ids) else ""
    jobs = jobs or f"{entry.jobs:,} job{'' if entry.jobs == 1 else 's'}"
    return f"{jobs} of {queue}" if queue else jobs


def words(entry: AuditEntry) -> str:
    """The filters, and what else was asked for."""
    found = [entry.filters] if entry.filters else []
    for name, value in entry.details.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        found += [f"{name}: {shown}"] if value not in ("", None) else []
    return one_line("; ".join(found))

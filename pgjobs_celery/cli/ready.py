"""``celery pgjobs ready``: a probe for a container without a port."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import click

from .database import RIGHTS, database_options, find_database, reported
from .output import echo, echo_json, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..db.rows.metrics import WorkerRow


@click.command()
@database_options
@click.option("--worker", metavar="NAME", help="Its name; default: every worker of this host.")
@json_option
@click.pass_context
def ready(
    ctx: click.Context, *, url: str | None, schema: str | None, worker: str | None, as_json: bool
) -> None:
    """Exit with 0 if the worker is within its lease, and the schema fits; otherwise with 1."""
    # Every celery command imports this module; only this one asks for workers.
    from ..db.database import get_database

    with reported():
        database = get_database(*find_database(getattr(ctx.obj, "app", None), url, schema))
        database.rights = RIGHTS["ready"]
        try:
            rows = database.metrics.list_workers()
        finally:
            database.close()
    data = judge(rows, worker, socket.gethostname())
    if as_json:
        echo_json(data)
    else:
        echo("ready" if data["ok"] else "; ".join(each["text"] for each in data["reasons"]))
    ctx.exit(0 if data["ok"] else 1)


def judge(rows: Sequence[WorkerRow], worker: str | None, host: str) -> dict[str, Any]:
    """Whether this worker, or each of this host, is alive; in the form of ``/ready``."""
    own = [row for row in rows if (row.name == worker if worker else row.name.endswith(f"@{host}"))]
    name = worker or f"any worker at {host}"
    found = [
        {"kind": "lease", "text": f"the lease of {row.name} has lapsed"}
        for row in own
        if not row.is_alive
    ]
    if worker and any(row.is_alive for row in own):
        found = []  # the row of one that was killed before has the same name
    if not own:
        found = [{"kind": "not_consuming", "text": f"{name} has not begun to consume, or has left"}]
    return {"worker": name, "ok": not found, "reasons": found}

"""``celery pgjobs metrics``: print what a scrape shows, or serve it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ..config import read_settings
from ..db.dsn import describe
from ..errors import PermissionMissing, PgJobsError
from .database import RIGHTS, database_options, find_database, reported
from .output import echo, echo_json, echo_lines

if TYPE_CHECKING:
    from ..db.database import Database


@click.command()
@database_options
@click.option("--port", type=click.IntRange(0, 65535), help="Serve /metrics there; 0: any port.")
@click.option("--address", default="0.0.0.0", show_default=True, help="Where to listen.")
@click.option("--json", "as_json", is_flag=True, help="For machines other than Prometheus.")
@click.pass_context
def metrics(
    ctx: click.Context,
    *,
    url: str | None,
    schema: str | None,
    port: int | None,
    address: str,
    as_json: bool,
) -> None:
    """Print the metrics for Prometheus, or serve them until it is stopped."""
    if port is not None and as_json:
        raise click.UsageError("--json and --port cannot be used together")
    # Every celery command imports this module; only this one reads metrics.
    from ..control.metrics import as_data, read_metrics

    with reading(ctx, url, schema) as (database, limit):
        if as_json:
            echo_json(as_data(read_metrics(database, limit)))
            return
        from ..control.prometheus import exposition

        if port is None:
            echo_lines(exposition(read_metrics(database, limit))[0].decode())
        else:
            serve(database, limit, address, port)


@contextmanager
def reading(
    ctx: click.Context, url: str | None, schema: str | None
) -> Iterator[tuple[Database, int]]:
    """The database, and how many queues to show; every error in the block is one line."""
    from ..db.database import get_database

    app = getattr(ctx.obj, "app", None)
    with reported():
        database = get_database(*find_database(app, url, schema))
        database.rights = RIGHTS["metrics"]
        database.verify()
        try:
            yield database, read_settings(app.conf if app else {}).metrics_limit
        finally:
            database.close()


def serve(database: Database, limit: int, address: str, port: int) -> None:
    """Answer scrapes until a signal comes; and count, as workers do, in case none runs."""
    from ..control.metrics import read_metrics
    from ..control.port import Answer, Port
    from ..control.prometheus import exposition
    from ..maintenance.fold import Fold
    from ..maintenance.loop import Loop

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    loop = Loop(database)
    try:
        Fold(limit).run(database)
        loop.add(Fold(limit))
    except PermissionMissing:
        echo("the role may only read: the counts are those of the workers", err=True)

    def scrape(accept: str) -> Answer:
        return Answer(200, *exposition(read_metrics(database, limit), accept))

    try:
        served = Port(address, port, {"/metrics": scrape})
    except OSError as error:
        loop.stop()
        raise PgJobsError(f"port {port} at {address} cannot be had: {error.strerror}") from error
    echo(
        f"metrics of schema {database.schema} at {describe(database.conninfo)}"
        f" on port {served.number}"
    )
    stopped.wait()
    served.close()
    loop.stop()

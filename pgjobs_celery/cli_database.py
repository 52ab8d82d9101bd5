"""What the commands of ``celery pgjobs`` share: which database, and errors as one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from .cli_output import failure, say
from .config import Options, read_options
from .db.dsn import first_url, parse_url
from .errors import PgJobsError

F = TypeVar("F", bound=Callable[..., Any])


def database_options(command: F) -> F:
    """``--url`` and ``--schema``, for a command that opens the database."""
    for option in (
        click.option("--schema", help="The schema of the tables; default: as the app has it."),
        click.option("--url", help="pgjobs://user@host:5432/database; default: the app's."),
    ):
        command = option(command)
    return command


@contextmanager
def reported() -> Iterator[None]:
    """Every error of ours in the block is one line."""
    try:
        yield
    except PgJobsError as error:
        raise failure(error) from error


def find_database(app: Any, url: str | None, schema: str | None) -> tuple[str, Options]:
    """The connection string and the options: ``--url``, or the app's broker, or its backend.

    Raises click.UsageError where none of them is a pgjobs URL.
    """
    # As attributes: Celery lets -b and the environment speak there, but not in conf.get().
    conf = app.conf if app is not None else None
    broker = first_url(getattr(conf, "broker_url", None))
    backend = first_url(getattr(conf, "result_backend", None))
    broker_options = getattr(conf, "broker_transport_options", None) or {}
    backend_options = getattr(conf, "result_backend_transport_options", None) or {}
    given = broker_options if broker or not backend else backend_options
    options, warnings = read_options(given)
    named = [schema, broker_options.get("schema"), backend_options.get("schema")]
    chosen = next((name for name in named if name), options.schema)
    options, _ = read_options({"schema": chosen}, options)
    url = url or broker or backend
    if not url:
        raise click.UsageError(
            "there is no pgjobs URL: set broker_url or result_backend to "
            "pgjobs://user@host:5432/database, name the app with `celery -A proj`, or give --url"
        )
    for warning in warnings if broker or backend else ():
        say(f"Warning: {warning}", err=True)
    return parse_url(url), options

"""Shared by the commands of ``celery pgjobs``: the database, and errors as one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from ..config import Options, is_news, read_options
from ..db.dsn import bare_url, our_urls, parse_url, write_ours
from ..db.failures import SERVER_ERRORS
from ..db.migrations.migrate import first_live
from ..errors import PgJobsError
from .output import echo, failure

#: The privileges that each command needs; a command that is not listed needs as many as a worker.
RIGHTS: dict[str, dict[str, tuple[str, ...]]] = {
    "status": {"jobs": ("SELECT",), "queues": ("SELECT",), "limits": ("SELECT",)},
    "jobs": {"jobs": ("SELECT",)},
    "show": {"jobs": ("SELECT",)},
    "explain": {
        "jobs": ("SELECT",), "nodes": ("SELECT",), "limits": ("SELECT",), "groups": ("SELECT",),
    },
    "workers": {"jobs": ("SELECT",), "nodes": ("SELECT",), "queues": ("SELECT",)},
    "ready": {"nodes": ("SELECT",), "queues": ("SELECT",)},
    "metrics": dict.fromkeys(
        ("totals", "lines", "fold", "queues", "limits", "nodes", "schedules"), ("SELECT",)
    ),
    "top": {
        "jobs": ("SELECT",), "nodes": ("SELECT",), "queues": ("SELECT",), "limits": ("SELECT",),
    },
    "cancel": {"jobs": ("SELECT", "UPDATE"), "audit": ("INSERT",)},
    "retry": {"jobs": ("SELECT", "UPDATE"), "audit": ("INSERT",), "jobs_seq": ("USAGE",)},
    "delete": {"jobs": ("SELECT", "UPDATE", "DELETE"), "audit": ("INSERT",)},
    "reschedule": {"jobs": ("SELECT", "UPDATE"), "audit": ("INSERT",), "jobs_seq": ("USAGE",)},
    "prioritize": {"jobs": ("SELECT", "UPDATE"), "audit": ("INSERT",), "jobs_seq": ("USAGE",)},
    "move": {"jobs": ("SELECT", "UPDATE"), "audit": ("INSERT",), "jobs_seq": ("USAGE",)},
    "audit": {"audit": ("SELECT",), "jobs": ("SELECT",)},
    # Claims wait for the transaction that has locked the nodes.
    "pause": {
        "limits": ("SELECT", "INSERT", "UPDATE"), "nodes": ("UPDATE",), "audit": ("INSERT",),
    },
    "resume": {"limits": ("SELECT", "UPDATE"), "audit": ("INSERT",)},
    "limit": {
        "limits": ("SELECT", "INSERT", "UPDATE"), "nodes": ("UPDATE",),
        "slots": ("SELECT", "INSERT", "UPDATE"), "jobs": ("SELECT",), "audit": ("INSERT",),
    },
    "schedules list": {"schedules": ("SELECT",), "jobs": ("SELECT",)},
    "schedules show": {"schedules": ("SELECT",), "jobs": ("SELECT",)},
    "schedules check": {"schedules": ("SELECT",), "jobs": ("SELECT",)},
    "schedules add": {
        "schedules": ("SELECT", "INSERT", "UPDATE"), "schedules_version": ("USAGE",),
        "jobs": ("SELECT",), "audit": ("INSERT",),
    },
    "schedules pause": {
        "schedules": ("SELECT", "UPDATE"), "schedules_version": ("USAGE",), "jobs": ("SELECT",),
        "audit": ("INSERT",),
    },
    "schedules resume": {
        "schedules": ("SELECT", "UPDATE"), "schedules_version": ("USAGE",), "jobs": ("SELECT",),
        "audit": ("INSERT",),
    },
    "schedules repair": {
        "schedules": ("SELECT", "UPDATE"), "schedules_version": ("USAGE",), "jobs": ("SELECT",),
        "audit": ("INSERT",),
    },
    "schedules delete": {
        "schedules": ("SELECT", "DELETE"), "jobs": ("SELECT",), "audit": ("INSERT",),
    },
}  # fmt: skip

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
    """Every error of ours, or of the server, in the block is one line."""
    try:
        yield
    except (PgJobsError, SERVER_ERRORS) as error:
        raise failure(error) from error


def rights_of(ctx: click.Context) -> dict[str, tuple[str, ...]] | None:
    """The privileges that the running command needs; None for all."""
    words = [ctx.info_name or ""]
    if ctx.parent is not None and ctx.parent.info_name == "schedules":
        words.insert(0, "schedules")
    return RIGHTS.get(" ".join(words))


def find_database(app: Any, url: str | None, schema: str | None) -> tuple[str, Options]:
    """The connection string and the options: ``--url``, or the app's broker, or its backend.

    Of several URLs that of the first server that takes writes; they are asked for it.

    Raises click.UsageError where none of them is a pgjobs URL.
    """
    # As attributes: Celery lets -b and the environment speak there, but not in conf.get().
    conf = app.conf if app is not None else None
    broker = our_urls(getattr(conf, "broker_url", None))
    backend = our_urls(getattr(conf, "result_backend", None))
    broker_options = getattr(conf, "broker_transport_options", None) or {}
    backend_options = getattr(conf, "result_backend_transport_options", None) or {}
    given = broker_options if broker or not backend else backend_options
    options, warnings = read_options(given)
    named = [schema, broker_options.get("schema"), backend_options.get("schema")]
    chosen = next((name for name in named if name), options.schema)
    options, _ = read_options({"schema": chosen}, options)
    urls = [url] if url else broker or backend
    if not urls:
        names = ("broker_url", "result_backend")
        for bare in filter(None, (bare_url(getattr(conf, name, None)) for name in names)):
            raise click.UsageError(write_ours(bare))
        raise click.UsageError(
            "there is no pgjobs URL: set broker_url or result_backend to "
            "pgjobs://user@host:5432/database, name the app with `celery -A proj`, or give --url"
        )
    for warning in warnings if broker or backend else ():
        if is_news(warning):
            echo(f"Warning: {warning}", err=True)
    return first_live([parse_url(each) for each in urls], options.connect_timeout), options

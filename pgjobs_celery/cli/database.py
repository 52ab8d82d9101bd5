"""Shared by the commands of ``celery pgjobs``: the database, and errors as one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from ..config import Options, is_news, read_options
from ..control.rights import ACTION_RIGHTS
from ..db.dsn import bare_url, our_urls, parse_url, write_ours
from ..db.failures import SERVER_ERRORS
from ..db.migrations.migrate import first_live
from ..db.rights import Rights
from ..errors import PgJobsError
from .output import echo, failure

_FLOWS: Rights = dict.fromkeys(("flows", "gates", "lanes", "pauses", "jobs"), ("SELECT",))

#: The commands that do what the audit calls by these names.
ACTIONS = {
    "cancel": "cancel_jobs", "retry": "retry_jobs", "delete": "delete_jobs",
    "reschedule": "reschedule_jobs", "prioritize": "prioritize_jobs", "move": "move_jobs",
    "signal": "signal_job",
    "pause": "pause_queue", "resume": "resume_queue", "limit": "limit_queue",
    "queues pause": "pause_queue", "queues resume": "resume_queue",
    "queues rate": "set_flow", "queues concurrency": "set_flow", "queues fair": "share_queue",
    "queues unfair": "share_queue", "queues weight": "weigh_key", "queues depth": "bound_queue",
    "queues reset": "reset_queue", "flows set": "set_flow", "flows reset": "reset_flow",
    "schedules add": "put_schedule", "schedules pause": "pause_schedule",
    "schedules resume": "resume_schedule", "schedules delete": "delete_schedule",
}  # fmt: skip

#: The groups whose commands are named with them.
GROUPS = ("schedules", "queues", "flows")

#: The privileges that each command needs; a command that is not listed needs as many as a worker.
RIGHTS: dict[str, Rights] = {
    "status": {"jobs": ("SELECT",), "queues": ("SELECT",), "limits": ("SELECT",)},
    "jobs": {"jobs": ("SELECT",)},
    "show": {"jobs": ("SELECT",), "steps": ("SELECT",), "waits": ("SELECT",)},
    "explain": {
        "jobs": ("SELECT",), "nodes": ("SELECT",), "limits": ("SELECT",), "groups": ("SELECT",),
        **_FLOWS,
        "steps": ("SELECT",), "waits": ("SELECT",), "signals": ("SELECT",),
    },
    "queues explain": {
        **_FLOWS, "nodes": ("SELECT",), "limits": ("SELECT",), "queues": ("SELECT",),
    },
    "workers": {"jobs": ("SELECT",), "nodes": ("SELECT",), "queues": ("SELECT",)},
    "ready": {"nodes": ("SELECT",), "queues": ("SELECT",)},
    "metrics": dict.fromkeys(
        (
            *("totals", "lines", "fold", "queues", "limits", "nodes", "schedules", "jobs"),
            *("waits", "signals"),
            *("flows", "gates", "lanes", "pauses"),
        ),
        ("SELECT",),
    ),
    "history": {"history": ("SELECT",), "fold": ("SELECT",)},
    "top": {
        "jobs": ("SELECT",), "nodes": ("SELECT",), "queues": ("SELECT",), "limits": ("SELECT",),
    },
    "audit": {"audit": ("SELECT",), "jobs": ("SELECT",)},
    "queues list": {"queues": ("SELECT",), "limits": ("SELECT",)},
    "flows list": _FLOWS,
    "flows show": _FLOWS,
    "schedules list": {"schedules": ("SELECT",), "jobs": ("SELECT",)},
    "schedules show": {"schedules": ("SELECT",), "jobs": ("SELECT",)},
    "schedules check": {"schedules": ("SELECT",), "jobs": ("SELECT",)},
    "schedules repair": {
        "schedules": ("SELECT", "UPDATE"), "schedules_version": ("USAGE",), "jobs": ("SELECT",),
        "audit": ("INSERT",),
    },
    **{
        command: rights
        for command, action in ACTIONS.items()
        if (rights := ACTION_RIGHTS[action]) is not None
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


def rights_of(ctx: click.Context) -> Rights | None:
    """The privileges that the running command needs; None for all."""
    words = [ctx.info_name or ""]
    if ctx.parent is not None and ctx.parent.info_name in GROUPS:
        words.insert(0, ctx.parent.info_name)
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

"""Which of Django's databases has the jobs, and in which schema: the Celery app says so.

It has no setting of its own, which could contradict the URL by which jobs are published.
"""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote

from django.apps import apps
from django.db import router
from django.urls import NoReverseMatch, reverse

from ..config import Options
from ..control.app import database_of, find_app
from ..db.database import Database, get_database
from ..db.dsn import alias_of, first_url, parse_url
from ..errors import PgJobsError


def jobs_alias() -> str:
    """The alias in ``broker_url`` or, where that has none, in ``result_backend``.

    Where neither is ``pgjobs+django://``, the one that the routers have for jobs, which is
    ``default`` if they do not say.
    """
    conf = getattr(find_app(), "conf", None)
    for name in ("broker_write_url", "broker_url", "result_backend"):
        url = first_url(getattr(conf, name, None))
        if url and (alias := alias_of(parse_url(url))) is not None:
            return alias
    return str(router.db_for_write(apps.get_model("pgjobs", "Job")))


def jobs_schema() -> str:
    """The schema in the transport options of broker or result backend, or the default."""
    conf = getattr(find_app(), "conf", None)
    for name in ("broker_transport_options", "result_backend_transport_options"):
        if schema := (getattr(conf, name, None) or {}).get("schema"):
            return Options(schema=schema).schema
    return Options().schema


def jobs_database() -> Database:
    """The database on that alias: the Celery app's own, if that is on it."""
    alias, app = jobs_alias(), find_app()
    if app is not None:
        with suppress(PgJobsError):  # its jobs are elsewhere
            database = database_of(app)
            if database.alias == alias:
                return database
    conninfo = parse_url(f"pgjobs+django://{quote(alias, safe='')}")
    return get_database(conninfo, Options(schema=jobs_schema()))


def place_of_page(path: str = "") -> str | None:
    """The address of the web page, or of one of its pages; None where no URL leads there."""
    with suppress(NoReverseMatch):
        return str(reverse("pgjobs:page", kwargs={"path": path}))
    return None

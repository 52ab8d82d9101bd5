"""Keep the tables in step with Django's records, and fixtures out of them."""

from __future__ import annotations

from typing import Any

from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from ..db.migrations import migrate as migrations
from ..db.migrations.versions import status
from ..errors import PgJobsError
from .operations import has_jobs
from .place import jobs_schema


def bring_back(
    sender: Any, using: str, verbosity: int = 1, plan: Any = None, stdout: Any = None, **_: Any
) -> None:
    """After ``manage.py migrate``: reapply migrations that were taken back outside of Django.

    ``celery pgjobs migrate --to`` goes down without Django's knowledge, which then finds nothing to
    do. Not if Django has just migrated these tables itself, or pretended to (``--fake``), nor after
    a ``flush``, which has no plan.
    """
    label = sender.label
    if plan is None or any(migration.app_label == label for migration, _ in plan):
        return
    connection = connections[using]
    if not has_jobs(connection, label):
        return
    recorded = [
        int(name[:4])
        for app, name in MigrationRecorder(connection).applied_migrations()
        if app == label and name[:4].isdigit()
    ]
    with migrations.session(f"django://{using}") as session:
        now = status(session, jobs_schema())
        target = max(
            (v for v in recorded if any(file.version == v for file in now.files)), default=0
        )
        if now.version >= target:
            return
        steps = migrations.migrate(session, jobs_schema(), target)
    if verbosity and stdout is not None:
        stdout.write("  The tables of pgjobs were behind Django's records of them:\n")
        for step in steps:
            stdout.write(f"    {step}\n")


def refuse_fixtures(sender: Any, raw: bool = False, **_: Any) -> None:
    """Before a row is written: Django's ORM does so for ``loaddata`` only."""
    if raw:
        raise PgJobsError(
            "jobs cannot be loaded from a fixture: they would run again, or stand beside those "
            "that workers hold. Dump without them (dumpdata --exclude pgjobs), or copy the whole "
            "database (pg_dump)"
        )

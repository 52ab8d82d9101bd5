"""The operation by which ``manage.py migrate`` runs a file of ours."""

from __future__ import annotations

from typing import Any

from django.db import router
from django.db.migrations.operations import CreateModel
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState

from ..db.migrations import migrate as migrations
from ..db.migrations.files import (
    CREATE_SCHEMA,
    CREATE_TABLE,
    Migration,
    load_migrations,
    step_down,
    step_up,
)
from ..db.migrations.versions import status
from .models import Job
from .place import jobs_alias, jobs_schema


class RunFile(Operation):  # type: ignore[misc]
    """Bring the tables to a version, as ``celery pgjobs migrate`` does, and before or after it.

    Over a connection of its own, with the lock and the record that go with a file. Does nothing on
    a database that has no jobs: another alias, no PostgreSQL, or one that a router refuses.
    """

    reversible = True
    reduces_to_sql = True

    def __init__(self, version: int) -> None:
        self.version = version

    @property
    def file(self) -> Migration:
        """The file of that version."""
        return next(file for file in load_migrations() if file.version == self.version)

    def state_forwards(self, app_label: str, state: Any) -> None:
        """The model is none that Django manages."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Apply the file, unless that was done already."""
        if not has_jobs(schema_editor.connection, app_label):
            return
        schema = jobs_schema()
        if schema_editor.collect_sql:
            before = CREATE_SCHEMA + CREATE_TABLE if self.version == 1 else ""
            step = step_up(self.file, schema, before)
            schema_editor.collected_sql += [step.before + step.body + step.after]
            return
        with migrations.session(f"django://{schema_editor.connection.alias}") as connection:
            now = status(connection, schema)
            if self.file in now.pending:
                migrations.migrate(connection, schema, max(self.version, now.version))

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Take the file back, and with it what came after it."""
        if not has_jobs(schema_editor.connection, app_label):
            return
        schema = jobs_schema()
        if schema_editor.collect_sql:
            step = step_down(self.file, schema)
            schema_editor.collected_sql += [step.body + step.after]
            return
        with migrations.session(f"django://{schema_editor.connection.alias}") as connection:
            if self.file not in status(connection, schema).pending:
                migrations.migrate(connection, schema, before(self.version))

    def describe(self) -> str:
        """The line that ``migrate --plan`` shows."""
        return f"Run {self.file}.sql of pgjobs-celery"


def before(version: int) -> int:
    """The version that comes before; 0 for the first."""
    return max((file.version for file in load_migrations() if file.version < version), default=0)


def declare_model(model: Any = Job) -> CreateModel:
    """Tell Django of a model, for permissions and ``makemigrations``; touches no database.

    As the model is now, for every file that there will be.
    """
    state = ModelState.from_model(model)
    return CreateModel(state.name, list(state.fields.items()), state.options, state.bases)


def has_jobs(connection: Any, app_label: str) -> bool:
    """True of the database on which the jobs are, unless a router keeps them from it."""
    is_there = connection.vendor == "postgresql" and connection.alias == jobs_alias()
    return is_there and bool(router.allow_migrate(connection.alias, app_label))

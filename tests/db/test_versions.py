"""A process that connects learns in one statement whether the schema fits it, and what to do."""

from __future__ import annotations

import psycopg
import pytest

from pgjobs_celery.db.migrations.migrate import migrate, plan
from pgjobs_celery.db.migrations.versions import check_schema, status
from pgjobs_celery.errors import (
    PermissionMissing,
    PgJobsError,
    SchemaMissing,
    SchemaOutOfDate,
    SchemaTooNew,
)

from .schemas import left_behind, write

# -- does it fit ---------------------------------------------------------------------------------


def test_a_database_without_tables_is_schema_missing_and_stays_empty(db):
    with pytest.raises(SchemaMissing, match=r"schema pgjobs .*celery -A proj pgjobs migrate"):
        check_schema(db, "pgjobs")
    db.execute("CREATE SCHEMA pgjobs")
    with pytest.raises(SchemaMissing):
        check_schema(db, "pgjobs")
    assert left_behind(db) == ["schema pgjobs"]


def test_a_missing_schema_does_not_break_the_callers_transaction(db):
    with db.transaction():
        with pytest.raises(SchemaMissing):
            check_schema(db, "pgjobs")
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_a_database_that_is_behind_is_schema_out_of_date(db, tmp_path):
    folder = write(tmp_path / "files", "a", "b", "c")
    migrate(db, "pgjobs", to=1, folder=folder)
    with pytest.raises(SchemaOutOfDate, match=r"pgjobs is at version 1, this release needs 3: run"):
        check_schema(db, "pgjobs", folder=folder)


def test_a_newer_schema_is_fine_unless_it_is_breaking(db, tmp_path):
    old = write(tmp_path / "old", "a")
    migrate(db, "pgjobs", folder=write(tmp_path / "new", "a", "b"))
    check_schema(db, "pgjobs", folder=old)
    assert migrate(db, "pgjobs", folder=old) == []
    with pytest.raises(SchemaTooNew, match="only the release that brought it there"):
        migrate(db, "pgjobs", to=0, folder=old)
    migrate(db, "pgjobs", folder=write(tmp_path / "newer", "a", "b", "c", breaking=True))
    for action in (check_schema, migrate, plan):
        with pytest.raises(SchemaTooNew, match=r"schema pgjobs .* version 3 .* knows 1: upgrade"):
            action(db, "pgjobs", folder=old)
    check_schema(db, "pgjobs", folder=tmp_path / "newer")


def test_an_edited_file_is_reported_and_not_refused(db, tmp_path):
    folder = write(tmp_path / "files", "a")
    migrate(db, "pgjobs", folder=folder)
    edited = write(tmp_path / "edited", "a")
    with (edited / "0001_create_a.sql").open("a") as file:
        file.write("-- a second thought\n")
    check_schema(db, "pgjobs", folder=edited)
    assert [str(file) for file in status(db, "pgjobs", folder=edited).changed] == ["0001_create_a"]
    assert status(db, "pgjobs", folder=folder).changed == []


def test_the_check_is_one_statement(db):
    migrate(db, "pgjobs")
    check_schema(db, "pgjobs")
    statements = []
    execute = psycopg.Cursor.execute

    class Counting(psycopg.Cursor):
        def execute(self, query, *args, **kwargs):
            statements.append(query)
            return execute(self, query, *args, **kwargs)

    db.cursor_factory = Counting
    check_schema(db, "pgjobs")
    assert len(statements) == 1


# -- roles ---------------------------------------------------------------------------------------


def grants(error: PgJobsError) -> list[str]:
    return [part for part in str(error).split("let its owner run: ")[1].split(";") if part.strip()]


def test_a_role_without_rights_learns_what_to_grant_and_is_fine_after_it(db, as_role, role):
    migrate(db, "pgjobs")
    connection = as_role()
    for action in (check_schema, status, plan, migrate):
        with pytest.raises(PermissionMissing, match=f"role {role} may not use schema pgjobs"):
            action(connection, "pgjobs")
    db.execute(f"GRANT USAGE ON SCHEMA pgjobs TO {role}")
    db.execute(f"GRANT SELECT ON pgjobs.migrations TO {role}")
    with pytest.raises(
        PermissionMissing, match=r"no rights on arrivals, audit, bindings, .*jobs, jobs_seq"
    ) as caught:
        check_schema(connection, "pgjobs")
    for statement in grants(caught.value):
        db.execute(statement)
    check_schema(connection, "pgjobs")
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue) VALUES ('1', 'proj.add', 'celery')"
    )
    connection.execute(
        "INSERT INTO pgjobs.messages (durable, queue, message, body) VALUES (true, 'q', '{}', '')"
    )


def test_a_role_that_may_not_create_a_schema_learns_what_to_do(db, as_role, role):
    with pytest.raises(PermissionMissing, match=f"CREATE SCHEMA pgjobs AUTHORIZATION {role}"):
        migrate(as_role(), "pgjobs")
    db.execute("CREATE SCHEMA pgjobs")
    db.execute(f"GRANT USAGE ON SCHEMA pgjobs TO {role}")
    with pytest.raises(PermissionMissing, match=f"GRANT USAGE, CREATE ON SCHEMA pgjobs TO {role}"):
        migrate(as_role(), "pgjobs")

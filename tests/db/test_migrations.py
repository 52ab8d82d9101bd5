"""The schema goes up and down in whole steps, whoever else is at it, and says where it stands."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgjobs_celery.db.migrations import files as migration_files
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.db.migrations.migrate import migrate
from pgjobs_celery.db.migrations.versions import check_schema, status
from pgjobs_celery.errors import (
    ConnectionFailed,
    InvalidOption,
    MigrationFailed,
    MigrationLocked,
    PgJobsError,
    SchemaError,
)

from .schemas import left_behind, shape, tables, write

# -- up and down ---------------------------------------------------------------------------------


def test_migrating_an_empty_database_makes_it_fit_this_release(db):
    steps = migrate(db, "pgjobs")
    assert [str(step.migration) for step in steps] == [
        str(m) for m in migration_files.load_migrations()
    ]
    assert all(step.seconds > 0 for step in steps)
    check_schema(db, "pgjobs")
    assert {"jobs", "messages", "nodes", "migrations"} <= set(tables(db))
    recorded = db.execute(
        "SELECT version, applied_by, applied_at FROM pgjobs.migrations"
    ).fetchall()
    assert [row[0] for row in recorded] == [step.migration.version for step in steps]
    assert all(row[1] == db.info.user and row[2] for row in recorded)


def test_migrating_twice_does_nothing_the_second_time(db):
    migrate(db, "pgjobs")
    assert migrate(db, "pgjobs") == []


def test_up_down_up_leaves_nothing_behind_and_ends_where_it_began(db):
    before = left_behind(db)
    up = migrate(db, "pgjobs")
    first = shape(db, "pgjobs")
    down = migrate(db, "pgjobs", to=0)
    assert [step.migration for step in down] == [step.migration for step in reversed(up)]
    assert left_behind(db) == before
    migrate(db, "pgjobs")
    assert shape(db, "pgjobs") == first


def test_every_single_step_can_be_taken_down_and_up_again(db):
    lower = 0
    for file in migration_files.load_migrations():
        migrate(db, "pgjobs", to=lower)
        before = shape(db, "pgjobs")
        migrate(db, "pgjobs", to=file.version)
        migrate(db, "pgjobs", to=lower)
        lower = file.version
        assert shape(db, "pgjobs") == before


def test_a_version_in_between_is_reached_from_below_and_from_above(db, tmp_path):
    folder = write(tmp_path / "files", "a", "b", "c")
    migrate(db, "pgjobs", to=2, folder=folder)
    assert tables(db) == ["a", "b", "migrations"]
    migrate(db, "pgjobs", folder=folder)
    steps = migrate(db, "pgjobs", to=1, folder=folder)
    assert [str(step) for step in steps] == ["down 0003_create_c", "down 0002_create_b"]
    assert tables(db) == ["a", "migrations"]


def test_a_version_that_does_not_exist_is_refused(db):
    with pytest.raises(InvalidOption, match="no migration 4711; the newest is"):
        migrate(db, "pgjobs", to=4711)


def test_another_schema_name_gets_the_same_tables_and_nothing_else(db):
    migrate(db, "pgjobs")
    migrate(db, "my_jobs")
    check_schema(db, "my_jobs")
    assert shape(db, "my_jobs") == shape(db, "pgjobs")
    migrate(db, "pgjobs", to=0)
    check_schema(db, "my_jobs")
    args = "SELECT my_jobs.args(j) FROM my_jobs.jobs AS j"
    assert db.execute(args).fetchall() == []


def test_steps_are_reported_as_they_are_committed(db, connect, tmp_path):
    other, seen = connect(), []
    folder = write(tmp_path / "files", "a", "b")
    migrate(db, "pgjobs", folder=folder, on_step=lambda step: seen.append(tables(other)))
    assert seen == [["a", "migrations"], ["a", "b", "migrations"]]


def test_a_connection_without_autocommit_is_committed_too(bare_database, db):
    with psycopg.connect(bare_database) as connection:
        migrate(connection, "pgjobs")
        check_schema(db, "pgjobs")
        check_schema(connection, "pgjobs")


def test_a_connection_in_a_transaction_is_refused(db):
    with db.transaction(), pytest.raises(MigrationFailed, match="not in a transaction"):
        migrate(db, "pgjobs")


def test_session_defaults_that_would_break_a_migration_are_overridden(connect):
    strict = connect(
        options="-c default_transaction_isolation=serializable"
        " -c default_transaction_read_only=on -c statement_timeout=1500"
    )
    migrate(strict, "pgjobs")
    check_schema(strict, "pgjobs")


# -- the schema itself ---------------------------------------------------------------------------


def test_a_schema_that_a_dba_made_is_used_and_left_standing(db, as_role, role):
    db.execute(f"CREATE SCHEMA pgjobs AUTHORIZATION {role}")
    connection = as_role()  # may not create a schema in this database
    migrate(connection, "pgjobs")
    check_schema(connection, "pgjobs")
    migrate(connection, "pgjobs", to=0)
    assert left_behind(db) == ["schema pgjobs"]


def test_a_schema_with_other_tables_in_it_is_left_standing(db):
    migrate(db, "pgjobs")
    db.execute("CREATE TABLE pgjobs.theirs (id int)")
    migrate(db, "pgjobs", to=0)
    assert tables(db) == ["theirs"]


def test_a_migrations_table_of_somebody_else_is_named_as_such(db):
    db.execute("CREATE SCHEMA pgjobs")
    db.execute("CREATE TABLE pgjobs.migrations (id int, migration text, batch int)")
    for action in (check_schema, status, migrate):
        with pytest.raises(SchemaError, match="choose another schema"):
            action(db, "pgjobs")


# -- failures ------------------------------------------------------------------------------------


def test_a_failing_file_is_rolled_back_with_its_record_and_names_its_line(db, tmp_path):
    folder = write(tmp_path / "files", "a", "b", "c")
    broken = folder / "0002_create_b.sql"
    broken.write_text(
        "-- migrate:up\nCREATE TABLE pgjobs.b (id int);\n\nINSERT INTO pgjobs.nowhere VALUES (1);\n"
        "-- migrate:down\nDROP TABLE pgjobs.b;\n"
    )
    with pytest.raises(MigrationFailed) as caught:
        migrate(db, "pgjobs", folder=folder)
    message = str(caught.value)
    assert "0002_create_b.sql line 4" in message
    assert "pgjobs.nowhere" in message
    assert "rolled back" in message
    assert isinstance(caught.value.__cause__, psycopg.Error)
    assert tables(db) == ["a", "migrations"]
    assert status(db, "pgjobs").version == 1
    assert_unlocked(db)


def test_a_file_that_fails_while_going_down_names_its_line(db, tmp_path):
    folder = write(tmp_path / "files", "a")
    path = folder / "0001_create_a.sql"
    path.write_text(path.read_text() + "\nDROP TABEL pgjobs.a;\n")
    migrate(db, "pgjobs", folder=folder)
    with pytest.raises(MigrationFailed, match=r"0001_create_a\.sql line 7: syntax error"):
        migrate(db, "pgjobs", to=0, folder=folder)
    assert tables(db) == ["a", "migrations"]


def test_a_first_file_that_fails_leaves_no_schema_behind(db, tmp_path):
    folder = write(tmp_path / "files", "a")
    (folder / "0001_create_a.sql").write_text("-- migrate:up\nSELECT 1/0;\n-- migrate:down\n")
    with pytest.raises(MigrationFailed, match="division by zero"):
        migrate(db, "pgjobs", folder=folder)
    assert left_behind(db) == []


# -- several at once, and locks ------------------------------------------------------------------

MIGRATE_WHEN_TOLD = """
import sys
from pathlib import Path
from pgjobs_celery.db.migrations import migrate as migrations
connection = migrations.connect(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for step in migrations.migrate(connection, "pgjobs", folder=Path(sys.argv[2])):
    print(step.migration, flush=True)
"""


def test_of_eight_processes_exactly_one_applies_each_file(bare_database, db, tmp_path):
    folder = write(tmp_path / "files", "a", "b", "c", "d", "e", "f")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATE_WHEN_TOLD, bare_database, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    applied = []
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        applied += output.split()
    assert sorted(applied) == [str(m) for m in migration_files.load_migrations(folder)]
    assert status(db, "pgjobs", folder=folder).pending == []


def assert_unlocked(db: psycopg.Connection) -> None:
    locks = "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database"
    where = " WHERE l.locktype = 'advisory' AND d.datname = current_database()"
    assert db.execute(locks + where).fetchone() == (0,)


def test_a_lock_that_stays_held_ends_in_migration_locked(db, connect):
    key = migrations.lock_key("pgjobs")
    connect().execute("SELECT pg_advisory_lock(%s)", (key,))
    began = time.monotonic()
    with pytest.raises(MigrationLocked, match=r"another process .* schema pgjobs for 0\.5 s"):
        migrate(db, "pgjobs", wait=0.5)
    assert 0.5 <= time.monotonic() - began < 30
    assert left_behind(db) == []
    migrate(db, "my_jobs", wait=0)  # another schema is another lock


def test_a_lock_that_is_released_in_time_is_waited_for(db, connect):
    holder = connect()
    key = migrations.lock_key("pgjobs")
    holder.execute("SELECT pg_advisory_lock(%s)", (key,))
    release = threading.Timer(0.6, holder.execute, ("SELECT pg_advisory_unlock(%s)", (key,)))
    release.start()
    assert migrate(db, "pgjobs", wait=20)
    release.join()
    assert_unlocked(db)


def test_an_index_that_is_built_concurrently_is_no_deadlock_with_a_waiting_migration(db, connect):
    holder, builder = connect(), connect()
    db.execute("CREATE TABLE big AS SELECT 1 AS id")
    holder.execute("SELECT pg_advisory_lock(%s)", (migrations.lock_key("pgjobs"),))
    waiting = threading.Thread(target=lambda: migrate(db, "pgjobs", wait=20))
    waiting.start()
    builder.execute("SET statement_timeout = '10s'")
    builder.execute("CREATE INDEX CONCURRENTLY big_id ON big (id)")
    holder.close()
    waiting.join()
    check_schema(builder, "pgjobs")


def test_a_table_locked_by_a_long_transaction_ends_in_migration_locked(db, connect, monkeypatch):
    monkeypatch.setattr(migrations, "LOCK_ATTEMPTS", 2)
    migrate(db, "pgjobs")
    holder = connect()
    with holder.transaction():
        holder.execute("SELECT count(*) FROM pgjobs.jobs")
        with pytest.raises(MigrationLocked) as caught:
            migrate(db, "pgjobs", to=0, lock_timeout=0.2)
    message = str(caught.value)
    assert f"server process {holder.info.backend_pid}" in message
    assert "pg_terminate_backend" in message
    assert "--lock-timeout" in message
    assert "jobs" in tables(db)
    assert_unlocked(db)
    migrate(db, "pgjobs", to=0)


def test_a_table_that_is_free_in_time_is_waited_for(db, connect, monkeypatch):
    migrate(db, "pgjobs")
    holder = connect()
    holder.execute("BEGIN; SELECT count(*) FROM pgjobs.jobs")
    release = threading.Timer(0.5, holder.execute, ("COMMIT",))
    release.start()
    assert migrate(db, "pgjobs", to=0, lock_timeout=0.3)
    release.join()


def test_two_processes_that_pull_in_two_directions_do_not_go_on_for_ever(db, connect, tmp_path):
    folder = write(tmp_path / "files", "a", "b")
    other = connect()

    def undo(step: object) -> None:
        migrate(other, "pgjobs", to=0, folder=folder)

    with pytest.raises(MigrationLocked, match="another version at the same time"):
        migrate(db, "pgjobs", folder=folder, on_step=undo)


# -- connections ---------------------------------------------------------------------------------


def test_a_connection_error_says_where_and_what_to_do_without_the_password(bare_database):
    nowhere = make_conninfo(bare_database, dbname="pgjobs_mig_nowhere", password="top-secret")
    with pytest.raises(ConnectionFailed) as caught:
        migrations.connect(nowhere)
    user = conninfo_to_dict(bare_database).get("user", "")
    assert "createdb" in str(caught.value)
    assert str(caught.value).endswith("pgjobs_mig_nowhere")
    assert str(user) in str(caught.value)
    assert "top-secret" not in str(caught.value)


def test_errors_in_a_session_are_ours(bare_database, db):
    with pytest.raises(PgJobsError, match="nowhere"), migrations.session(bare_database) as other:
        other.execute("SELECT * FROM nowhere")


def test_a_connection_that_is_cut_in_a_session_is_a_failed_connection(bare_database, db):
    def be_cut() -> None:
        with migrations.session(bare_database) as other:
            db.execute("SELECT pg_terminate_backend(%s)", (other.info.backend_pid,))
            other.execute("SELECT 1")

    with pytest.raises(ConnectionFailed, match="connection was lost"):
        be_cut()

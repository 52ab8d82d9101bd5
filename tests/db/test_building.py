"""Indexes are built while jobs go on, and what an interrupted build leaves is repaired."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import psycopg
import pytest

from pgjobs_celery.db.migrations import files as migration_files
from pgjobs_celery.db.migrations.files import script
from pgjobs_celery.db.migrations.migrate import migrate, plan
from pgjobs_celery.db.migrations.versions import status
from pgjobs_celery.errors import MigrationFailed, SchemaError
from tests.support.waiting import wait_for

from .schemas import tables, write

INDEXES = """
SELECT c.relname, i.indisvalid FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE c.relname LIKE 'a\\_%' ORDER BY 1
"""
BUILDING = """
SELECT a.pid FROM pg_stat_activity AS a WHERE a.query LIKE 'CREATE INDEX%' AND a.state = 'active'
  AND a.datname = current_database()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table, and two indexes on it that are built concurrently."""
    folder = write(tmp_path / "files", "a")
    (folder / "0002_index_a.sql").write_text(
        "-- migrate:concurrently\n-- migrate:up\n-- A comment; with a semicolon.\n"
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS a_one ON pgjobs.a (id);\n"
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS a_two\n  ON pgjobs.a (id) WHERE id > 3;\n"
        "-- migrate:down\nDROP INDEX pgjobs.a_one, pgjobs.a_two;\n"
    )
    return folder


def indexes(db: psycopg.Connection) -> dict[str, bool]:
    return dict(db.execute(INDEXES).fetchall())


def in_thread(connection: psycopg.Connection, folder: Path) -> tuple[threading.Thread, list]:
    """A migration beside the test; with it, what came of it."""
    ends: list[object] = []

    def run() -> None:
        try:
            ends.append(migrate(connection, "pgjobs", folder=folder))
        except Exception as error:
            ends.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ends


def test_indexes_are_built_and_recorded_and_taken_back(db, folder):
    steps = migrate(db, "pgjobs", folder=folder)
    assert [str(step) for step in steps] == ["up   0001_create_a", "up   0002_index_a"]
    assert indexes(db) == {"a_one": True, "a_two": True}
    assert status(db, "pgjobs", folder=folder).pending == []
    assert db.execute("SHOW search_path").fetchone() == ('"$user", public',)
    mine = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    assert db.execute(mine).fetchall() == []
    migrate(db, "pgjobs", to=1, folder=folder)
    assert indexes(db) == {}


def test_a_build_waits_for_a_transaction_and_nothing_waits_for_the_build(db, connect, folder):
    migrate(db, "pgjobs", to=1, folder=folder)
    old = connect()
    old.execute("BEGIN")
    old.execute("INSERT INTO pgjobs.a VALUES (1)")
    thread, ends = in_thread(connect(), folder)
    wait_for(lambda: db.execute(BUILDING).fetchall())
    db.execute("SET lock_timeout = '2s'")
    db.execute("INSERT INTO pgjobs.a VALUES (2)")
    assert [str(step) for step in plan(db, "pgjobs", folder=folder)] == ["up   0002_index_a"]
    old.execute("COMMIT")
    thread.join()
    assert [str(step) for step in ends[0]] == ["up   0002_index_a"]
    assert indexes(db) == {"a_one": True, "a_two": True}


def test_a_killed_build_leaves_an_invalid_index_and_the_next_migrate_repairs_it(
    db, connect, folder
):
    migrate(db, "pgjobs", to=1, folder=folder)
    old = connect()
    old.execute("BEGIN")
    old.execute("INSERT INTO pgjobs.a VALUES (1)")
    thread, ends = in_thread(connect(), folder)
    ((pid,),) = wait_for(lambda: db.execute(BUILDING).fetchall())
    db.execute("SELECT pg_terminate_backend(%s)", [pid])
    thread.join()
    old.execute("COMMIT")
    assert isinstance(ends[0], MigrationFailed)
    assert "migrate again: it drops what is left of an unfinished index" in str(ends[0])
    assert indexes(db) == {"a_one": False}
    assert status(db, "pgjobs", folder=folder).version == 1
    migrate(db, "pgjobs", folder=folder)
    assert indexes(db) == {"a_one": True, "a_two": True}


def test_of_two_processes_one_builds_and_the_other_finds_nothing_to_do(db, connect, folder):
    migrate(db, "pgjobs", to=1, folder=folder)
    old = connect()
    old.execute("BEGIN")
    old.execute("INSERT INTO pgjobs.a VALUES (1)")
    first, firsts = in_thread(connect(), folder)
    wait_for(lambda: db.execute(BUILDING).fetchall())
    second, seconds = in_thread(connect(), folder)
    old.execute("COMMIT")
    first.join()
    second.join()
    assert (len(firsts[0]), seconds[0]) == (1, [])
    assert indexes(db) == {"a_one": True, "a_two": True}


def test_a_row_that_a_unique_index_refuses_is_named_and_mended(db, folder):
    migrate(db, "pgjobs", to=1, folder=folder)
    db.execute("INSERT INTO pgjobs.a VALUES (7), (7)")
    with pytest.raises(MigrationFailed, match=r"0002_index_a\.sql.* could not create unique index"):
        migrate(db, "pgjobs", folder=folder)
    assert indexes(db) == {"a_one": True, "a_two": False}
    db.execute("DELETE FROM pgjobs.a")
    migrate(db, "pgjobs", folder=folder)
    assert indexes(db) == {"a_one": True, "a_two": True}


@pytest.mark.skipif(not shutil.which("psql"), reason="needs psql")
def test_the_script_repairs_and_builds_in_psql(db, bare_database, folder):
    migrate(db, "pgjobs", to=1, folder=folder)
    db.execute("CREATE INDEX a_one ON pgjobs.a (id)")
    db.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'pgjobs.a_one'::regclass")
    done = subprocess.run(
        ["psql", "-X", "-q", "-d", bare_database], input=script(plan(db, "pgjobs", folder=folder)),
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert indexes(db) == {"a_one": True, "a_two": True}
    assert status(db, "pgjobs", folder=folder).pending == []
    assert tables(db) == ["a", "migrations"]


@pytest.mark.parametrize(
    "section",
    [
        "",
        "CREATE INDEX a_one ON pgjobs.a (id);",
        "CREATE INDEX CONCURRENTLY a_one ON pgjobs.a (id);",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS a_one ON pgjobs.a (id); DROP TABLE pgjobs.a;",
    ],
)
def test_a_section_that_would_need_a_transaction_is_refused(folder, section):
    text = f"-- migrate:concurrently\n-- migrate:up\n{section}\n-- migrate:down\n"
    (folder / "0002_index_a.sql").write_text(text)
    with pytest.raises(SchemaError, match=r"0002_index_a\.sql is to be run concurrently"):
        migration_files.load_migrations(folder)

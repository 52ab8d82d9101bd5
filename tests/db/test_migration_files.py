"""Migration files are read in order, and written out as a script that psql runs."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from pgjobs_celery.db.migrations import files as migration_files
from pgjobs_celery.db.migrations.files import script
from pgjobs_celery.db.migrations.migrate import migrate, plan
from pgjobs_celery.db.migrations.versions import check_schema, status
from pgjobs_celery.errors import SchemaError

from .schemas import left_behind, shape, tables, write


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("create_a.sql", "-- migrate:up\n-- migrate:down\n", "NNNN_verb_noun"),
        ("0000_create_a.sql", "-- migrate:up\n-- migrate:down\n", "NNNN_verb_noun"),
        ("0001_create_a.sql", "CREATE TABLE pgjobs.a (id int)", "needs '-- migrate:up'"),
        ("0001_create_a.sql", "-- migrate:down\n-- migrate:up\n", "needs '-- migrate:up'"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, name, text, complaint):
    (tmp_path / name).write_text(text)
    with pytest.raises(SchemaError, match=complaint):
        migration_files.load_migrations(tmp_path)


def test_two_files_with_one_number_are_refused(tmp_path):
    write(tmp_path, "a")
    (tmp_path / "0001_create_z.sql").write_text("-- migrate:up\n-- migrate:down\n")
    with pytest.raises(SchemaError, match=r"0001_create_z\.sql has the number of 0001_"):
        migration_files.load_migrations(tmp_path)


def test_an_installation_without_migration_files_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(migration_files, "_PACKAGE", tmp_path / "pgjobs_celery")
    with pytest.raises(SchemaError, match="reinstall pgjobs-celery"):
        migration_files.find_folder()


def test_the_files_of_an_installed_package_go_before_a_folder_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(migration_files, "_PACKAGE", tmp_path / "pgjobs_celery")
    beside = write(tmp_path / "migrations", "a")
    assert migration_files.find_folder() == beside
    (tmp_path / "pgjobs_celery").mkdir()
    inside = write(tmp_path / "pgjobs_celery" / "_migrations", "a")
    assert migration_files.find_folder() == inside


# -- plans and scripts ---------------------------------------------------------------------------


def test_a_plan_writes_nothing(db, connect):
    reader = connect(options="-c default_transaction_read_only=on")
    assert plan(reader, "pgjobs")
    assert left_behind(db) == []


@pytest.mark.skipif(not shutil.which("psql"), reason="needs psql")
def test_the_script_does_in_psql_what_migrate_does(db, bare_database):
    def psql(sql: str) -> None:
        command = ["psql", "-X", "-q", "-d", bare_database]
        done = subprocess.run(command, input=sql, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    psql(script(plan(db, "by_hand")))
    migrate(db, "by_tool")
    assert shape(db, "by_hand") == shape(db, "by_tool")
    records = "SELECT version, name, checksum, breaking, applied_by FROM {}.migrations"
    by_hand, by_tool = (db.execute(records.format(s)).fetchall() for s in ("by_hand", "by_tool"))
    assert by_hand == by_tool
    check_schema(db, "by_hand")
    assert status(db, "by_hand").changed == []
    migrate(db, "by_tool", to=0)
    psql(script(plan(db, "by_hand", to=0)))
    assert left_behind(db) == []


@pytest.mark.skipif(not shutil.which("psql"), reason="needs psql")
def test_a_script_stops_at_the_step_that_fails(db, bare_database, tmp_path):
    folder = write(tmp_path / "files", "a", "b", "c")
    sql = script(plan(db, "pgjobs", folder=folder)).replace('"pgjobs".b (id', '"pgjobs".a (id')
    command = ["psql", "-X", "-q", "-d", bare_database]
    done = subprocess.run(command, input=sql, text=True, capture_output=True, check=False)
    assert done.returncode != 0
    assert tables(db) == ["a", "migrations"]
    assert status(db, "pgjobs", folder=folder).version == 1

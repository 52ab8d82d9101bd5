"""The doctor finds what is wrong with schema and rights, and the remedies that it names help."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgjobs_celery.config import Options
from pgjobs_celery.control.doctor.schema import CLAIMED
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.db.migrations.files import load_migrations
from pgjobs_celery.db.migrations.objects import (
    FILE,
    compare,
    creation,
    made_objects,
    to_json,
)
from pgjobs_celery.db.rows.doctor import Looks
from tests.support.doctoring import codes, cure, look

#: What a DBA, a restore or a hand may do to the schema, and what the doctor calls it.
CAUSES = [
    ("DROP INDEX pgjobs.jobs_ready", "schema_drift", "index jobs_ready"),
    ("DROP INDEX pgjobs.jobs_due; CREATE INDEX jobs_due ON pgjobs.jobs (due_at)",
     "schema_drift", "index jobs_due"),
    ("ALTER TABLE pgjobs.jobs DROP CONSTRAINT jobs_state_fits",
     "schema_drift", "constraint jobs.jobs_state_fits"),
    ("ALTER TABLE pgjobs.limits DROP CONSTRAINT limits_pkey",
     "schema_drift", "constraint limits.limits_pkey"),
    ("ALTER TABLE pgjobs.jobs DROP COLUMN cancel_signal",
     "schema_drift", "column jobs.cancel_signal"),
    ("ALTER TABLE pgjobs.queues ALTER COLUMN used_at DROP NOT NULL",
     "schema_drift", "column queues.used_at"),
    ("ALTER TABLE pgjobs.jobs ALTER COLUMN seq DROP DEFAULT", "schema_drift", "column jobs.seq"),
    ("ALTER TABLE pgjobs.jobs ALTER COLUMN id DROP IDENTITY", "schema_drift", "column jobs.id"),
    ("ALTER TABLE pgjobs.slots ALTER COLUMN attempt TYPE bigint",
     "schema_drift", "column slots.attempt"),
    ("CREATE OR REPLACE FUNCTION pgjobs.with_error(errors jsonb, entry jsonb) RETURNS jsonb "
     "LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN errors",
     "schema_drift", "function with_error(errors jsonb, entry jsonb)"),
    ("CREATE OR REPLACE FUNCTION pgjobs.body_json(body bytea) RETURNS jsonb LANGUAGE plpgsql "
     "IMMUTABLE STRICT PARALLEL UNSAFE AS 'BEGIN RETURN NULL; END'",
     "schema_drift", "function body_json(body bytea)"),
    ("ALTER FUNCTION pgjobs.tally_deleted RESET search_path",
     "schema_drift", "function tally_deleted()"),
    ("DROP TRIGGER tally_undone ON pgjobs.jobs", "schema_drift", "trigger jobs.tally_undone"),
    ("ALTER TABLE pgjobs.jobs DISABLE TRIGGER tally_deleted",
     "schema_drift", "trigger jobs.tally_deleted"),
    ("DROP VIEW pgjobs.schedule_details", "schema_drift", "view schedule_details"),
    ("ALTER TABLE pgjobs.jobs SET UNLOGGED", "schema_drift", "table jobs"),
    ("ALTER TABLE pgjobs.jobs ENABLE ROW LEVEL SECURITY", "schema_drift", "table jobs"),
    ("ALTER TABLE pgjobs.jobs SET (fillfactor = 100, parallel_workers = 4)",
     "storage_options", "options jobs"),
    ("CREATE INDEX mine ON pgjobs.jobs (state, queue)", "index_on_claim", "index mine"),
    ("CREATE INDEX mine ON pgjobs.jobs (id) WHERE attempt > 1", "index_on_claim", "index mine"),
    ("CREATE INDEX mine ON pgjobs.jobs (root_id)", "schema_extra", "index mine"),
    ("ALTER TABLE pgjobs.jobs ADD COLUMN tenant text", "schema_extra", "column jobs.tenant"),
    ("ALTER TABLE pgjobs.jobs ADD CONSTRAINT short CHECK (length(task) < 99)",
     "schema_extra", "constraint jobs.short"),
    ("CREATE TRIGGER slow BEFORE UPDATE ON pgjobs.jobs FOR EACH ROW "
     "EXECUTE FUNCTION suppress_redundant_updates_trigger()", "schema_extra", "trigger jobs.slow"),
    ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'pgjobs.jobs_finished'::regclass",
     "invalid_index", "jobs_finished"),
    ("ALTER TABLE pgjobs.jobs SET (autovacuum_enabled = off)", "table_autovacuum_off", "jobs"),
]  # fmt: skip


@pytest.fixture(scope="module")
def conninfo(make_migrated: Callable[[], str]) -> str:
    return parse_url(make_migrated())


@pytest.fixture
def database(conninfo: str) -> Iterator[Database]:
    database = Database(conninfo, Options())
    yield database
    database.close()


@pytest.fixture
def hand(conninfo: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize(("plant", "code", "subject"), CAUSES, ids=lambda value: value[:60])
def test_what_was_done_to_the_schema_is_found_and_the_remedy_undoes_it(
    database: Database, hand: psycopg.Connection, plant: str, code: str, subject: str
) -> None:
    hand.execute(sql.SQL(plant))
    found = look(database)
    assert (code, subject) in found
    for each in found.values():
        assert each.code in (code, "storage_options"), each
        cure(hand, each.remedy)
    assert look(database) == {}


def test_an_index_that_could_not_be_built_is_found(
    database: Database, hand: psycopg.Connection
) -> None:
    hand.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue) VALUES ('a', 't', ''), ('b', 't', '')"
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        hand.execute("CREATE UNIQUE INDEX CONCURRENTLY mine ON pgjobs.jobs (task)")
    found = look(database)
    assert set(found) == {("invalid_index", "mine"), ("schema_extra", "index mine")}
    cure(hand, found["invalid_index", "mine"].remedy)
    hand.execute("DELETE FROM pgjobs.jobs")
    assert look(database) == {}


def test_names_that_would_deceive_a_terminal_come_out_harmless(
    database: Database, hand: psycopg.Connection
) -> None:
    name = '\x1b[2Ja"b\n\N{RIGHT-TO-LEFT OVERRIDE}'
    hand.execute(sql.SQL("CREATE INDEX {} ON pgjobs.jobs (root_id)").format(sql.Identifier(name)))
    (finding,) = look(database).values()
    assert finding.code == "schema_extra"
    hand.execute(sql.SQL("DROP INDEX pgjobs.{}").format(sql.Identifier(name)))
    name = 'a"b'
    hand.execute(sql.SQL("CREATE INDEX {} ON pgjobs.jobs (root_id)").format(sql.Identifier(name)))
    (finding,) = look(database).values()
    cure(hand, finding.remedy)
    assert look(database) == {}


def test_definitions_read_the_same_for_every_role(conninfo: str) -> None:
    odd = {
        "quote_all_identifiers": "on", "standard_conforming_strings": "off",
        "bytea_output": "escape", "DateStyle": "German", "TimeZone": "Asia/Kolkata",
        "search_path": "nowhere",
    }  # fmt: skip
    options = " ".join(f"-c {name}={value}" for name, value in odd.items())
    database = Database(make_conninfo(conninfo, options=options), Options())
    assert look(database) == {}


def test_tables_of_your_own_in_the_schema_are_your_own(
    database: Database, hand: psycopg.Connection
) -> None:
    hand.execute("CREATE TABLE pgjobs.mine (id int PRIMARY KEY)")
    hand.execute("CREATE VIEW pgjobs.yours AS SELECT * FROM pgjobs.mine")
    hand.execute("CREATE FUNCTION pgjobs.your_own() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    assert look(database) == {}
    hand.execute("DROP TABLE pgjobs.mine CASCADE")
    hand.execute("DROP FUNCTION pgjobs.your_own")


def test_a_table_that_is_gone_is_one_finding(
    make_migrated: Callable[[], str],
) -> None:
    conninfo = parse_url(make_migrated())
    database = Database(conninfo, Options())
    with psycopg.connect(conninfo, autocommit=True) as hand:
        hand.execute("DROP TABLE pgjobs.entries")
    assert set(look(database)) == {("schema_drift", "table entries")}
    with psycopg.connect(conninfo, autocommit=True) as hand:
        hand.execute("DROP TABLE pgjobs.limits CASCADE")
    found = look(database)
    assert ("schema_drift", "table limits") in found
    assert ("not_looked_at", "work") in found  # and the others were


def test_versions_that_do_not_fit(make_database: Callable[[], str]) -> None:
    url = make_database()
    database = Database(parse_url(url), Options())
    assert codes(database) == ["no_schema"]
    with migrations.session(parse_url(url)) as connection:
        migrations.migrate(connection, "pgjobs", load_migrations()[-2].version)
        assert codes(database) == ["schema_behind"]
        migrations.migrate(connection, "pgjobs", 1)
        assert codes(database) == ["schema_behind"]
        migrations.migrate(connection, "pgjobs")
        assert codes(database) == []
        connection.execute(
            "INSERT INTO pgjobs.migrations (version, name, checksum, breaking) "
            "VALUES (9999, '', '', false)"
        )
        assert codes(database) == ["schema_newer"]
        connection.execute("UPDATE pgjobs.migrations SET breaking = true WHERE version = 9999")
        assert codes(database) == ["schema_too_new"]
        connection.execute("DELETE FROM pgjobs.migrations WHERE version = 9999")
        connection.execute("UPDATE pgjobs.migrations SET checksum = '' WHERE version = 1")
        assert codes(database) == ["migration_changed"]
        connection.execute("DROP SCHEMA pgjobs CASCADE; CREATE SCHEMA pgjobs")
        connection.execute("CREATE TABLE pgjobs.migrations (app text)")
        assert codes(database) == ["foreign_schema"]


@pytest.fixture
def role(hand: psycopg.Connection) -> Iterator[str]:
    name = f"pgjobs_{uuid4().hex[:8]} x"
    quoted = sql.Identifier(name)
    hand.execute(sql.SQL("CREATE ROLE {} LOGIN").format(quoted))
    yield name
    hand.execute(sql.SQL("DROP OWNED BY {}").format(quoted))
    hand.execute(sql.SQL("DROP ROLE {}").format(quoted))


def test_missing_privileges_are_named_with_what_fails(
    conninfo: str, hand: psycopg.Connection, role: str
) -> None:
    database = Database(make_conninfo(conninfo, user=role), Options())
    (finding,) = look(database).values()
    assert (finding.code, finding.subject) == ("missing_rights", "pgjobs")
    cure(hand, finding.remedy)
    assert look(database) == {}
    whom = sql.Identifier(role)
    for grant in (
        "REVOKE ALL ON ALL TABLES IN SCHEMA pgjobs FROM {}",
        "REVOKE ALL ON ALL SEQUENCES IN SCHEMA pgjobs FROM {}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA pgjobs TO {}",
    ):
        hand.execute(sql.SQL(grant).format(whom))
    assert set(look(database)) == {("role_reads_only", role)}
    for grant in (
        "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pgjobs TO {}",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA pgjobs TO {}",
        "REVOKE INSERT ON pgjobs.schedules FROM {}",
    ):
        hand.execute(sql.SQL(grant).format(whom))
    (finding,) = look(database).values()
    assert finding.code == "missing_rights"
    assert "INSERT on schedules" in finding.evidence
    assert finding.details["failing"] == ["schedules"]
    cure(hand, finding.remedy)
    assert look(database) == {}
    hand.execute("REVOKE EXECUTE ON FUNCTION pgjobs.with_error FROM PUBLIC")
    (finding,) = look(database).values()
    cure(hand, finding.remedy)
    assert look(database) == {}
    hand.execute("GRANT EXECUTE ON FUNCTION pgjobs.with_error TO PUBLIC")


def test_a_role_that_may_only_read_can_look_at_all(
    conninfo: str, hand: psycopg.Connection, role: str
) -> None:
    whom = sql.Identifier(role)
    hand.execute(sql.SQL("GRANT USAGE ON SCHEMA pgjobs TO {}").format(whom))
    hand.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA pgjobs TO {}").format(whom))
    database = Database(make_conninfo(conninfo, user=role), Options())
    hand.execute("ALTER TABLE pgjobs.jobs SET (autovacuum_enabled = off)")
    hand.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, scheduled_at) "
        "VALUES ('a', 't', 'lonely', now() - interval '5 min')"
    )
    found = look(database)
    hand.execute("DELETE FROM pgjobs.jobs")
    hand.execute("ALTER TABLE pgjobs.jobs RESET (autovacuum_enabled)")
    assert {code for code, _ in found} == {
        "role_reads_only", "table_autovacuum_off", "storage_options", "queue_without_consumer",
    }  # fmt: skip


@pytest.mark.parametrize("schema", ["pgjobs", "j"])
def test_the_file_describes_what_the_migrations_make(
    make_database: Callable[[], str], schema: str
) -> None:
    conninfo = parse_url(make_database())
    with migrations.session(conninfo) as connection:
        migrations.migrate(connection, schema)
    with Looks(Database(conninfo, Options(schema=schema))) as looks:
        found = looks.describe_schema()
    newest = load_migrations()[-1].version
    version, made = made_objects()
    advice = "write it anew: .venv/bin/python -m tests.db.objects"
    assert compare(made, found) == [], advice
    assert version == newest, advice
    assert FILE.read_text() == to_json(newest, found), advice


def test_what_a_claim_writes_is_what_the_statement_sets() -> None:
    text = (FILE.parents[1] / "queries" / "claims" / "claim_jobs.sql").read_text()
    for column in CLAIMED:
        assert f"{column} = " in text, column


def test_every_function_and_view_can_be_made_anew() -> None:
    files = load_migrations()
    for kind, name in made_objects()[1]:
        if kind in ("function", "view"):
            assert creation(files, kind, name), name

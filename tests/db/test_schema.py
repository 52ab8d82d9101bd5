"""The schema's functions say truly what they are, and each of its tables can be replicated."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from celery import Celery

from pgjobs_celery import jobs
from pgjobs_celery.config import Options
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations.migrate import migrate, plan
from pgjobs_celery.embedded import EmbeddedServer
from pgjobs_celery.job.outcome import discarded, error_entry, requeued
from pgjobs_celery.job.rows import Bucket
from pgjobs_celery.job.states import State
from tests.support.rows import alive, put

from .schemas import shape

NODE = UUID(int=1)

#: Has a plan made with workers wherever that is allowed, however small the table.
FORCED = {
    "parallel_setup_cost": "0",
    "parallel_tuple_cost": "0",
    "min_parallel_table_scan_size": "0",
    "min_parallel_index_scan_size": "0",
    "max_parallel_workers_per_gather": "2",
}

FUNCTIONS = """
SELECT p.proname, p.proparallel::text, l.lanname, p.prosrc
FROM pg_catalog.pg_proc AS p
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
WHERE n.nspname = 'pgjobs'
ORDER BY 1
"""

#: Logged, and PostgreSQL could not say which of its rows was changed or deleted.
WITHOUT_IDENTITY = """
SELECT c.relname
FROM pg_catalog.pg_class AS c
WHERE c.relnamespace = 'pgjobs'::regnamespace
  AND c.relkind IN ('r', 'p')
  AND c.relpersistence = 'p'
  AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_index AS i
    WHERE i.indrelid = c.oid AND i.indisprimary AND c.relreplident = 'd'
       OR i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i')
"""


@pytest.fixture
def parallel_url(url: str, connection: psycopg.Connection[Any]) -> Iterator[str]:
    """The database, whose sessions plan in parallel whatever may be."""
    name = connection.info.dbname
    forcing = (
        "debug_parallel_query"
        if connection.info.server_version >= 160000
        else "force_parallel_mode"
    )
    for setting, value in {**FORCED, forcing: "on"}.items():
        connection.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    yield url
    connection.execute(f"ALTER DATABASE {name} RESET ALL")


def test_what_has_an_exception_block_takes_no_part_in_a_parallel_plan(database, connection):
    found = {row["proname"]: row for row in connection.execute(FUNCTIONS)}
    assert {
        name for name, row in found.items()
        if "EXCEPTION" in row["prosrc"] and row["proparallel"] != "u"
    } == set()  # fmt: skip
    # And what calls such a one, or locks rows; and triggers, which no plan calls.
    assert {name for name, row in found.items() if row["proparallel"] == "u"} == {
        "body_json", "args", "kwargs", "tally_deleted", "tally_undone", "note_arrival",
        "forget_deleted", "forget_renumbered", "assert_claim",
    }  # fmt: skip


def test_no_function_is_looked_up_along_the_path_of_its_caller(database, connection):
    for row in connection.execute(FUNCTIONS):
        # One that was looked up when it was made has no source.
        assert row["lanname"] != "sql" or row["prosrc"] == "", row["proname"]


def test_jobs_are_found_by_their_arguments_where_plans_are_parallel(
    parallel_url: str, make_app: Callable[..., Celery]
):
    app = make_app()
    for number in range(20):
        app.send_task("look", (number,), {"order": number % 2})
    assert jobs(app).filter(kwargs={"order": 1}).count() == 10
    assert jobs(app).filter(args=[3]).count() == 1
    assert jobs(app).filter(kwargs={"order": 1}).count_by_state()[State.AVAILABLE] == 10
    assert [job.kwargs for job in jobs(app).filter(args=[3])] == [{"order": 1}]
    assert len(jobs(app).filter(kwargs={"order": 0}).cancel()) == 10


def test_every_function_and_view_works_where_plans_are_parallel(
    parallel_url: str, make_app: Callable[..., Celery]
):
    app = make_app()
    for number in range(20):
        app.send_task("look", (number,), {"order": number % 2})
    with psycopg.connect(parse_url(parallel_url), autocommit=True) as connection:

        def count(query: str) -> int:
            [found] = connection.execute(query).fetchone() or (0,)
            return int(found)

        plan = str(connection.execute("EXPLAIN SELECT count(*) FROM pgjobs.jobs").fetchall())
        assert "Gather" in plan  # so that this says something
        connection.execute(
            "UPDATE pgjobs.jobs SET result = '{\"a\": 1}' WHERE task_id IN "
            "(SELECT task_id FROM pgjobs.jobs LIMIT 5)"
        )
        by_result = "SELECT count(*) FROM pgjobs.jobs WHERE pgjobs.body_json(result) ->> 'a' = '1'"
        assert count(by_result) == 5
        assert (
            count("SELECT count(*) FROM pgjobs.job_details WHERE kwargs @> '{\"order\": 1}'") == 10
        )
        assert count("SELECT count(*) FROM pgjobs.jobs AS j WHERE pgjobs.args(j) -> 0 = '3'") == 1
        assert count("SELECT count(*) FROM pgjobs.schedule_details") == 0
        state = "pgjobs.settled_state(j, 'available', true)"
        assert count(f"SELECT count(*) FROM pgjobs.jobs AS j WHERE {state} = 'available'") == 20
        error = "pgjobs.settled_error(j, 'cancelled', NULL)"
        assert count(f"SELECT count(*) FROM pgjobs.jobs AS j WHERE {error} IS NOT NULL") == 20


def test_every_logged_table_can_say_which_row_it_changed(database, connection):
    assert connection.execute(WITHOUT_IDENTITY).fetchall() == []


def test_a_schema_that_was_renamed_works_under_its_new_name(bare_database, db):
    migrate(db, "pgjobs")
    db.execute("ALTER SCHEMA pgjobs RENAME TO renamed")
    assert plan(db, "renamed") == []
    database = Database(bare_database, Options(schema="renamed"))
    alive(database, NODE)
    put(database, "failed", "cancelled", "spent")
    failed, cancelled, spent = database.claims.claim_jobs(NODE, "node", [Bucket("celery")], 3)[0]
    db.execute(
        "UPDATE renamed.jobs SET cancel_requested_at = now() WHERE task_id = 'cancelled';"
        "UPDATE renamed.jobs SET max_attempts = 1 WHERE task_id = 'spent'"
    )
    lost = database.claims.settle_jobs(
        NODE,
        [discarded(failed, error_entry("Failed", "x")), requeued(cancelled),
         requeued(spent)],
    )  # fmt: skip
    assert lost == []
    errors = db.execute(
        "SELECT task_id, errors -> 0 ->> 'type', args FROM renamed.job_details ORDER BY id"
    )
    assert errors.fetchall() == [
        ("failed", "Failed", []), ("cancelled", "TaskRevokedError", []),
        ("spent", "DeliveryLimitExceeded", []),
    ]  # fmt: skip
    database.close()


def test_functions_that_bear_the_old_name_of_a_schema_are_replaced(db):
    migrate(db, "pgjobs", to=4)
    db.execute("ALTER SCHEMA pgjobs RENAME TO renamed")
    assert next(str(step) for step in plan(db, "renamed")) == "up   0005_harden_schema"
    migrate(db, "renamed")
    sources = db.execute("SELECT prosrc FROM pg_proc WHERE pronamespace = 'renamed'::regnamespace")
    assert not [source for (source,) in sources if "pgjobs" in source]


def test_a_dump_restores_all_that_there_is(
    server: EmbeddedServer, database: Database, make_database: Callable[[], str]
):
    alive(database, NODE)
    put(database, "runs", "waits")
    database.claims.claim_jobs(NODE, "node", [Bucket("celery")], 1)
    dump = subprocess.run(
        [server.psql.with_name("pg_dump"), "--no-owner", database.conninfo],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    restored = parse_url(make_database())
    subprocess.run(
        [server.psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", restored], input=dump, check=True
    )
    with psycopg.connect(restored, autocommit=True) as connection:
        assert plan(connection, "pgjobs") == []
        with psycopg.connect(database.conninfo, autocommit=True) as original:
            assert shape(connection, "pgjobs") == shape(original, "pgjobs")
            functions = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = %s"
            for name in ("settled_error", "settled_state", "with_error", "body_json", "args"):
                found = [
                    each.execute(functions, [name]).fetchall() for each in (original, connection)
                ]
                assert found[0] == found[1]
    copy = Database(restored, Options())
    assert states_of(copy) == {"runs": "executing", "waits": "available"}
    [claim] = copy.claims.claim_jobs(NODE, "node", [Bucket("celery")], 2)[0]
    assert copy.claims.settle_jobs(NODE, [requeued(claim)]) == []
    copy.close()


def states_of(database: Database) -> dict[str, str]:
    with psycopg.connect(database.conninfo) as connection:
        return dict(connection.execute("SELECT task_id, state FROM pgjobs.jobs").fetchall())

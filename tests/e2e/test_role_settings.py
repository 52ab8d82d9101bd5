"""Whatever a role, a database or the environment has set for a session, jobs run as they should."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from celery import Celery, chord
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgjobs_celery import bulk, jobs, schedules
from pgjobs_celery.db.database import known_databases
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.errors import SchemaError

from ..conftest import close_app
from . import tasks
from .conftest import StartWorker, running_workers

#: What a session begins with, by name; each of these has made a program wrong somewhere.
SETTINGS: dict[str, dict[str, str]] = {
    "client_encoding": {"client_encoding": "LATIN1"},
    "array_nulls": {"array_nulls": "off"},
    "dates": {"DateStyle": "German", "IntervalStyle": "sql_standard", "TimeZone": "Asia/Kolkata"},
    "literals": {
        "bytea_output": "escape", "standard_conforming_strings": "off", "backslash_quote": "off",
        "escape_string_warning": "on", "quote_all_identifiers": "on", "extra_float_digits": "-10",
    },
    "null_equals": {"transform_null_equals": "on"},
    "timeouts": {"statement_timeout": "2s", "lock_timeout": "1s",
                 "idle_in_transaction_session_timeout": "1s"},
    "isolation": {"default_transaction_isolation": "serializable",
                  "default_transaction_deferrable": "on"},
    "plans": {"enable_seqscan": "off", "enable_indexscan": "off", "enable_hashjoin": "off",
              "plan_cache_mode": "force_custom_plan", "jit_above_cost": "0"},
    "path": {"search_path": "planted, nowhere"},
    "messages": {"client_min_messages": "debug1", "lc_messages": "C", "lc_numeric": "C"},
}  # fmt: skip


@pytest.fixture
def set_up(make_database: Callable[[], str]) -> Iterator[Callable[..., str]]:
    """A database in which every session begins with these settings, migrated under them."""

    def set_up(settings: dict[str, str]) -> str:
        url = make_database()
        with psycopg.connect(parse_url(url), autocommit=True) as connection:
            # Relations of the names that ours have.
            connection.execute("CREATE SCHEMA planted; CREATE TABLE planted.jobs (id integer)")
            connection.execute("CREATE TABLE planted.migrations (version text)")
            name = sql.Identifier(connection.info.dbname)
            for setting, value in settings.items():
                set_value = sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    name, sql.Identifier(setting),
                    sql.SQL(value) if setting == "search_path" else sql.Literal(value),
                )  # fmt: skip
                connection.execute(set_value)
        with migrations.session(parse_url(url)) as session:
            migrations.migrate(session, "pgjobs")
        move_app(url)
        return url

    yield set_up
    close_app(tasks.app)


def move_app(url: str) -> None:
    """Have the workers' app, here as the producer, connect anew, and there."""
    close_app(tasks.app)
    for database in known_databases():
        database.close()
    tasks.app._backend_cache = None
    tasks.app._local.__dict__.clear()
    tasks.app.conf.update(broker_url=url, result_backend=url)


def use(app: Celery) -> None:
    """Do a bit of all that there is."""
    assert tasks.add.delay(1, 2).get(timeout=20) == 3
    assert tasks.identity.apply_async(
        ("été €",), queue="été", task_id="ü", headers={"note": "日本"}
    ).get(timeout=20) == "été €"  # fmt: skip
    with pytest.raises(tasks.CustomError, match="€"):
        tasks.fail.delay("weg: €\\'\"").get(timeout=20)
    assert tasks.identity.apply_async(([None, 1.1, "NULL"],), countdown=0.1).get(timeout=20) == [
        None, 1.1, "NULL",
    ]  # fmt: skip
    assert chord([tasks.add.s(n, n) for n in range(3)])(tasks.tsum.s()).get(timeout=20) == 6
    once = uuid4().hex  # this may be done again
    with bulk():
        several = [tasks.identity.delay({"n": n, "once": once}) for n in range(3)]
    assert [result.get(timeout=20)["n"] for result in several] == [0, 1, 2]
    [row] = jobs(app).filter(args=[{"n": 1, "once": once}])
    assert (row.root_id, row.parent_id, row.group_id) == (row.task_id, None, None)
    later = tasks.add.apply_async((1, 2), countdown=3600)
    assert jobs(app).filter(id=later.id).cancel()
    assert app.control.ping(timeout=5)
    assert schedules(app).put("each", "tests.e2e.tasks.add", 60.0, args=(1, 2)).args == [1, 2]
    assert [entry.name for entry in schedules(app)] == ["each"]


@pytest.mark.parametrize("name", SETTINGS)
def test_whatever_a_session_begins_with(
    name: str, set_up: Callable[..., str], tmp_path: Path
) -> None:
    url = set_up(SETTINGS[name])
    with running_workers(url, tmp_path) as start:
        started = start(pool="threads", queues=["celery", "été"])
        for tries_left in (2, 1, 0):
            try:
                use(tasks.app)
                break
            except psycopg.errors.SerializationFailure:
                # Of two that take messages at once one may fail, as doctor says of such a role.
                if name != "isolation" or not tries_left:
                    raise
        assert "CRITICAL" not in started.log


def test_the_encoding_of_the_environment_is_none_of_ours(
    url: str, worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    move_app(url)
    worker(pool="prefork", queues=["celery", "été"])
    use(tasks.app)
    close_app(tasks.app)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_is_not_utf8_is_refused_by_name(server_url: str, encoding: str) -> None:
    name = f"pgjobs_test_{encoding.lower()}_{os.getpid()}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0"
            " LC_COLLATE 'C' LC_CTYPE 'C'"
        )
        try:
            with migrations.session(make_conninfo(server_url, dbname=name)) as session:
                with pytest.raises(SchemaError, match=f"{name} is encoded in {encoding}"):
                    migrations.migrate(session, "pgjobs")
                assert migrations.plan(session, "pgjobs", 0) == []
        finally:
            server.execute(f"DROP DATABASE {name}")

"""The same selection as a command, as Python and as SQL: each is run, and finds the same jobs."""

from __future__ import annotations

import json
import shlex
from typing import Any

import psycopg
import pytest
from celery.bin.celery import celery
from click.testing import CliRunner

from pgjobs_celery.control.filters import FILTERS, Filters
from pgjobs_celery.control.jobs import ACTS_ON, Selection
from pgjobs_celery.control.jobs import jobs as jobs_of
from pgjobs_celery.control.search import parse
from pgjobs_celery.control.spelled import COMMANDS, as_cli, as_python, as_sql
from pgjobs_celery.db.database import Database
from tests.conftest import Connection
from tests.support.rows import new_job, put

#: A job that each of the searches finds, if it finds any, and others that it does not.
SEARCHES = {
    "id": "id:a,b",
    "task": "task:mail.send",
    "queue": """queue:"it's \\\\ odd",mail""",
    "state": "state:PENDING,discarded",
    "tags": "tags:vip,eu",
    "args": 'args:7 args:"it\'s"',
    "kwargs": "kwargs.user.id:7",
    "meta": 'meta:{"a": "-"}',
    "attempt": "attempt:0-3",
    "older_than": "older_than:0",
    "newer_than": "newer_than:1.5h",
    "finished_before": "finished_before:0 state:cancelled",
    "finished_after": "finished_after:1h",
    "group": "group:-g",
    "parent": "parent:p",
    "root": "root:r",
    "worker": 'worker:"celery@web 1"',
    "stamps": "stamps.release:[7,8]",
    "error": "error:ValueError,KeyError",
    "fingerprint": "fingerprint:ValueError-0123456789",
    "lane": 'lane:rate/queue/mail,"share"',
    "key": "key:7,8 lane:rate/queue/mail",
    "idempotency_key": "idempotency_key:evt_1,evt_2",
}


@pytest.fixture
def some(database: Database, connection: Connection) -> None:
    """Jobs of which each search finds one or more, and not all."""
    for number, queue in enumerate(("mail", "it's \\ odd", "else")):
        put(database, f"{'abc'[number]}", queue=queue, body=b"[[1], {}, {}]")
    message = json.dumps({"headers": {"stamps": {"release": 7}, "stamped_headers": ["release"]}})
    database.jobs.insert_job(
        new_job(
            "d", task="mail.send", queue="mail", group_id="-g", parent_id="p", root_id="r",
            body=b'[[7, "it\'s"], {"user": {"id": 7, "x": 1}}, {}]', message=message,
        )
    )  # fmt: skip
    connection.execute(
        "UPDATE pgjobs.jobs SET priority = 256, lane = CASE task_id WHEN 'a' THEN"
        " E'rate/queue/mail=7\nshare=9' ELSE E'rate/queue/mail=9\nshare=7' END"
        " WHERE task_id IN ('a', 'b')"
    )
    connection.execute(
        "UPDATE pgjobs.jobs SET tags = '{vip,eu,x}', meta = '{\"a\": \"-\"}' WHERE task_id = 'd'"
    )
    put(database, "e", "f", queue="else")
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'cancelled', finished_at = now() - interval '1 minute',"
        " attempted_by = 'celery@web 1', attempt = 4,"
        " fingerprint = 'ValueError-0123456789', failed_at = now() WHERE task_id = 'e'"
    )
    connection.execute(
        "UPDATE pgjobs.jobs SET inserted_at = now() - interval '1 day', state = 'completed',"
        " finished_at = now() - interval '1 day', attempt = 5 WHERE task_id = 'f'"
    )
    connection.execute(
        "INSERT INTO pgjobs.receipts (task, key, task_id, expires_at)"
        " SELECT task, 'evt_1', task_id, now() + interval '1 day' FROM pgjobs.jobs"
        " WHERE task_id = 'e'"
    )


def found_by(jobs: Selection) -> set[str]:
    return {job.task_id for job in jobs}


def test_each_filter_has_its_search():
    assert set(SEARCHES) == set(FILTERS)


@pytest.mark.usefixtures("some")
def test_command_python_and_sql_find_the_same_jobs(database, connection, url):
    for name, text in SEARCHES.items():
        filters = parse(text).filters
        assert name in filters.given
        wanted = found_by(Selection(database, filters))
        assert 0 < len(wanted) < 6 or name == "older_than", text
        listed = run(as_cli(filters), url, "--json", "--limit", "0")
        assert {job["task_id"] for job in json.loads(listed)} == wanted, as_cli(filters)
        selected = eval(as_python(filters), {"jobs": jobs_of, "app": database})
        assert selected._filters == filters
        rows = connection.execute(as_sql(filters)).fetchall()
        assert {row["task_id"] for row in rows} == wanted, as_sql(filters)


def run(command: str, url: str, *more: str) -> str:
    program, *words = shlex.split(command)
    assert program == "celery"
    done = CliRunner().invoke(celery, [*words, "--url", url, *more])
    assert done.exit_code == 0, (command, done.output)
    return done.output


def test_all_jobs_and_none(database, connection, url):
    put(database, "a")
    assert json.loads(run(as_cli(Filters()), url, "--json"))[0]["task_id"] == "a"
    assert as_python(Filters()) == "jobs(app)"
    assert len(connection.execute(as_sql(Filters())).fetchall()) == 1
    none = Filters().narrow(id=[])
    assert as_cli(none) == ""
    assert connection.execute(as_sql(none)).fetchall() == []
    assert eval(as_python(none), {"jobs": jobs_of, "app": database}).count() == 0


OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cancel": ({"--reason": "-no 'way'"}, {"reason": "-no 'way'"}),
    "retry": ({}, {}),
    "delete": ({}, {}),
    "reschedule": ({"--in": "2h"}, {"countdown": 7200}),
    "set_priority": ({"--to": 3}, {"priority": 3}),
    "move": ({"--to": "-odd"}, {"queue": "-odd"}),
}


@pytest.mark.parametrize("action", ACTS_ON)
def test_an_action_as_a_command_and_as_python(action, database, url):
    flags, given = OPTIONS[action]
    filters = Filters().narrow(queue="none")
    command = as_cli(filters, COMMANDS[action], {**flags, "--yes": True})
    assert run(command, url).startswith("0 jobs")
    all_of_them = as_cli(Filters(), COMMANDS[action], {**flags, "--yes": True})
    assert run(all_of_them, url).startswith("0 jobs")
    code = as_python(filters, action, given)
    assert eval(code, {"jobs": jobs_of, "app": database}) == []


def test_another_schema_is_named_as_it_is(bare_database):
    name = 'Odd "one"'
    with psycopg.connect(bare_database, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "Odd ""one"""')
        connection.execute(
            'CREATE VIEW "Odd ""one""".job_details AS SELECT 1 AS id, 1 AS task_id, 1 AS task,'
            " 1 AS queue, 1 AS state, 0 AS attempt, now() AS inserted_at, 1 AS args, 1 AS kwargs"
        )
        assert len(connection.execute(as_sql(Filters(), name).encode()).fetchall()) == 1

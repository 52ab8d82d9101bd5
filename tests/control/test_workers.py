"""``workers(app)``: what the rows of the nodes tell, whoever wrote them."""

from __future__ import annotations

import json
from collections.abc import Callable
from uuid import UUID

import pytest
from celery import Celery
from celery.bin.celery import celery
from click.testing import CliRunner

from pgjobs_celery import workers
from pgjobs_celery.control.workers import Worker, list_workers
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.nodes import About
from pgjobs_celery.job.rows import Bucket
from tests.support.rows import put

from ..conftest import Connection

A, B = UUID(int=1), UUID(int=2)
HOSTILE = "w\x1b[2J\n\u202e'\";--"
ABOUT = About(
    {"host": "web1", "pid": 7, "pool": "threads", "slots": 4, "celery": "5.7.0", "python": "3.12"},
    ("shop.report",),
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """``celery -b`` sets a variable, which is to be gone after the test."""
    monkeypatch.setenv("CELERY_BROKER_URL", "")


def find(database: Database) -> dict[str, Worker]:
    return {worker.name: worker for worker in list_workers(database)}


def test_a_worker_tells_what_it_is(database: Database) -> None:
    database.nodes.beat_node(A, "w1@web", ["mail"], 13.0, about=ABOUT, lost_claims=2)
    worker = find(database)["w1@web"]
    assert (worker.host, worker.pid, worker.pool, worker.slots) == ("web1", 7, "threads", 4)
    assert (worker.celery, worker.python, worker.tasks) == ("5.7.0", "3.12", ("shop.report",))
    assert (worker.queues, worker.lost_claims, worker.jobs) == (("mail",), 2, ())
    assert worker.is_alive
    assert not worker.is_silent
    assert 12 < worker.lease_left <= 13


def test_a_worker_of_an_older_release_tells_less(database: Database) -> None:
    database.nodes.beat_node(A, "w1@web", ["mail"], 13.0)
    worker = find(database)["w1@web"]
    assert (worker.host, worker.pool, worker.slots, worker.tasks) == (None, None, None, None)


def test_what_a_worker_is_stays_until_it_tells_anew(database: Database) -> None:
    assert database.nodes.beat_node(A, "w1", [], 13.0).is_unknown
    assert not database.nodes.beat_node(A, "w1", [], 13.0, about=ABOUT).is_unknown
    assert not database.nodes.beat_node(A, "w1", [], 13.0).is_unknown
    assert find(database)["w1"].tasks == ("shop.report",)
    many = ABOUT._replace(tasks=None)
    database.nodes.beat_node(A, "w1", [], 13.0, about=many)
    assert find(database)["w1"].tasks is None
    assert find(database)["w1"].pid == 7


def test_the_jobs_that_a_worker_holds_are_its_own(database: Database) -> None:
    for number, node in enumerate((A, B)):
        database.nodes.beat_node(node, f"w{number}", ["mail", "celery"], 13.0)
    for id, queue in (("a", "mail"), ("b", "celery"), ("c", "mail")):
        put(database, id, queue=queue)
    database.claims.claim_jobs(A, "w0", [Bucket("mail")], 1)
    database.claims.claim_jobs(B, "w1", [Bucket("celery")], 1)
    found = find(database)
    assert [(job.task_id, job.queue, job.attempt) for job in found["w0"].jobs] == [("a", "mail", 1)]
    assert [job.task_id for job in found["w1"].jobs] == ["b"]
    assert found["w0"].jobs[0].seconds >= 0


def test_a_mailbox_is_not_one_of_its_queues(database: Database, connection: Connection) -> None:
    connection.execute(
        "INSERT INTO pgjobs.queues (name, owner, expires_after)"
        " VALUES ('reply', %s, NULL), ('w1.pidbox', NULL, 10), ('mail', NULL, NULL)",
        (A,),
    )
    database.nodes.beat_node(A, "w1", ["mail", "reply", "undeclared", "w1.pidbox"], 13.0)
    assert find(database)["w1"].queues == ("mail", "undeclared")


@pytest.mark.parametrize("heartbeat", ["now() - interval '20 s'", "'-infinity'"])
def test_a_dead_worker_is_listed_until_it_is_buried(
    database: Database, connection: Connection, heartbeat: str
) -> None:
    database.nodes.beat_node(A, "w1", ["celery"], 13.0, about=ABOUT)
    put(database, "a")
    database.claims.claim_jobs(A, "w1", [Bucket("celery")], 1)
    connection.execute(f"UPDATE pgjobs.nodes SET heartbeat_at = {heartbeat}")
    worker = find(database)["w1"]
    assert not worker.is_alive
    assert worker.lease_left < -6
    assert [job.task_id for job in worker.jobs] == ["a"]


def test_rows_that_were_written_by_hand_are_shown(
    database: Database, connection: Connection
) -> None:
    odd = ("[]", "null", '{"slots": true, "pid": "x", "host": 3, "pool": null}', "3")
    for number, details in enumerate(odd):
        connection.execute(
            "INSERT INTO pgjobs.nodes (node, name, version, lease, details, started_at)"
            " VALUES (%s, %s, '', 'infinity', %s, '-infinity')",
            (UUID(int=number), f"w{number}", details),
        )
    for worker in find(database).values():
        assert (worker.slots, worker.host, worker.pid) == (None, None, None)
        assert worker.is_alive


def test_names_are_harmless_on_a_terminal(url: str, database: Database) -> None:
    about = About(dict.fromkeys(ABOUT.details, HOSTILE) | {"pid": 1, "slots": 2}, (HOSTILE,))
    database.nodes.beat_node(A, HOSTILE, [HOSTILE], 13.0, about=about)
    put(database, HOSTILE, queue=HOSTILE, task=HOSTILE)
    database.claims.claim_jobs(A, HOSTILE, [Bucket(HOSTILE)], 1)
    for words in (["workers"], ["workers", "--json"]):
        done = CliRunner().invoke(celery, ["-b", url, "pgjobs", *words])
        assert done.exit_code == 0, done.output
        assert done.output.replace("\n", "").isprintable()


def test_the_command_shows_what_the_rows_tell(url: str, database: Database) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(celery, ["-b", url, "pgjobs", "workers", *words])
        assert done.exit_code == 0, done.output
        return done.output

    assert run() == "No workers.\n"
    assert json.loads(run("--json")) == []
    database.nodes.beat_node(A, "w1@web", ["mail"], 13.0, about=ABOUT, lost_claims=2)
    put(database, "a", queue="mail", task="shop.report")
    database.claims.claim_jobs(A, "w1@web", [Bucket("mail")], 1)
    shown = run()
    for word in ("w1@web", "threads", "1/4", "s left", "web1:7", "Celery 5.7.0", "shop.report"):
        assert word in shown
    (found,) = json.loads(run("--json"))
    assert (found["is_alive"], found["slots"], found["jobs"][0]["task_id"]) == (True, 4, "a")
    assert found["heartbeat_at"].endswith("+00:00")


def test_a_locked_table_ends_the_command_in_time(
    url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("workers", "top_look"):
        monkeypatch.setattr(f"pgjobs_celery.cli.{module}.ANSWER_SECONDS", 1.0)
    with connection.transaction():
        connection.execute("LOCK TABLE pgjobs.nodes")
        for command in ("workers", "top"):
            done = CliRunner().invoke(celery, ["-b", url, "pgjobs", command])
            assert done.exit_code == 1
            assert done.output.startswith("Error: the database has not answered within 1 s")
            assert done.output.count("\n") == 1


def test_an_app_names_its_workers(make_app: Callable[..., Celery], database: Database) -> None:
    database.nodes.beat_node(A, "w1@web", [], 13.0)
    assert [worker.name for worker in workers(make_app())] == ["w1@web"]

"""The page of workers: their state, what they run, and what they are told."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

pytest.importorskip("starlette", reason="the extra web is not installed")

from celery import Celery

from pgjobs_celery import audit
from pgjobs_celery.control.remote import Answer, read_answer
from pgjobs_celery.db.rows.nodes import About
from pgjobs_celery.job.rows import Bucket
from tests.support.rows import put

from ..support.waiting import wait_for

NODE = UUID(int=1)
ABOUT = About({"host": "web1", "pid": 7, "pool": "prefork", "slots": 4, "celery": "5.6.0"})


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return make_app("shop")


def test_workers_are_alive_silent_or_dead(database, connection, viewer):
    for number, name in enumerate(("fit@a", "quiet@b", "gone@c"), 1):
        database.nodes.beat_node(UUID(int=number), name, ["mail"], 60.0, about=ABOUT)
    put(database, "some-long-id", queue="mail", task="shop.report")
    database.claims.claim_jobs(NODE, "fit@a", [Bucket("mail")], 1)
    late = "UPDATE pgjobs.nodes SET heartbeat_at = now() - %s * interval '1 s' WHERE name = %s"
    connection.execute(late, (40, "quiet@b"))
    connection.execute(late, (90, "gone@c"))
    page = viewer.get("/workers").text
    for word in ('1 <span class="chip alive', '1 <span class="chip silent', "chip dead"):
        assert word in page
    for word in ("shop.report", "some-lon", "1 of 4", "PID 7", "Celery 5.6.0"):
        assert word in page
    assert "Ping" not in page  # nobody told it what the program is
    assert "knows the database only" in page


def test_without_workers_the_page_says_how_to_start_one(viewer):
    assert "celery -A proj worker" in viewer.get("/workers").text


def test_a_name_that_somebody_has_chosen_is_text(database, app, open_page):
    name = "<script>alert(1)</script>@'\""
    database.nodes.beat_node(NODE, name, ["<b>q</b>"], 60.0, about=ABOUT)
    page = open_page(app, role="admin").get("/workers").text
    assert "<script>alert" not in page
    assert "<b>q" not in page


def test_without_the_program_workers_are_told_nothing(database, open_page):
    database.nodes.beat_node(NODE, "w@a", ["mail"], 60.0, about=ABOUT)
    answer = open_page(role="admin").post_form("/workers/shutdown", worker="w@a")
    assert answer.status_code == 400
    assert "celery -A proj pgjobs web" in answer.text


@pytest.mark.parametrize(
    ("path", "fields", "reason"),
    [
        ("ping", {"worker": "w@b"}, "there is no worker"),
        ("shutdown", {"worker": ""}, "there is no worker"),
        ("resize", {"worker": "w@a", "by": "0"}, "1 to 100"),
        ("resize", {"worker": "w@a", "by": "101"}, "1 to 100"),
        ("resize", {"worker": "w@a", "by": "1e3"}, "1 to 100"),
        ("resize", {"worker": "w@b", "by": "1"}, "there is no worker"),
    ],
)
def test_nothing_is_sent_for_what_cannot_be(database, app, open_page, path, fields, reason):
    database.nodes.beat_node(NODE, "w@a", ["mail"], 60.0, about=ABOUT)
    answer = open_page(app, role="admin").post_form(f"/workers/{path}", **fields)
    assert answer.status_code == 400
    assert reason in answer.text
    assert audit(app).list() == []


def test_answers_are_read_whatever_they_are():
    assert read_answer("w", {"ok": "pong"}, 1) == Answer("w", True, "pong")
    assert read_answer("w", {"error": "no"}, 1) == Answer("w", False, "no")
    assert read_answer("w", None, 1) == Answer("w", False, "it has not answered within 1 s")
    assert read_answer("w", ["x"], 1).is_ok


@pytest.mark.e2e
def test_a_worker_is_pinged_resized_and_shut_down(url, tmp_path, app, open_page, connection):
    from ..e2e.conftest import running_workers

    with running_workers(url, tmp_path) as start:
        worker = start(concurrency=1)
        browser = open_page(app, role="admin")
        assert f"Worker {worker.name}: pong." in tell(browser, "ping", worker.name)
        text = tell(browser, "resize", worker.name, by="1")
        assert "pool will grow" in text
        assert f"celery -A proj control pool_grow 1 -d {worker.name}" in text
        wait_for(lambda: len(worker.children()) == 2)
        assert "pool will shrink" in tell(browser, "resize", worker.name, by="-1")
        assert "was told to shut down" in tell(browser, "shutdown", worker.name)
        assert worker.process.wait(30) == 0
    found = [(entry.action, entry.via, entry.details) for entry in audit(app).list()]
    told = {"worker": worker.name}
    assert found == [
        ("shutdown_worker", "web", told),
        ("shrink_pool", "web", told | {"n": 1}),
        ("grow_pool", "web", told | {"n": 1}),
    ]


def tell(browser, path, name, **fields):
    answer = browser.post_form(f"/workers/{path}", worker=name, next="/workers", **fields)
    assert answer.status_code == 200
    return answer.text

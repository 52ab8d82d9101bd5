"""Overview, Queues and Tasks show what was counted, and act on queues."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from uuid import UUID

import psycopg
import pytest

pytest.importorskip("starlette", reason="the extra web is not installed")

from pgjobs_celery.control.doctor.findings import Report, finding
from pgjobs_celery.control.overview import Overview, QueueNow
from pgjobs_celery.control.queues import Queues
from pgjobs_celery.db.database import Database
from pgjobs_celery.job.outcome import completed, discarded
from pgjobs_celery.job.rows import Bucket
from pgjobs_celery.web import examinations
from pgjobs_celery.web.values import visible
from pgjobs_celery.web.windows import Now
from tests.maintenance.test_fold import FAILED, Impatient
from tests.support.rows import alive, put

NODE = UUID(int=1)
HOSTILE = "<script>alert('x')</script>\"\u202e & co"

Connection = psycopg.Connection[dict[str, Any]]


@pytest.fixture(autouse=True)
def well(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor has its own tests, and looks at the whole server."""
    monkeypatch.setattr(examinations, "examine", lambda database, app: Report(()))


@pytest.fixture
def busy(database: Database, connection: Connection) -> None:
    """One job of mail ran, nine of it failed; two wait in another queue, and long."""
    alive(database, NODE)
    connection.execute("DELETE FROM pgjobs.fold")
    database.metrics.begin_fold()
    put(database, *(f"m{number}" for number in range(10)), task="mail.send", queue="mail")
    put(database, "s1", "s2", task="sum", queue="slow <b>")
    claims, _ = database.claims.claim_jobs(NODE, "n", [Bucket("mail")], 10)
    outcomes = [completed(claims[0]), *(discarded(claim, FAILED) for claim in claims[1:])]
    assert database.claims.settle_jobs(NODE, outcomes) == []
    connection.execute(
        "UPDATE pgjobs.jobs SET scheduled_at = now() - interval '10 minutes' WHERE task = 'sum'"
    )
    Impatient(100).run(database)


def text_of(page: Any) -> str:
    """What one reads of a page, without its charts' titles."""
    html = re.sub(r"<(svg|details).*?</\1>", " ", page.text, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


@pytest.mark.usefixtures("busy")
def test_the_overview_says_in_a_line_what_is_wrong(viewer):
    text = text_of(viewer.get("/"))
    assert "1 queue late , 90 % of mail.send failing since" in text
    assert "9 of 10 jobs failed (90 %)" in text
    assert "slow <b> : the oldest job has waited for 10 min" in text


def test_the_overview_says_that_nothing_is_wrong(viewer):
    page = viewer.get("/")
    assert "Nothing is wrong." in text_of(page)
    assert "Needs attention" not in page.text
    assert "Nothing has been published yet." in page.text
    assert "No worker runs." in page.text


def test_findings_of_the_doctor_need_attention(viewer, monkeypatch):
    wrong = finding("dead_node", f"{HOSTILE} is dead", "bury it")
    monkeypatch.setattr(examinations, "examine", lambda database, app: Report((wrong,)))
    page = viewer.get("/")
    assert "1 finding" in page.text
    assert "A worker is dead" in page.text
    assert "<script>alert" not in page.text


def test_the_doctor_is_not_asked_by_each_visit(viewer, monkeypatch):
    asked = []

    def examine(database: Database, app: Any) -> Report:
        asked.append(database)
        return Report(())

    monkeypatch.setattr(examinations, "examine", examine)
    for _ in range(5):
        assert "examined" in viewer.get("/").text
    assert len(asked) == 1


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("window", ["hour", "day", "week"])
@pytest.mark.parametrize(
    "path", ["/", "/queues", "/tasks", "/task?name=mail.send", "/queue?name=mail"]
)
def test_each_page_tells_of_each_range(viewer, path, window):
    page = viewer.get(f"{path}{'&' if '?' in path else '?'}range={window}")
    assert page.status_code == 200
    assert "mail" in page.text
    assert "<svg" in page.text
    assert "succeeded 1, failed 9" in page.text or path in ("/queues", "/tasks")


@pytest.mark.parametrize("path", ["/", "/queues", "/tasks"])
def test_a_range_that_is_not_one_is_refused(viewer, path):
    page = viewer.get(f"{path}?range=weak")
    assert page.status_code == 400
    assert "did you mean" in page.text


@pytest.mark.usefixtures("busy")
def test_tasks_are_listed_with_their_figures(viewer):
    text = text_of(viewer.get("/tasks"))
    assert "mail.send 10" in text
    assert "90 %" in text
    assert "sum" not in text_of(viewer.get("/tasks?q=MAIL"))
    assert "The name of no task contains xyz." in viewer.get("/tasks?q=xyz").text


@pytest.mark.usefixtures("busy")
def test_the_last_runs_of_a_task_lead_to_its_jobs(viewer):
    page = viewer.get("/task?name=mail.send").text
    assert page.count('class="bar-discarded"') == 9
    assert 'href="/job?id=m0"' in page
    assert "None has ended" in viewer.get("/task?name=sum").text


def test_long_lists_are_told_in_pages(database, viewer):
    for number in range(130):
        Queues(database).limit(f"q{number:03}", 1)
    first, last = viewer.get("/queues").text, viewer.get("/queues?page=3").text
    assert "q000" in first
    assert "q129" not in first
    assert "q129" in last
    assert "Page 3 of 3, 130 queues" in last
    assert "q129" in viewer.get("/queues?page=99999").text
    assert "q000" in viewer.get("/queues?page=-1").text


def test_pages_without_anything_say_so(viewer):
    assert "No job has ended in this time." in viewer.get("/tasks").text
    assert "Nothing has been published yet." in viewer.get("/queues").text
    assert "No job of this task has ended" in viewer.get("/task?name=nobody").text
    assert "This queue has no jobs" in viewer.get("/queue?name=nobody").text
    assert viewer.get("/task").status_code == 400
    assert viewer.get("/queue").status_code == 400


@pytest.mark.usefixtures("busy")
def test_queues_are_paused_resumed_and_limited(admin, database):
    queues = Queues(database)
    page = admin.post_form("/queues/pause", "/queues", queue="slow <b>")
    assert "Queue slow <b> is paused" in unescape(page.text)
    assert "celery -A proj pgjobs pause 'slow <b>'" in unescape(page.text)
    assert queues.get("slow <b>").is_paused
    admin.post_form("/queues/resume", "/queues", queue="slow <b>")
    assert not queues.get("slow <b>").is_paused
    admin.post_form("/queues/limit", "/queue?name=mail", queue="mail", concurrency="3")
    assert queues.get("mail").concurrency == 3
    admin.post_form("/queues/limit", "/queue?name=mail", queue="mail", concurrency=" ")
    assert queues.get("mail").concurrency is None
    by = database.audit.list_actions(limit=1)[0]
    assert (by.action, by.via) == ("limit_queue", "web")


@pytest.mark.parametrize("given", ["-1", "2.5", "many", "9" * 30, "٣"])
def test_a_limit_that_is_not_a_number_is_refused(admin, database, given):
    page = admin.post_form("/queues/limit", "/queues", queue="mail", concurrency=given)
    assert page.status_code == 400
    assert "must be a whole number" in page.text
    assert Queues(database).get("mail").concurrency is None


@pytest.mark.parametrize("path", ["/queues/pause", "/queues/resume", "/queues/limit"])
def test_a_viewer_cannot_act_on_queues(viewer, path):
    assert viewer.post_form(path, "/queues", queue="mail", concurrency="1").status_code == 403


@pytest.mark.usefixtures("busy")
def test_a_viewer_sees_why_the_buttons_are_off(viewer):
    page = viewer.get("/queues").text
    assert "this needs operator" in page
    assert re.search(r"<button[^>]*disabled[^>]*>Pause", page)


def test_names_are_shown_as_they_are(database, connection, viewer):
    alive(database, NODE)
    connection.execute("DELETE FROM pgjobs.fold")
    database.metrics.begin_fold()
    put(database, "a", "b", task=HOSTILE, queue=HOSTILE)
    ((claim,), _) = database.claims.claim_jobs(NODE, "n", [Bucket(HOSTILE)], 1)
    database.claims.settle_jobs(NODE, [discarded(claim, FAILED)])
    Impatient(100).run(database)
    for path in ("/", "/queues", "/tasks"):
        page = viewer.get(path)
        assert "<script>alert" not in page.text
        assert visible(HOSTILE) in unescape(page.text)
    for path in ("/queue", "/task"):
        page = viewer.get(path, params={"name": HOSTILE})
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "failed 1" in page.text


@pytest.mark.parametrize(
    ("queue", "counted", "text"),
    [
        (QueueNow("a", ready=5), 900, "5"),
        (QueueNow("a", ready=100, is_cut=True), 12_345, "about 12,345"),
        (QueueNow("a", ready=100, is_cut=True), 0, "100+"),
    ],
)
def test_a_long_line_is_told_as_it_was_counted(queue, counted, text):
    assert Now(Overview(), {"a": counted}).ready(queue) == text

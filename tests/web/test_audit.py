"""The page of the audit: who did what, filtered, a page at a time."""

from __future__ import annotations

import re
from datetime import datetime, timezone

import pytest

pytest.importorskip("starlette", reason="the extra web is not installed")

from pgjobs_celery.control.acting import begin_action
from pgjobs_celery.control.audit import Place
from pgjobs_celery.errors import InvalidOption
from pgjobs_celery.web.pages.audit import read_place, write_place


def record(database, action, actor, jobs=0, task_ids=(), **known):
    from pgjobs_celery import acting_as

    with acting_as(actor):
        entry = begin_action(action, **known)
    with database.audit.acting():
        database.audit.record_action(entry, jobs=jobs, task_ids=task_ids)


@pytest.fixture
def actions(database):
    record(database, "cancel_jobs", "alice", 7, [f"id-{n}" for n in range(7)], queue="mail",
           details={"reason": "wrong <b>template</b>"})  # fmt: skip
    record(database, "pause_queue", "bob", queue="slow")
    record(database, "put_schedule", "bob", schedule="s", app="shop",
           details={"task": "t", "schedule": {"type": "interval", "every": 90}})  # fmt: skip
    record(database, "run_schedule", "alice", 1, ["run-1"], schedule="nightly", app="shop")
    record(database, "shutdown_worker", "carol", details={"worker": "w@a"})


def rows(page: str) -> list[str]:
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    return re.findall(r"<th scope=\"row\">.*?<bdi>(.*?)</bdi>", body, re.DOTALL)


@pytest.mark.usefixtures("actions")
def test_all_actions_are_listed_the_newest_first(viewer):
    page = viewer.get("/audit").text
    assert rows(page) == ["carol", "alice", "bob", "bob", "alice"]
    assert "schedule: Every 1 minute 30 seconds" in page
    assert "worker: w@a" in page
    assert "wrong &lt;b&gt;template" in page
    assert "and 2 more" in page


def test_no_secret_of_an_action_is_shown(database, viewer):
    record(database, "cancel_jobs", "alice", details={"reason": "Bearer s3cret-of-ours"})
    # As a release before wrote it.
    record(database, "retry_jobs", "alice", filters="kwargs={'url': 'redis://:s3cret-url@cache'}")
    page = viewer.get("/audit").text
    assert "reason: Bearer [hidden]" in page
    assert "redis://:[hidden]@cache" in page
    assert "s3cret" not in page


@pytest.mark.usefixtures("actions")
@pytest.mark.parametrize(
    ("query", "actors"),
    [
        ("actor=alice", ["alice", "alice"]),
        ("action=pause_queue", ["bob"]),
        ("queue=mail", ["alice"]),
        ("schedule=nightly", ["alice"]),
        ("job=id-3", ["alice"]),
        ("actor=alice&action=run_schedule&since=hour", ["alice"]),
        ("actor=dave", []),
    ],
)
def test_actions_are_filtered(viewer, query, actors):
    page = viewer.get(f"/audit?{query}")
    assert page.status_code == 200
    assert rows(page.text) == actors
    option = query.split("&")[0].replace("=", " ")
    assert f"celery -A proj pgjobs audit --{option}" in page.text


@pytest.mark.usefixtures("actions")
def test_pages_follow_each_other_without_a_gap(viewer, monkeypatch):
    monkeypatch.setattr("pgjobs_celery.web.pages.audit.PAGE", 1)
    found, path = [], "/audit?since=day"
    while path:
        page = viewer.get(path).text
        found += rows(page)
        link = re.search(r'rel="next" href="([^"]+)"', page)
        path = link[1].replace("&amp;", "&") if link else ""
        assert "since=day" in path or not path
    assert found == ["carol", "alice", "bob", "bob", "alice"]


@pytest.mark.parametrize(
    "query", ["action=pause", "since=yesterday", "before=x", "before=2026-01-01/x", "job=%00"]
)
def test_what_cannot_be_is_refused(viewer, query):
    page = viewer.get(f"/audit?{query}")
    assert page.status_code == 400
    assert "cannot be done" in page.text


def test_an_empty_audit_says_what_will_be_here(viewer):
    assert "Nobody has done anything yet" in viewer.get("/audit").text


def test_places_are_written_and_read(database):
    record(database, "pause_queue", "bob", queue="q")
    from pgjobs_celery.control.audit import AuditLog

    (entry,) = AuditLog(database).list()
    assert read_place(write_place(entry)) == Place(entry.at, entry.id)
    assert read_place("") is None
    assert read_place("2026-01-01T00:00:00/5") == Place(
        datetime(2026, 1, 1, tzinfo=timezone.utc), 5
    )
    for text in ("2026/", "/5", "2026-01-01/-1", f"2026-01-01/{2**63}", "9" * 5000 + "/1"):
        with pytest.raises(InvalidOption):
            read_place(text)

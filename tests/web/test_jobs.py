"""The list of jobs, asked as a browser would ask it: search, pages, columns, and acting on many."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

pytest.importorskip("starlette", reason="the extra web is not installed")

from pgjobs_celery.control import operations as operations_of
from pgjobs_celery.control.audit import audit
from pgjobs_celery.control.jobs import jobs as jobs_of
from pgjobs_celery.control.operations import Operations
from pgjobs_celery.db.rows import filtered
from pgjobs_celery.web import Redaction
from pgjobs_celery.web.pages import bulk
from tests.support.rows import put, states
from tests.support.waiting import wait_for

LINK = re.compile(r'<a rel="(prev|next)" href="([^"]+)"')


def ids(text: str) -> list[str]:
    return re.findall(r'name="id" value="([^"]*)"', text)


def links(text: str) -> dict[str, str]:
    return {rel: html.unescape(address) for rel, address in LINK.findall(text)}


def test_the_list_is_searched_and_paged(viewer, database):
    put(database, *(f"t{n}" for n in range(90)), queue="mail")
    put(database, "other", queue="else")
    first = viewer.get("/jobs?q=queue:mail")
    assert first.status_code == 200
    assert ids(first.text) == [f"t{n}" for n in range(89, 49, -1)]
    put(database, "new", queue="mail")
    second = viewer.get(links(first.text)["next"])
    assert ids(second.text) == [f"t{n}" for n in range(49, 9, -1)]
    third = viewer.get(links(second.text)["next"])
    assert ids(third.text) == [f"t{n}" for n in range(9, -1, -1)]
    assert "next" not in links(third.text)
    assert ids(viewer.get(links(third.text)["prev"]).text) == ids(second.text)
    assert 'available <span class="quiet">92' in viewer.get("/jobs").text
    assert (
        'available <span class="quiet">91' in viewer.get("/jobs?q=queue:mail+state:discarded").text
    )
    assert "celery pgjobs jobs --queue mail" in first.text
    assert "jobs(app).filter(queue=&#39;mail&#39;)" in first.text
    assert "queue = &#39;mail&#39;" in first.text


def test_the_form_beside_the_box_adds_to_the_search(viewer, database):
    put(database, "a", queue="my mail", body=b'[[], {"name": "Ann Lee"}, {}]')
    put(database, "b", queue="my mail", body=b'[[], {"name": "Bob"}, {}]')
    form = "q=state:available&add=1&with_queue=my+mail&with_path=name&with_value=Ann+Lee&before=1"
    found = viewer.get(f"/jobs?{form}")
    assert ids(found.text) == ["a"]
    query = parse_qs(urlsplit(str(found.url)).query)
    assert query == {"q": ['state:available queue:"my mail" kwargs.name:"Ann Lee"']}
    assert viewer.get("/jobs?add=1&with_path=x").status_code == 400


def test_columns_are_chosen_in_the_address(viewer, database):
    put(database, "a", tags=("vip",))
    usual = viewer.get("/jobs").text
    assert "<th>Queue</th>" in usual
    assert "<th>Progress</th>" not in usual  # not a job of the page has it
    chosen = viewer.get("/jobs?col=meta&col=worker&col=nonsense").text
    assert "<th>Meta</th><th>Worker</th>" in re.sub(r"\s+(?=<th)", "", chosen)
    assert "<th>Queue</th>" not in chosen


def test_progress_is_shown_as_the_task_tells_it(viewer, database, connection):
    put(database, "a", "b")
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'executing', claimed_by = gen_random_uuid(), attempt = 1,"
        " attempted_at = now(), reported_state = 'PROGRESS', result = %s WHERE task_id = 'a'",
        (b'{"current": 3, "total": 10}',),
    )
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'executing', claimed_by = gen_random_uuid(), attempt = 1,"
        ' meta = \'{"done": "much", "total": 0}\' WHERE task_id = \'b\''
    )
    text = viewer.get("/jobs").text
    assert "3 of 10" in text
    assert '<progress value="0.300"' in text


HOSTILE = [
    "\x00", "'; DROP TABLE jobs; --", '"', '"""', "%", "%s", "%(x)s", "task:\x00", "task:'",
    f"kwargs.n:{2**70}", f"kwargs.n:{'9' * 400}", "attempt:99999999999999999999", "\u202edrow",
    "task:\u202e\u2066", "x" * 10_000, "kwargs.a:" + "[" * 3000, "[" * 3990, "{{7*7}}", "<script>",
    "kwargs.x:<script>alert(1)</script>", "older_than:1e9w", "newer_than:99999999999999999999w",
    "state:<b>", "\ud83d\ude00", "tags:" + ",".join(["xyz"] * 900), "id:" + "a," * 999,
    "kwargs.password:x", "group:,", ":", "a:b:c", "=", "\\", "kwargs.:1", "kwargs..x:1", "\t\n",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_whatever_is_searched_for_is_answered(viewer, database, text):
    put(database, "a")
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    found = viewer.get(f"/jobs?q={quote(text)}")
    assert found.status_code in (200, 400)
    assert "<script>" not in found.text.replace("<script src", "")
    assert "\u202e" not in re.sub(r'value="[^"]*"', "", found.text)
    if found.status_code == 400:
        assert "This cannot be shown:" in found.text


@pytest.mark.parametrize(
    "query",
    [
        "before=x",
        "after=-1e9",
        f"before={'9' * 5000}",
        "before=7~2026-01-01T00:00:00%2B00:00",
        "limit=0",
        "limit=x",
        "limit=9999",
    ],
)
def test_no_address_is_an_error_of_ours(viewer, query):
    assert viewer.get(f"/jobs?{query}").status_code == 400


def test_what_is_hidden_cannot_be_guessed_at(viewer, admin, database):
    put(database, "a", body=b'[[], {"api_key": "sesame", "n": {"Password": "x1"}}, {}]')
    text = viewer.get("/jobs").text
    assert "sesame" not in text
    found = viewer.get("/jobs?q=kwargs.api_key:sesame")
    assert found.status_code == 400
    assert "is hidden on this page" in found.text
    assert viewer.get("/jobs?q=kwargs.n.Password:x1").status_code == 400
    for sure in ("", "1"):
        fields = {"all": "1", "q": "kwargs.api_key:sesame", "sure": sure}
        assert admin.post_form("/jobs/cancel", "/jobs", **fields).status_code == 400


@pytest.mark.parametrize(
    ("options", "search", "is_refused"),
    [
        ({}, "args:s3cret", True),  # auth.login has a positional parameter password
        ({}, "args:s3cret task:auth.login", True),
        ({}, "args:s3cret task:mail.send", False),
        ({}, 'args:[{"token":"x"}] task:mail.send', True),
        ({"tasks": {"billing.*": ["amount"]}}, "kwargs.amount:5", True),
        ({"tasks": {"billing.*": ["amount"]}}, "kwargs.amount:5 task:billing.pay", True),
        ({"tasks": {"billing.*": ["amount"]}}, "kwargs.amount:5 task:mail.send", False),
        ({"tasks": {"billing.*": True}}, "kwargs.x:5", True),
        ({"tasks": {"billing.*": True}}, "kwargs.x:5 task:billing.pay,mail.send", True),
        ({"tasks": {"billing.*": True}}, "kwargs.x:5 task:mail.send", False),
        ({"tasks": {"billing.*": True}}, "meta.x:5", False),
        ({"hook": lambda task, part, value: value}, "kwargs.x:5", True),
        ({"hook": lambda task, part, value: value}, "meta.x:5", True),
        ({"hook": lambda task, part, value: value}, "queue:mail", False),
    ],
)
def test_nothing_that_is_configured_as_hidden_can_be_guessed_at(
    make_app, open_page, options, search, is_refused
):
    app = make_app()

    @app.task(name="auth.login", shared=False)
    def login(user: str, password: str) -> None: ...

    @app.task(name="mail.send", shared=False)
    def send(to: str) -> None: ...

    page = open_page(app, redaction=Redaction(**options)).get("/jobs", params={"q": search})
    assert page.status_code == (400 if is_refused else 200)


def test_what_is_ticked_is_acted_on(admin, database, connection):
    put(database, "a", "b", "c")
    done = admin.post_form("/jobs/cancel", "/jobs", id=["a", "b"], reason="why")
    assert "2 jobs were cancelled, or told to stop." in done.text
    assert "celery pgjobs cancel --id a --id b --reason why" in done.text
    assert states(connection) == {"a": "cancelled", "b": "cancelled", "c": "available"}
    again = admin.post_form("/jobs/cancel", "/jobs", id=["a", "c"])
    assert "1 job was cancelled, or told to stop. 1 job was left alone" in again.text
    assert "2 jobs were put in line again" in admin.post_form("/jobs/retry", id=["a", "b"]).text
    assert "No job is ticked" in admin.post_form("/jobs/retry", "/jobs").text


def test_what_needs_a_value_or_cannot_be_undone_is_asked_first(admin, database, connection):
    put(database, "a", "b", eta=3600)
    asked = admin.post_form("/jobs/delete", "/jobs", id=["a"])
    assert "Delete 1 job?" in asked.text
    assert "There is no undo" in asked.text
    assert set(states(connection)) == {"a", "b"}
    asked = admin.post_form("/jobs/move", "/jobs", id=["a", "b"])
    assert "To queue" in asked.text
    admin.post_form("/jobs/move", "/jobs", id=["a", "b"], queue="other", sure="1")
    admin.post_form("/jobs/prioritize", "/jobs", id=["a"], priority="7", sure="1")
    admin.post_form("/jobs/reschedule", "/jobs", id=["b"], when="0")
    rows = connection.execute("SELECT task_id, queue, priority, state FROM pgjobs.jobs ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [
        ("a", "other", 7, "scheduled"),
        ("b", "other", 0, "available"),
    ]
    for path, fields in (
        ("/jobs/prioritize", {"priority": "999"}),
        ("/jobs/prioritize", {"priority": "x"}),
        ("/jobs/reschedule", {"when": "soon"}),
        ("/jobs/move", {"queue": "\x00"}),
        ("/jobs/move", {"queue": "x" * 3000}),
    ):
        refused = admin.post_form(path, "/jobs", id=["a"], sure="1", **fields)
        assert refused.status_code == 400
        assert 'role="alert"' in refused.text
    admin.post_form("/jobs/delete", "/jobs", id=["a"], sure="1")
    assert set(states(connection)) == {"b"}


def preview(admin: Any, path: str, text: str, **fields: Any) -> dict[str, str]:
    asked = admin.post_form(path, "/jobs", all="1", q=text, **fields)
    assert asked.status_code == 200, asked.text
    hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', asked.text)
    return {name: html.unescape(value) for name, value in hidden if name != "pgjobs_csrf"}


def test_all_that_match_are_counted_first(admin, database, connection):
    put(database, *(f"t{n}" for n in range(5)), queue="mail")
    put(database, "other")
    form = preview(admin, "/jobs/cancel", "queue:mail")
    assert (form["expected"], form["q"], form["all"]) == ("5", "queue:mail", "1")
    put(database, "late", queue="mail")
    done = admin.post_form("/jobs/cancel", "/jobs", **form)
    assert "5 jobs were cancelled" in done.text
    alive = {id for id, state in states(connection).items() if state == "available"}
    assert alive == {"other", "late"}
    (entry,) = connection.execute("SELECT actor, via, jobs FROM pgjobs.audit").fetchall()
    assert (entry["via"], entry["jobs"]) == ("web", 5)


def test_many_are_acted_on_in_an_operation_that_can_be_watched(
    admin, database, connection, monkeypatch
):
    monkeypatch.setattr(filtered, "BATCH", 3)
    monkeypatch.setattr(bulk, "AT_ONCE", 1)
    put(database, *(f"t{n}" for n in range(8)))
    form = preview(admin, "/jobs/move", "", queue="other")
    shown = admin.post_form("/jobs/move", "/jobs", **{**form, "queue": "other"})
    assert "operation" in str(shown.url), shown.text
    id = parse_qs(urlsplit(str(shown.url)).query)["id"][0]
    wait_for(lambda: Operations(database).look(id).operation.state == "ended")
    page = admin.get(f"/jobs/operation?id={id}")
    assert "Done: 8 moved." in page.text
    assert "refresh" not in page.headers
    assert connection.execute("SELECT DISTINCT queue FROM pgjobs.jobs").fetchall() == [
        {"queue": "other"}
    ]


def test_an_operation_that_fell_silent_is_gone_on_with(
    admin, viewer, database, connection, monkeypatch
):
    put(database, "a", "b")
    operation = Operations(database).begin("cancel", "", expected="2", actor="gone")
    page = admin.get(f"/jobs/operation?id={operation.id}")
    assert "no sign of life" in page.text
    refused = viewer.post_form("/jobs/operation/resume", id=operation.id)
    assert refused.status_code == 403
    admin.post_form("/jobs/operation/resume", id=operation.id)
    wait_for(lambda: Operations(database).look(operation.id).operation.state == "ended")
    assert set(states(connection).values()) == {"cancelled"}
    stopped = Operations(database).begin("retry", "")
    assert "Stopped." in admin.post_form("/jobs/operation/stop", id=stopped.id).text
    words = [(row.action, row.via, row.details) for row in audit(database) if not row.jobs]
    assert words == [
        ("stop_operation", "web", {"operation": stopped.id}),
        ("resume_operation", "web", {"operation": operation.id}),
    ]
    monkeypatch.setattr(operations_of, "KEPT", 1.0)
    assert admin.get("/jobs/operation?id=nothing").status_code == 400


def test_a_cancellation_is_taken_back_by_a_button(admin, database, connection, monkeypatch):
    monkeypatch.setattr(bulk, "AT_ONCE", 0)
    put(database, "a", "b")
    put(database, "c", eta=3600)
    form = preview(admin, "/jobs/cancel", "")
    shown = admin.post_form("/jobs/cancel", "/jobs", **form)
    id = parse_qs(urlsplit(str(shown.url)).query)["id"][0]
    wait_for(lambda: Operations(database).look(id).operation.state == "ended")
    assert set(states(connection).values()) == {"cancelled"}
    assert ">Undo</button>" in admin.get(f"/jobs/operation?id={id}").text
    shown = admin.post_form("/jobs/operation/undo", id=id)
    undoing = parse_qs(urlsplit(str(shown.url)).query)["id"][0]
    wait_for(lambda: Operations(database).look(undoing).operation.state == "ended")
    assert states(connection) == {"a": "available", "b": "available", "c": "scheduled"}
    assert "Done: 3 put in line again." in admin.get(f"/jobs/operation?id={undoing}").text


def test_an_operator_may_not_go_on_with_a_deletion(open_page, database, connection):
    put(database, "a")
    operation = Operations(database).begin("delete", "")
    operator = open_page(role="operator")
    refused = operator.post_form("/jobs/operation/resume", id=operation.id)
    assert refused.status_code == 400
    assert "this needs admin" in refused.text
    assert states(connection) == {"a": "available"}


def test_a_viewer_sees_the_actions_and_may_not_act(viewer, database, connection):
    put(database, "a")
    text = viewer.get("/jobs").text
    assert "this needs operator" in text
    for path in ("retry", "cancel", "delete", "reschedule", "prioritize", "move"):
        refused = viewer.post_form(f"/jobs/{path}", id="a", sure="1", queue="x", when="0")
        assert refused.status_code == 403, path
    assert states(connection) == {"a": "available"}


def test_an_operator_ends_what_runs_only_with_the_right_to(open_page, database):
    put(database, "a")
    operator = open_page(role="operator", permissions={"terminate_jobs": "admin"})
    refused = operator.post_form("/jobs/cancel", id="a", terminate="1")
    assert refused.status_code == 400
    assert "this needs admin" in refused.text


def test_ending_what_runs_is_gone_on_with_only_with_the_right_to(open_page, database, connection):
    put(database, "a")
    operation = Operations(database).begin("cancel", "", {"terminate": True})
    operator = open_page(role="operator", permissions={"terminate_jobs": "admin"})
    refused = operator.post_form("/jobs/operation/resume", id=operation.id)
    assert refused.status_code == 400
    assert "to end what runs: " in refused.text
    assert "this needs admin" in refused.text
    assert states(connection) == {"a": "available"}


def test_an_empty_database_says_what_to_do(viewer):
    assert "Nothing has been published yet." in viewer.get("/jobs").text
    assert "Not a job matches." in viewer.get("/jobs?q=queue:x").text


@pytest.fixture
def program(make_app):
    """A program with a task."""
    app = make_app()

    @app.task(name="mail.send", shared=False)
    def send(user_id, subject=""):
        return user_id

    return app


def test_a_job_is_published_by_hand(open_page, program, database, connection):
    admin = open_page(program, role="admin")
    assert "mail.send" in admin.get("/jobs/new?task=mail.send").text
    fields = {"task": "mail.send", "args": "[1180591620717411303424]", "when": "1h"}
    more = {"kwargs": '{"subject": "Hi"}', "queue": "mail", "priority": "5", "tags": "vip, EU"}
    shown = admin.post_form("/jobs/new", "/jobs/new", **fields, **more)
    assert "It was published." in shown.text
    (job,) = jobs_of(database)
    assert (job.task, job.args, job.kwargs) == ("mail.send", [2**70], {"subject": "Hi"})
    assert (job.queue, job.state, job.tags) == ("mail", "scheduled", ("vip", "eu"))
    assert connection.execute("SELECT action, actor FROM pgjobs.audit").fetchone() == {
        "action": "publish_jobs",
        "actor": "web visitor (admin)",
    }


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"task": "mail.sned"}, "did you mean"),
        ({"task": ""}, "needs a task"),
        ({"args": "[1"}, "args is not JSON"),
        ({"args": "{}"}, "args must be an array"),
        ({"kwargs": "[]"}, "kwargs must be an object"),
        ({"args": "[]"}, "does not take these arguments"),
        ({"kwargs": '{"x": 1}'}, "does not take these arguments"),
        ({"when": "soon"}, "is not a duration"),
        ({"priority": "256"}, "0 to 255"),
        ({"queue": "\x00"}, "NUL"),
        ({"tags": "x" * 300}, "255 characters"),
    ],
)
def test_what_cannot_be_published_is_refused(open_page, program, database, fields, complaint):
    admin = open_page(program, role="admin")
    given = {"task": "mail.send", "args": "[7]", **fields}
    refused = admin.post_form("/jobs/new", "/jobs/new", **given)
    assert refused.status_code == 400
    assert complaint in html.unescape(refused.text)
    assert list(jobs_of(database)) == []


def test_who_may_not_publish_cannot(open_page, program, admin, database):
    operator = open_page(program, role="operator")
    assert "disabled" in operator.get("/jobs/new").text
    assert operator.post_form("/jobs/new", task="mail.send", args="[1]").status_code == 403
    assert "celery -A proj pgjobs web" in admin.get("/jobs/new").text
    assert admin.post_form("/jobs/new", task="mail.send").status_code == 400
    assert list(jobs_of(database)) == []

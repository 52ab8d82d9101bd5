"""The page of a job: whatever stands in its row, nothing of it is HTML and no secret leaves."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from datetime import datetime
from html import unescape
from typing import Any

import pytest
from celery.bin.celery import celery
from click.testing import CliRunner

pytest.importorskip("starlette", reason="the extra web is not installed")

from celery import Celery, chain, chord

from pgjobs_celery.control.acting import acting_as
from pgjobs_celery.control.jobs import jobs
from pgjobs_celery.job.exceptions import LONGEST_DELAY
from pgjobs_celery.job.outcome import snoozed
from pgjobs_celery.job.rows import Bucket, Fence
from pgjobs_celery.job.steps import Kind, Memory, Wait
from pgjobs_celery.testing import drain_queue, testing
from pgjobs_celery.web import Redaction
from tests.db.test_matches import A
from tests.support.rows import alive, put, row, states

SCRIPT = "<script>alert('x')</script>"
BIG = 2**70


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()

    @app.task(name="shop.login", shared=False)
    def login(user: str, password: str = "", **more: Any) -> str:
        raise ValueError(f"{user} came with {password}")

    @app.task(name="shop.add", shared=False)
    def add(*numbers: Any, **more: Any) -> int:
        return sum(n if isinstance(n, int) else sum(n) for n in numbers)

    return app


def run(app: Celery) -> None:
    with testing(app, "real"):
        drain_queue(with_recursion=True, app=app)


def shown(page: Any) -> str:
    """The text of a page, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.text)).split())


def test_a_job_is_shown_with_its_arguments_result_and_timeline(app, open_page):
    id = app.tasks["shop.add"].delay(1, BIG).id
    run(app)
    page = open_page(app).get("/job", params={"id": id})
    text = shown(page)
    assert page.status_code == 200
    assert "shop.add completed" in text
    assert str(BIG) in text
    assert str(BIG + 1) in text
    assert "published" in text
    assert "attempt 1 began" in text
    assert "It has completed" in text or "completed" in text
    assert "perform_job(add, [1, 1180591620717411303424])" in text
    assert "<script>" not in page.text
    assert 'href="/queue?name=celery"' in page.text


def test_a_failure_leads_to_all_that_are_like_it(app, open_page):
    id = app.tasks["shop.login"].delay("ann").id
    run(app)
    browser = open_page(app)
    page = browser.get("/job", params={"id": id})
    link = re.search(r'href="([^"]*)">Failures like this one', page.text)
    assert link is not None
    assert id in browser.get(unescape(link[1])).text


def test_jobs_that_are_folded_lead_to_the_list_of_them(database, viewer):
    put(database, "a", root_id="a", task="spread")
    put(database, *(f"c{n}" for n in range(40)), root_id="a", parent_id="a", task="shop.add")
    page = viewer.get("/job", params={"id": "a"})
    assert "40 \N{MULTIPLICATION SIGN} shop.add" in shown(page)
    link = re.search(r'href="([^"]*)">\s*<g class="box job available', page.text)
    assert link is not None
    assert "40" in shown(viewer.get(unescape(link[1])))


def test_nothing_of_a_row_is_html(database, viewer, connection):
    put(
        database, f"id{SCRIPT}", task=f"t{SCRIPT}", queue=f"q{SCRIPT}", tags=(SCRIPT,),
        meta=json.dumps({SCRIPT: SCRIPT}), root_id=SCRIPT, group_id=SCRIPT,
        parent_id=f"'\"{SCRIPT}",
        body=json.dumps([[SCRIPT, {SCRIPT: SCRIPT}], {SCRIPT: [SCRIPT]}, {}]).encode(),
    )  # fmt: skip
    error = {"attempt": 1, "at": SCRIPT, "type": SCRIPT, "message": SCRIPT, "traceback": SCRIPT}
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'discarded', finished_at = now(), attempt = 1,"
        " attempted_at = now(), attempted_by = %s, reported_state = %s, result = %s,"
        " traceback = %s, errors = %s, cancel_reason = %s, superseded_by = %s",
        [SCRIPT, SCRIPT, json.dumps(SCRIPT).encode(), SCRIPT, json.dumps([error]), SCRIPT, SCRIPT],
    )
    with acting_as(SCRIPT):
        jobs(database).cancel(SCRIPT)
    page = viewer.get("/job", params={"id": f"id{SCRIPT}"})
    assert page.status_code == 200
    assert "alert(" in page.text
    # Each of them stands there as text.
    assert SCRIPT not in page.text
    assert re.findall(r"<script(?![^>]* src=)", page.text) == []
    assert viewer.get("/job", params={"id": SCRIPT}).status_code == 404
    assert SCRIPT not in viewer.get("/job", params={"id": SCRIPT}).text


def test_invisible_characters_can_be_seen(database, viewer):
    body = json.dumps([["a\x00b", "x\u202ey", "\ud800", "مرحبا 👩‍💻"], {}, {}]).encode()
    put(database, "x", body=body, task="t\u202etxt")
    page = viewer.get("/job", params={"id": "x"})
    text = shown(page)
    assert "a\\x00b" in text
    assert "x\\u202ey" in text
    assert "\\ud800" in text
    assert "t\\u202etxt" in text
    assert "مرحبا 👩‍💻" in text
    assert "\u202e" not in page.text


def test_a_pickle_is_never_run(database, viewer, tmp_path):
    class Bomb:
        def __reduce__(self) -> Any:
            return (tmp_path / "exploded").touch, ()

    data = pickle.dumps(((Bomb(),), {}, {}))
    message = json.dumps(
        {"content-type": "application/x-python-serialize", "content-encoding": "binary",
         "headers": {"argsrepr": "(<Bomb>,)", "kwargsrepr": "{}"}, "properties": {}}
    )  # fmt: skip
    put(database, "x", body=data, message=message)
    page = viewer.get("/job", params={"id": "x"})
    assert "only plain JSON is read" in shown(page)
    assert "(<Bomb>,)" not in shown(page), "nobody knows what is secret in it"
    assert viewer.get("/job/download", params={"id": "x", "part": "args"}).status_code == 404
    assert not (tmp_path / "exploded").exists()


def test_a_result_of_ten_megabytes_is_cut_and_can_be_downloaded(database, viewer, connection):
    put(database, "x")
    result = json.dumps(["y" * 1000] * 10_000 + [{"password": "hunter2-x"}]).encode()
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'completed', finished_at = now(), result = %s,"
        " result_type = 'application/json'",
        [result],
    )
    page = viewer.get("/job", params={"id": "x"})
    assert len(page.text) < 60_000
    assert "too large to be shown" in shown(page)
    full = viewer.get("/job/download", params={"id": "x", "part": "result"})
    assert full.headers["content-disposition"] == 'attachment; filename="result.json"'
    assert full.headers["x-content-type-options"] == "nosniff"
    assert full.headers["content-type"].startswith("application/json")
    assert full.json()[:10_000] == json.loads(result)[:10_000]
    assert full.json()[-1] == {"password": "[hidden]"}


def test_a_result_of_many_entries_is_cut_on_the_page(database, viewer, connection):
    put(database, "x")
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'completed', finished_at = now(), result = %s",
        [json.dumps([[n] * 50 for n in range(2000)]).encode()],
    )
    page = viewer.get("/job", params={"id": "x"})
    assert "1,900 more" in shown(page)
    assert len(page.text) < 150_000


def test_no_secret_leaves_the_server(app, open_page, database):
    login = app.tasks["shop.login"]
    secrets = ["hunter2-args", "hunter2-kwargs", "hunter2-meta", "hunter2-deep", "hunter2-url"]
    ids = [
        login.apply_async(("ann", secrets[0])).id,
        login.apply_async(("ann",), {"password": secrets[1], "a": [{"api_key": secrets[3]}]}).id,
        login.apply_async((f"redis://:{secrets[4]}@cache",), meta={"token": secrets[2]}).id,
    ]
    run(app)
    browser = open_page(app)
    for id in ids:
        parts = [("/job/download", {"part": part}) for part in ("args", "kwargs", "result")]
        for path, more in [("/job", {}), *parts]:
            page = browser.get(path, params={"id": id, **more})
            assert page.status_code == 200
            for secret in secrets:
                assert secret not in page.text, (path, more)
    jobs(database).filter(id=ids[2]).retry()
    for path in ("/jobs", "/jobs?col=error,meta,arguments", "/failures", "/"):
        page = browser.get(path)
        assert page.status_code == 200
        assert "shop.login" in page.text or path == "/"
        for secret in secrets:
            assert secret not in page.text, path
    problem = re.search(r'href="(/failures/problem[^"]*)"', browser.get("/failures").text)
    assert problem is not None
    page = browser.get(unescape(problem[1]))
    assert page.status_code == 200
    for secret in secrets:
        assert secret not in page.text
    page = shown(browser.get("/job", params={"id": ids[0]}))
    assert "ValueError: ann came with [hidden]" in page
    assert "user: ann" in page.replace("user ann", "user: ann")


def test_a_task_and_its_keys_are_hidden_as_configured(app, open_page):
    # So long that none stands in an id or a time by chance.
    id = app.tasks["shop.add"].delay(4711471147, 4712471247).id
    run(app)
    hidden = open_page(app, redaction=Redaction(tasks={"shop.*": True}))
    for path in ("/job", "/job/download"):
        page = hidden.get(path, params={"id": id, "part": "args"})
        assert page.status_code == 200
        assert "4711471147" not in page.text
        assert "9423942394" not in page.text


def test_the_representation_that_a_publisher_chose_is_shown_in_place_of_arguments(app, open_page):
    add = app.tasks["shop.add"]
    id = add.apply_async((4711471147,), argsrepr="(<a number>,)").id
    browser = open_page(app)
    page = browser.get("/job", params={"id": id})
    assert "(<a number>,)" in shown(page)
    assert "4711471147" not in page.text
    listed = browser.get("/jobs")
    assert "(<a number>,)" in shown(listed)
    assert "4711471147" not in listed.text
    full = browser.get("/job/download", params={"id": id, "part": "args"})
    assert full.text == "(<a number>,)"
    assert full.headers["content-type"].startswith("text/plain")


def test_a_short_secret_hides_the_representation_as_a_whole(app, open_page):
    add = app.tasks["shop.add"]
    id = add.apply_async((), {"pin": "12"}, kwargsrepr="{'pin': '12', 'more': 1}").id
    browser = open_page(app)
    for path in ("/job", "/jobs", "/job/download"):
        page = browser.get(path, params={"id": id, "part": "kwargs"})
        assert "'12'" not in unescape(page.text)


@pytest.mark.parametrize(
    "kwargs", [{"zz": 1, "a": [1.5, {"x": None}], "when": datetime(2026, 1, 2)}, {"é": "\n"}]
)
def test_the_list_knows_celerys_own_representation_of_any_order(app, open_page, kwargs):
    app.tasks["shop.add"].apply_async((1,), kwargs)
    page = open_page(app).get("/jobs")
    assert "datetime.datetime(" not in page.text
    assert f"{next(iter(kwargs))}=" in unescape(page.text)


@pytest.mark.parametrize("args", [(1, "a'b", {"x": [1, (2, 3)]}), ("y" * 3000,), ([],), ()])
def test_celerys_own_representation_is_not_taken_for_a_chosen_one(app, open_page, args):
    id = app.tasks["shop.add"].delay(*args).id
    assert "argsrepr" not in open_page(app).get("/job", params={"id": id}).text


def test_a_running_job_tells_how_far_it_is(database, viewer, connection):
    put(database, "x", meta='{"done": 30, "total": 120}')
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'executing', attempt = 1, attempted_at = now(),"
        " claimed_by = '00000000-0000-0000-0000-000000000001'"
    )
    page = viewer.get("/job", params={"id": "x"})
    assert 'value="0.2500"' in page.text
    assert "30 of 120" in shown(page)
    assert "data-live" in page.text
    connection.execute(
        "UPDATE pgjobs.jobs SET reported_state = 'PROGRESS', result = '{\"percent\": 80}'"
    )
    assert 'value="0.8000"' in viewer.get("/job", params={"id": "x"}).text


def test_the_canvas_is_drawn_and_listed(app, open_page):
    add = app.tasks["shop.add"]
    result = chord([add.s(n) for n in range(3)], add.s()).apply_async()
    page = open_page(app).get("/job", params={"id": result.parent.results[0].id})
    assert page.text.count('class="box job') == 3
    assert page.text.count('class="edge chord"') == 3
    assert "shop.add, not yet published" in shown(page)
    run(app)
    page = open_page(app).get("/job", params={"id": result.id})
    assert "4 jobs: 4 completed" in shown(page)


ACTIONS = [
    ("/job/retry", {}, "completed", "available", "retry x"),
    ("/job/cancel", {"reason": "why"}, "available", "cancelled", "cancel --reason why x"),
    ("/job/terminate", {}, "available", "cancelled", "cancel --terminate x"),
    ("/job/delete", {}, "completed", None, "delete x"),
    ("/job/reschedule", {"when": "0"}, "scheduled", "available", "reschedule --in 0 x"),
    ("/job/reschedule", {"when": "2h"}, "available", "scheduled", "reschedule --in 2h x"),
    (
        "/job/reschedule",
        {"when": "2099-01-31T06:00+01:00"},
        "available",
        "scheduled",
        "--at 2099-01",
    ),
    ("/job/prioritize", {"priority": "7"}, "available", "available", "prioritize --to 7 x"),
    ("/job/move", {"queue": "other"}, "available", "available", "move --to other x"),
]


@pytest.mark.parametrize(("path", "fields", "before", "after", "cli"), ACTIONS)
def test_each_action_does_it_and_says_what_equals_it(
    database, connection, admin, path, fields, before, after, cli
):
    put(database, "x", eta=3600 if before == "scheduled" else None)
    if before == "completed":
        connection.execute(
            "UPDATE pgjobs.jobs SET state = 'completed', finished_at = now(), attempt = 1"
        )
    page = admin.post_form(path, page="/job?id=x", id="x", **fields)
    assert states(connection).get("x") == after
    assert cli in shown(page)
    assert "1 job was" in shown(page)
    (entry,) = database.audit.list_actions(limit=10)
    assert (entry.via, entry.actor) == ("web", "web visitor (admin)")


def test_what_an_action_was_given_is_kept(database, connection, admin):
    put(database, "x")
    admin.post_form("/job/move", id="x", queue="other")
    admin.post_form("/job/prioritize", id="x", priority="7")
    assert row(connection, "x")["queue"] == "other"
    assert row(connection, "x")["priority"] == 7


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/job/retry", {}),
        ("/job/prioritize", {"id": "x", "priority": "-1"}),
        ("/job/prioritize", {"id": "x", "priority": "9" * 5000}),
        ("/job/reschedule", {"id": "x", "when": "soon"}),
        ("/job/move", {"id": "x", "queue": ""}),
        ("/job/cancel", {"id": "x", "reason": "a\x00b"}),
        ("/job/cancel", {"id": "x", "canvas": "1"}),
    ],
)
def test_a_form_that_cannot_be_meant_is_refused_in_words(database, connection, admin, path, fields):
    put(database, "x")
    page = admin.post_form(path, **fields)
    assert page.status_code == 400
    assert "This cannot be done" in shown(page)
    assert states(connection) == {"x": "available"}


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
@pytest.mark.parametrize("path", sorted({path for path, *_ in ACTIONS}))
def test_each_role_may_do_what_it_may_by_raw_requests(database, connection, open_page, role, path):
    put(database, "x")
    needed = "admin" if path == "/job/delete" else "operator"
    is_allowed = ["viewer", "operator", "admin"].index(role) >= [
        "viewer",
        "operator",
        "admin",
    ].index(needed)
    browser = open_page(role=role)
    page = browser.post_form(path, id="x", when="1h", priority="3", queue="other")
    assert (page.status_code == 403) != is_allowed
    if not is_allowed:
        assert f"this needs {needed}" in shown(page)
        assert states(connection) == {"x": "available"}
        assert row(connection, "x")["queue"] == "celery"


def test_a_request_without_a_token_changes_nothing(database, connection, admin):
    put(database, "x")
    admin.get("/")
    assert admin.post("/job/delete", data={"id": "x"}).status_code == 403
    assert states(connection) == {"x": "available"}


def test_all_of_a_canvas_is_cancelled_and_what_failed_is_retried(app, open_page, connection):
    add = app.tasks["shop.add"]
    result = chain(app.tasks["shop.login"].si("ann"), add.si(1)).apply_async()
    other = add.delay(1).id
    run(app)
    id = result.parent.id
    browser = open_page(app, role="operator")
    page = browser.post_form("/job/retry", page=f"/job?id={id}", id=id, canvas="1")
    assert f"retry --state discarded --root {id}" in shown(page)
    assert states(connection)[id] == "available"
    assert states(connection)[other] == "completed"
    browser.post_form("/job/cancel", id=id, canvas="1")
    assert states(connection)[id] == "cancelled"


def test_a_job_that_was_deleted_says_by_whom(database, viewer):
    put(database, "x")
    with acting_as("alice@example.com"):
        jobs(database).filter(id="x").delete()
    page = viewer.get("/job", params={"id": "x"})
    assert page.status_code == 404
    assert "It was deleted by alice@example.com" in shown(page)


def test_a_job_that_is_not_there_says_how_long_jobs_are_kept(app, open_page):
    page = open_page(app).get("/job", params={"id": "nobody"})
    assert page.status_code == 404
    assert "No row has this id" in shown(page)
    assert "This app keeps completed and cancelled jobs for 24 h" in shown(page)
    assert open_page(app).get("/job").status_code == 404


def test_others_of_its_task_are_shown_beside_it(app, open_page):
    login, add = app.tasks["shop.login"], app.tasks["shop.add"]
    ids = [login.delay("ann", "x1").id, login.delay("ann", "x1").id, login.delay("bob").id]
    other = add.delay(1).id
    run(app)
    page = open_page(app).get("/job", params={"id": ids[0]})
    assert "3 runs, 3 failed" in shown(page)
    alike = page.text.split("Jobs like this one")[1]
    assert ids[1] in alike
    assert "same error, same arguments" in alike
    assert ids[2] not in alike
    assert other not in alike


@pytest.mark.parametrize(
    "id", ["{x}", "{0.__class__}", "%s", "-rf", "a b'c", "\u202e", "é/../x?y#z"]
)
def test_an_id_of_any_kind_has_a_page(database, admin, connection, id):
    put(database, id)
    page = admin.get("/job", params={"id": id})
    assert page.status_code == 200
    assert "__class__'" not in page.text
    admin.post_form("/job/cancel", id=id)
    assert states(connection) == {id: "cancelled"}
    assert admin.get("/job", params={"id": id}).status_code == 200


def test_a_row_of_any_kind_has_a_page(database, viewer, connection):
    """Written by hand, by an older release, by another program."""
    for column, value in [
        ("errors", '\'[1, null, {"attempt": "x", "at": 3}, {"traceback": 7}]\'::jsonb'),
        ("meta", "'[1]'::jsonb"),
        ("message", "'{}'"),
        ("message", "NULL"),
        ("body", "NULL"),
        ("body", "'{}'"),
        ("body", "'[1, 2]'"),
        ("result", "''"),
        ("inserted_at", "'infinity'"),
        ("scheduled_at", "'-infinity'"),
        ("root_id", "NULL"),
        ("max_attempts", "2147483647"),
        ("task", "''"),
    ]:
        connection.execute("DELETE FROM pgjobs.jobs")
        put(database, "x")
        connection.execute(f"UPDATE pgjobs.jobs SET {column} = {value}")
        assert viewer.get("/job", params={"id": "x"}).status_code == 200, (column, value)


def waiting_job(database: Any, delay: float = 3600.0) -> None:
    """A job that has done steps, and waits for a signal."""
    put(database, "a", body=json.dumps([["ann"], {"password": "hunter2-word"}, {}]).encode())
    alive(database, A)
    (claim,), _ = database.claims.claim_jobs(A, "n", [Bucket("celery")], 1)
    fence = Fence(A, claim.attempt)
    steps = {
        "charge": {"id": 7, "api_key": "sk-123456"},
        "token": "tok-abcdef",
        "tell": "it was hunter2-word",
        SCRIPT: SCRIPT,
    }
    for name, value in steps.items():
        memory = Memory(Kind.STEP, json.dumps(value).encode(), "application/json")
        assert database.steps.record_step(claim.id, fence, name, memory)
    database.steps.pass_wait(claim.id, fence, Wait(SCRIPT, SCRIPT, "order-7"))
    database.claims.settle_jobs(A, [snoozed(claim, delay)])


def test_a_wait_without_a_timeout_is_not_due_in_a_hundred_years(database, viewer, url):
    waiting_job(database, LONGEST_DELAY)
    page = shown(viewer.get("/job", params={"id": "a"}))
    assert "It has waited" in page
    assert "and has no timeout" in page
    listed = shown(viewer.get("/jobs", params={"col": ["when", "due"]}))
    assert "waits, no timeout" in listed
    printed = CliRunner().invoke(celery, ["pgjobs", "show", "--url", url, "a"]).output
    assert re.search("scheduled_at +no timeout", printed)
    for text in (page, listed, printed):
        assert not re.search(r"36,?\d\d\d d|21\d\d-", text), text


def test_steps_are_listed_with_their_values_and_no_secret(database, viewer):
    waiting_job(database)
    page = viewer.get("/job", params={"id": "a"})
    text = shown(page)
    assert "It waits for signal" in text  # the explanation
    assert "It has waited" in text
    assert '"charge"' in text or "charge step" in text
    assert "7" in text
    for secret in ("sk-123456", "tok-abcdef", "hunter2-word"):
        assert secret not in page.text
    assert SCRIPT not in page.text
    assert SCRIPT in text


def test_a_signal_is_sent_by_who_may_and_recorded(database, open_page):
    waiting_job(database)
    viewer, operator = open_page(), open_page(role="operator")
    fields = {"id": "a", "name": "approved", "payload": '{"by": "ann"}'}
    assert viewer.post_form("/job/signal", **fields).status_code == 403
    page = operator.post_form("/job/signal", page="/job?id=a", **fields)
    assert "Signal approved was sent." in shown(page)
    assert "celery -A proj pgjobs signal --payload" in shown(page)
    assert "signals were sent to jobs: approved" in shown(page)
    wrong = operator.post_form("/job/signal", page="/job?id=a", **{**fields, "payload": "{by: x}"})
    assert "No signal was sent: its payload is not JSON." in shown(wrong)
    again = operator.post_form("/job/signal", page="/job?id=a", **fields, first="1")
    assert "A signal approved was sent before." in shown(again)
    (entry,) = database.audit.list_actions(limit=9)
    assert (entry.action, entry.via, entry.task_ids) == ("signal_job", "web", ["a"])

"""Jobs whose arguments the page does not read, and rows that tell of a secret in odd places."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from html import unescape
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra web is not installed")

from pgjobs_celery import schedules
from pgjobs_celery.web import Redaction
from pgjobs_celery.web.job_view import BLIND, without_secrets
from tests.support.rows import put

SECRET = "hunter2-unread"
GIVEN = [["ann"], {"password": SECRET}, {}]
#: Body and type: a pickle, JSON that is too long for any page, and what Celery never wrote.
BODIES = [
    (pickle.dumps(GIVEN), "application/x-python-serialize"),
    (json.dumps([["y" * 2**21], *GIVEN[1:]]).encode(), "application/json"),
    (json.dumps(GIVEN[1]).encode(), "application/json"),
]


def fail(connection: Any, body: bytes, content_type: str) -> None:
    """Have all jobs fail with an error that tells the secret they were given."""
    message = {
        "content-type": content_type,
        "headers": {"argsrepr": "('ann',)", "kwargsrepr": repr(GIVEN[1])},
        "properties": {},
    }
    traceback = (
        f'Traceback (most recent call last):\n  File "a.py", line 1\n    x\nValueError: {SECRET}'
    )
    error = {
        "attempt": 1, "at": "2026-01-01T00:00:00+00:00", "type": "ValueError",
        "message": f"ann came with {SECRET}", "traceback": traceback, "frame": "a.py:1",
        "fingerprint": "ValueError-1",
    }  # fmt: skip
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'discarded', finished_at = now(), attempt = 1,"
        " attempted_at = now(), message = %s, body = %s, errors = %s, traceback = %s,"
        " result = %s, result_type = 'application/json'",
        [
            json.dumps(message), body, json.dumps([error]), traceback,
            json.dumps({"exc_type": "ValueError", "exc_message": [f"with {SECRET}"]}).encode(),
        ],
    )  # fmt: skip


@pytest.mark.parametrize(("body", "content_type"), BODIES, ids=["pickle", "large", "odd"])
def test_what_was_not_read_is_told_by_no_text(viewer, database, connection, body, content_type):
    put(database, "x")
    fail(connection, body, content_type)
    page = viewer.get("/job?id=x").text
    assert "not shown: the arguments were not read" in page
    assert "a.py" in page, "the places of the traceback"
    assert "ValueError" in page
    listed = viewer.get("/jobs?col=error,arguments").text
    assert "ValueError: [not shown" in listed
    failures = viewer.get("/failures").text
    problem = re.search(r'href="(/failures/problem[^"]*)"', failures)
    assert problem is not None
    result = viewer.get("/job/download?id=x&part=result")
    assert "[hidden]" in result.text
    overview, of_problem = viewer.get("/").text, viewer.get(unescape(problem[1])).text
    for text in (page, listed, failures, overview, of_problem, result.text):
        assert SECRET not in text


def test_why_a_job_waits_is_told_whatever_it_was_given(viewer, database, connection):
    put(database, "x", body=pickle.dumps(GIVEN), eta=3600)
    page = viewer.get("/job?id=x").text
    assert 'class="explained' in page
    assert "not shown" not in page


def test_the_last_error_of_an_entry_tells_nothing_that_was_not_read(
    make_app: Callable[..., Any], open_page, connection
):
    app = make_app("shop")

    @app.task(name="shop.report", shared=False)
    def report(**kwargs: object) -> None: ...

    control = schedules(app)
    control.put("nightly", "shop.report", 3600, kwargs={"k": 1})
    connection.execute("UPDATE pgjobs.schedules SET last_task_id = %s", [control.run("nightly").id])
    browser = open_page(app, role="admin")
    fail(connection, json.dumps(GIVEN).encode(), "application/json")
    page = browser.get("/schedule?name=nightly").text
    assert "ValueError: ann came with [hidden]" in page
    fail(connection, *BODIES[0])
    page = browser.get("/schedule?name=nightly").text
    assert "not shown: the arguments were not read" in page
    assert SECRET not in page


def test_secrets_of_meta_and_result_are_hidden_in_arguments_and_in_the_type_of_an_error(
    viewer, database, connection
):
    put(
        database, "x", meta=json.dumps({"token": "sesame-meta"}),
        body=json.dumps([["to sesame-meta", "to sesame-result"], {}, {}]).encode(),
    )  # fmt: skip
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'discarded', finished_at = now(), attempt = 1, errors = %s,"
        " result = %s, result_type = 'application/json'",
        [
            json.dumps([{"attempt": 1, "type": "sesame-meta", "message": "m"}]),
            b'{"token": "sesame-result"}',
        ],
    )
    for path in ("/job?id=x", "/jobs?col=arguments,error"):
        text = viewer.get(path).text
        assert "sesame-meta" not in text, path
    assert "sesame-result" not in viewer.get("/job?id=x").text


def test_meta_that_is_nested_deeper_than_python_goes_has_a_page(viewer, database, connection):
    put(database, "x")
    meta = '{"a":' * 900 + '"sesame"' + "}" * 900
    connection.execute("UPDATE pgjobs.jobs SET meta = %s", [meta])
    for path in ("/job?id=x", "/jobs?col=meta"):
        page = viewer.get(path)
        assert page.status_code == 200, path
        assert "sesame" not in page.text


def test_a_text_about_a_job_that_was_deleted_since_is_not_shown(database):
    visit: Any = SimpleNamespace(
        source=SimpleNamespace(database=database, app=None),
        site=SimpleNamespace(redaction=Redaction()),
    )
    told = ("gone", "shop.login", f"ann came with {SECRET}")
    assert without_secrets(visit, [told]) == {told: BLIND}

"""The admin page of jobs, as a browser asks for it."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from celery import Celery

from pgjobs_celery import acting_as, audit, jobs, queues
from pgjobs_celery.db.database import Database

from ..conftest import Connection
from ..support.rows import states

pytest.importorskip("django")

LIST = "/admin/pgjobs/job/"


NAMES = (
    "queue", "task", "state", "q", "p", "o", "e", "all", "_facets", "id", "id__in", "task_id",
    "task__exact", "queue__in", "tags", "inserted_at__gte", "_popup", "_to_field", "x",
)  # fmt: skip


@pytest.mark.parametrize("value", ["\0", "a\0b", "\ud800", "9" * 40, "-1", "'", "%", "\x1b", ""])
def test_no_parameter_is_an_error_of_the_server(admin: Any, value: str):
    for name in NAMES:
        query = urlencode({name: value}, errors="surrogatepass")
        page = admin.get(f"{LIST}?{query}", raise_request_exception=False)
        assert page.status_code < 500, query
    query = urlencode({f"queue{value}": "x"}, errors="surrogatepass")
    assert admin.get(f"{LIST}?{query}", raise_request_exception=False).status_code < 500
    for page in ("change", "history", "delete"):
        path = f"{LIST}{quote(value, errors='surrogatepass', safe='') or '0'}/{page}/"
        assert admin.get(path, raise_request_exception=False).status_code < 500, path


def ids(page: Any) -> list[str]:
    """The jobs that a page lists, by their task ids."""
    return [job.task_id for job in page.context["cl"].result_list]


def act(client: Any, action: str, chosen: list[Any], *, query: str = "", **values: str) -> Any:
    """Choose jobs of the list and an action, confirm it; the page that follows."""
    from pgjobs_celery.django.models import Job

    keys = [str(Job.objects.get(task_id=result.id).pk) for result in chosen]
    form = {"action": action, "_selected_action": keys, "confirmed": "yes", **values}
    return client.post(LIST + query, form, follow=True)


def messages(page: Any) -> list[str]:
    """What the page says on top."""
    return [str(message) for message in page.context["messages"]]


def test_the_list_shows_jobs_newest_first_and_narrows_them(app: Celery, admin: Any):
    first = app.tasks["add"].delay(1, 1)
    second = app.tasks["once"].apply_async((7,), queue="mail", countdown=60)
    third = app.tasks["add"].delay(3, 3)
    jobs(app).filter(id=third).cancel("not needed")
    for query, expected in {
        "": [third, second, first],
        "?state=cancelled": [third],
        "?state=available": [first],
        "?state=scheduled": [second],
        "?task=add": [third, first],
        "?queue=mail": [second],
        "?queue=celery&state=available": [first],
        f"?q={second.id}": [second],
        "?q=ADD": [third, first],
        "?q=mail": [second],
        "?q=mail+add": [],
        "?q=%25": [],
        "?state=nonsense": [third, second, first],
    }.items():
        page = admin.get(LIST + query)
        assert ids(page) == [result.id for result in expected], query
    text = admin.get(LIST).content.decode()
    assert "?task=once" in text
    assert "?queue=mail" in text
    assert 'href="/admin/pgjobs/job/add/"' not in text


def test_a_wait_without_a_timeout_is_shown_as_such(app: Celery, admin: Any, connection: Connection):
    from pgjobs_celery.django.models import Job

    app.tasks["add"].apply_async((1, 1), countdown=60)
    connection.execute(
        "UPDATE pgjobs.jobs SET due_at = now() + interval '100 years',"
        " scheduled_at = now() + interval '100 years'"
    )
    for address in (LIST, f"{LIST}{Job.objects.get().pk}/change/"):
        text = admin.get(address).content.decode()
        assert "no timeout" in text
        assert str(datetime.now(timezone.utc).year + 100) not in text


def test_one_job_is_shown_with_what_it_was_called_with_and_why_it_failed(
    app: Celery, admin: Any, connection: Connection
):
    from pgjobs_celery.django.models import Job

    result = app.tasks["once"].apply_async((), {"user_id": 7}, meta={"a": "<b>"})
    app.backend.store_result(result.id, ValueError("no <i>luck</i>"), "FAILURE", "Traceback: ...")
    page = admin.get(f"{LIST}{Job.objects.get().pk}/change/")
    text = page.content.decode()
    for part in ("user_id=7", "&lt;b&gt;", "ValueError: no &lt;i&gt;luck", "discarded", "mail"):
        assert part in text, part
    assert "Traceback: ..." in text
    assert not re.search(r'<input type="submit"[^>]*name="_save', text)
    assert admin.post(f"{LIST}{Job.objects.get().pk}/change/", {"task": "x"}).status_code == 403
    # What is not JSON, and what is not there.
    app.tasks["add"].apply_async((1, 1), serializer="pickle")
    text = admin.get(f"{LIST}{Job.objects.latest().pk}/change/").content.decode()
    assert "not plain JSON" in text
    for key in ("0", "x", "9" * 30):
        assert admin.get(f"{LIST}{key}/change/", follow=True).redirect_chain[-1][0] == "/admin/"


def test_actions_say_how_many_they_changed_and_left(
    app: Celery, admin: Any, connection: Connection
):
    waiting = [app.tasks["add"].delay(n, n) for n in range(3)]
    done = app.tasks["add"].delay(4, 4)
    app.backend.mark_as_done(done.id, 8)
    page = act(admin, "cancel_jobs", [*waiting, done], reason="not needed")
    assert messages(page) == [
        "3 jobs cancelled, or told to stop",
        "1 job left alone: to cancel is for those that are available, executing, retryable or "
        "scheduled",
    ]
    assert {job.cancel_reason for job in jobs(app).filter(state="cancelled")} <= {
        None,
        "not needed",
    }
    assert "not needed" in jobs(app).get(waiting[0]).errors[0]["message"]
    assert messages(act(admin, "retry_jobs", waiting[:2])) == ["2 jobs to run again"]
    assert messages(act(admin, "delete_jobs", [done])) == ["1 job deleted"]
    assert states(connection) == {
        waiting[0].id: "available", waiting[1].id: "available", waiting[2].id: "cancelled",
    }  # fmt: skip


def test_cancel_and_delete_ask_first(app: Celery, admin: Any, connection: Connection):
    from pgjobs_celery.django.models import Job

    result = app.tasks["add"].delay(1, 1)
    form = {"action": "delete_jobs", "_selected_action": [str(Job.objects.get().pk)]}
    page = admin.post(LIST, form)
    assert "Delete 1 job?" in page.content.decode()
    assert states(connection) == {result.id: "available"}
    asked = dict(re.findall(r'<input type="hidden" name="(\w+)" value="(\w+)">', str(page.content)))
    assert messages(admin.post(LIST, asked, follow=True)) == ["1 job deleted"]
    assert states(connection) == {}


def test_all_that_a_filter_finds_can_be_chosen(app: Celery, admin: Any, connection: Connection):
    add = [app.tasks["add"].delay(n, n) for n in range(3)]
    once = app.tasks["once"].delay(7)
    page = act(admin, "cancel_jobs", add[:1], query="?task=add", select_across="1")
    assert messages(page) == ["3 jobs cancelled, or told to stop"]
    assert states(connection)[once.id] == "available"


def test_permissions_say_who_may_do_what(app: Celery, sign_in: Any, connection: Connection):
    from django.contrib.auth.models import User

    result = app.tasks["add"].delay(1, 1)
    allowed = {
        ("view_job",): [],
        ("view_job", "change_job"): ["retry_jobs", "cancel_jobs"],
        ("delete_job",): None,  # may not even look
        ("view_job", "delete_job"): ["delete_jobs"],
    }
    for permissions, expected in allowed.items():
        client = sign_in(*permissions)
        page = client.get(LIST)
        if expected is None:
            assert page.status_code == 403
        else:
            form = page.context["action_form"]
            offered = [name for name, _ in form.fields["action"].choices] if form else [""]
            assert offered == ["", *expected], permissions
            for name in {"retry_jobs", "cancel_jobs", "delete_jobs"} - set(expected):
                act(client, name, [result])
            assert states(connection) == {result.id: "available"}
        User.objects.all().delete()


def test_a_large_table_is_not_counted(
    app: Celery, admin: Any, database: Database, connection: Connection
):
    from django.db import connection as django
    from django.test.utils import CaptureQueriesContext

    from pgjobs_celery.django.filters import MOST

    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, message, body) "
        "SELECT 'job ' || n, 'add', 'celery', '{}', '[[], {}, {}]' "
        "FROM generate_series(1, %s) AS n",
        (MOST + 500,),
    )
    with CaptureQueriesContext(django) as queries:
        page = admin.get(LIST)
    assert page.context["cl"].result_count == MOST
    assert len(ids(page)) == 100
    reading = [query["sql"] for query in queries if '"pgjobs"."jobs"' in query["sql"]]
    assert len(reading) >= 3
    for sql in reading:
        assert "LIMIT" in sql, sql
        assert '"body"' not in sql, sql
        plan = connection.execute(f"EXPLAIN {sql}").fetchall()
        assert any("Limit" in line["QUERY PLAN"] for line in plan)
    assert ids(admin.get(f"{LIST}?p=100"))[-1] == "job 501"


# The audit

AUDIT = "/admin/pgjobs/action/"
EVIL = "O'Brien <b>\x1b]0;x\x07\N{RIGHT-TO-LEFT OVERRIDE}nimda"


def test_the_user_of_the_request_is_recorded_once_for_all_that_was_chosen(app: Celery, admin: Any):
    results = [app.tasks["add"].delay(n, n) for n in range(3)]
    act(admin, "cancel_jobs", results, reason="a mistake")
    [entry] = audit(app).list()
    assert (entry.actor, entry.via, entry.action, entry.jobs) == ("ada", "admin", "cancel_jobs", 3)
    assert entry.details == {"reason": "a mistake"}
    with acting_as("the middleware's user"):
        act(admin, "retry_jobs", results)
        act(admin, "delete_jobs", results[:1])
    assert [entry.actor for entry in audit(app).list()[:2]] == ["the middleware's user"] * 2
    assert [entry.jobs for entry in audit(app).list()[:2]] == [1, 3]


def test_the_audit_is_a_page_that_changes_nothing(app: Celery, admin: Any, sign_in: Any):
    with acting_as(EVIL):
        queues(app).pause("mail")
        queues(app).resume("mail")
    page = admin.get(AUDIT)
    text = page.content.decode()
    assert [row.action for row in page.context["cl"].result_list] == ["resume_queue", "pause_queue"]
    assert "O&#x27;Brien &lt;b&gt;" in text
    assert not {"\x1b", "\x07", "\N{RIGHT-TO-LEFT OVERRIDE}"} & {*text}
    assert page.context["has_add_permission"] is False
    only = admin.get(f"{AUDIT}?action=pause_queue&q=mail").context["cl"].result_list
    assert [row.action for row in only] == ["pause_queue"]
    assert len(admin.get(f"{AUDIT}?q=nobody").context["cl"].result_list) == 0
    key = only[0].pk
    assert admin.get(f"{AUDIT}{key}/change/").status_code == 200
    assert admin.post(f"{AUDIT}{key}/delete/", {"post": "yes"}).status_code == 403
    assert admin.post(f"{AUDIT}{key}/change/", {"actor": "bob"}).status_code == 403
    assert len(audit(app).list()) == 2


def test_who_may_not_view_the_audit_does_not_see_it(app: Celery, sign_in: Any):
    assert sign_in("view_job").get(AUDIT).status_code == 403


def test_no_parameter_of_the_audit_is_an_error_of_the_server(admin: Any):
    for value in ("\0", "a\0b", "9" * 40, "'", "%", "\x1b"):
        for name in ("q", "action", "actor", "p", "o", "details__x", "task_ids"):
            query = urlencode({name: value})
            page = admin.get(f"{AUDIT}?{query}", raise_request_exception=False)
            assert page.status_code < 500, query
        path = f"{AUDIT}{quote(value, safe='')}/change/"
        assert admin.get(path, raise_request_exception=False).status_code < 500

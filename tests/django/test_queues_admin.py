"""The admin pages of queues, rates, limits and pauses, as a browser asks for them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import pytest
from celery import Celery

from pgjobs_celery import audit, flows, queues
from pgjobs_celery.control.app import database_of

pytest.importorskip("django")

QUEUES, RULES, PAUSES = (f"/admin/pgjobs/{name}/" for name in ("queue", "rule", "pause"))
MAIL = f"{QUEUES}mail/change/"


@pytest.fixture
def mail(app: Celery) -> Celery:
    """An app with a job in the queue mail."""
    app.tasks["add"].apply_async((1, 1), queue="mail")
    return app


def messages(page: Any) -> list[str]:
    """What the page says on top."""
    return [str(message) for message in page.context["messages"]]


def form_of(page: Any, **changes: Any) -> dict[str, Any]:
    """The values of a form as a browser would send them, and some others."""
    form = page.context["adminform"].form
    values = {name: form.get_initial_for_field(form.fields[name], name) for name in form.fields}
    return {name: "" if value is None else value for name, value in {**values, **changes}.items()}


def change(admin: Any, path: str, **changes: Any) -> Any:
    """Fill in the form of a page, and send it; the page that follows."""
    return admin.post(path, form_of(admin.get(path), **changes), follow=True)


def errors(page: Any) -> dict[str, list[str]]:
    """What stands beside the fields of a form."""
    return {name: list(each) for name, each in page.context["adminform"].form.errors.items()}


def actions(app: Celery) -> list[tuple[str, str, str]]:
    """The audit, oldest first."""
    return [(each.action, each.actor, each.via) for each in reversed(audit(app).list())]


def act(admin: Any, path: str, action: str, *chosen: str, **values: str) -> Any:
    """Choose rows of a list and an action, confirm it; the page that follows."""
    form = {"action": action, "_selected_action": chosen, "confirmed": "yes", **values}
    return admin.post(path, form, follow=True)


def test_queues_are_listed_with_their_rules(mail: Celery, admin: Any):
    queue = queues(mail)["mail"]
    queue.rate("100/m", by="tenant_id")
    queue.concurrency(5)
    queue.fair("kwargs.tenant_id")
    queue.max_depth(10_000)
    queues(mail).pause("<b>", until=3600)
    page = admin.get(QUEUES)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.content.decode()))
    assert "mail runs 1 0 0 5 100/m for each kwargs.tenant_id kwargs.tenant_id 10,000" in text
    assert re.search(r"&lt;b&gt; paused until .* 0 0 0 - - - -", text)
    assert [row.pk for row in page.context["cl"].result_list] == ["<b>", "mail"]
    narrowed = admin.get(f"{QUEUES}?q=MA")
    assert [row.pk for row in narrowed.context["cl"].result_list] == ["mail"]


def test_queues_are_paused_until_a_time_and_resumed(mail: Celery, admin: Any):
    asked = admin.post(QUEUES, {"action": "pause_queues", "_selected_action": ["mail"]})
    assert "Pause mail?" in asked.content.decode()
    assert not queues(mail).get("mail").is_paused
    page = act(admin, QUEUES, "pause_queues", "mail", until="2h")
    assert messages(page) == ["1 queue paused."]
    end = queues(mail).get("mail").paused_until
    assert end is not None
    assert timedelta(minutes=119) < end - datetime.now(timezone.utc) < timedelta(minutes=121)
    act(admin, QUEUES, "pause_queues", "mail", until="2199-01-31 06:00")
    end = queues(mail).get("mail").paused_until
    assert end is not None
    assert end.year == 2199
    page = act(admin, QUEUES, "pause_queues", "mail", until="soon")
    assert "'soon' is neither a duration" in messages(page)[0]
    page = act(admin, QUEUES, "resume_queues", "mail")
    assert messages(page) == ["1 queue resumed."]
    assert messages(act(admin, QUEUES, "resume_queues", "mail")) == [
        "0 queues resumed.",
        "1 queue not paused.",
    ]
    assert ("pause_queue", "ada", "admin") in actions(mail)
    assert actions(mail)[-1] == ("resume_queue", "ada", "admin")


def test_the_form_of_a_queue_sets_and_clears_its_rules(mail: Celery, admin: Any):
    changes: dict[str, Any] = {
        "limit": 5, "rate": "100/m", "rate_by": "tenant_id", "burst": 20, "each": 1,
        "each_by": "kwargs.customer", "fair": "tenant_id", "ageing": 60, "key": "7", "weight": 3,
        "max_depth": 10, "on_full": "wait", "wait": 2,
    }  # fmt: skip
    page = change(admin, MAIL, **changes)
    assert "was changed successfully" in messages(page)[0]
    rules = queues(mail).get("mail")
    assert (rules.concurrency, rules.fair_by, rules.ageing) == (5, "kwargs.tenant_id", 60.0)
    assert (rules.max_depth, rules.on_full, rules.full_wait) == (10, "wait", 2.0)
    rate, each = flows(mail).get("rate/queue/mail"), flows(mail).get("running/queue/mail")
    assert rate is not None
    assert each is not None
    assert (rate.limit, rate.by, rate.burst) == ("100/m", "kwargs.tenant_id", 20)
    assert (each.limit, each.by) == (1, "kwargs.customer")
    assert queues(mail)["mail"].weights() == {"7": 3.0}
    shown = admin.get(MAIL)
    assert "7: 3" in shown.content.decode()
    assert "rate/queue/mail (100/m of each kwargs.tenant_id)" in shown.content.decode()
    done = actions(mail)
    assert {(actor, via) for _, actor, via in done} == {("ada", "admin")}
    # Nothing was changed: nothing is done.
    change(admin, MAIL)
    assert actions(mail) == done
    change(admin, MAIL, **{**dict.fromkeys(changes, ""), "on_full": "raise"})
    rules = queues(mail).get("mail")
    assert (rules.concurrency, rules.fair_by, rules.max_depth) == (None, None, None)
    assert flows(mail).get("rate/queue/mail") is None
    assert flows(mail).get("running/queue/mail") is None


def test_a_rate_of_the_code_is_cleared_by_hand(mail: Celery, admin: Any):
    from pgjobs_celery.job.flow import Rate, rate_flow

    database_of(mail).flow.register_flows([rate_flow(Rate("5/s"), "queue", "mail")], (), {})
    change(admin, MAIL, rate="")
    rule = flows(mail).get("rate/queue/mail")
    assert rule is not None
    assert (rule.limit, rule.source) == (None, "hand")
    page = act(admin, QUEUES, "reset_queues", "mail")
    assert messages(page) == ["1 queue reset."]
    rule = flows(mail).get("rate/queue/mail")
    assert rule is not None
    assert (rule.limit, rule.source) == ("5/s", "code")


@pytest.mark.parametrize(
    ("changes", "field", "complaint"),
    [
        ({"rate": "fast"}, "rate", "a rate is written"),
        ({"rate": "1/s", "rate_by": "a b"}, "rate", "is written"),
        ({"burst": 3}, "rate", "needs a rate"),
        ({"each_by": "x"}, "each", "needs a number"),
        ({"fair": "a b"}, "fair", "is written"),
        ({"ageing": 5}, "ageing", "serves keys in turn"),
        ({"weight": 5}, "key", "that of a key"),
        ({"key": "7", "weight": -1}, "weight", "above 0"),
        ({"limit": -1}, "limit", "greater than or equal to 0"),
        ({"max_depth": 5, "wait": 5}, "wait", "Only a publisher that waits"),
        ({"rate": "1/s\0"}, "rate", "Null characters"),
    ],
)
def test_what_means_nothing_is_told_beside_its_field(
    mail: Celery, admin: Any, changes: dict[str, Any], field: str, complaint: str
):
    page = change(admin, MAIL, **changes)
    assert complaint in " ".join(errors(page)[field])
    assert actions(mail) == []


def test_rules_of_tasks_and_names_are_set_and_taken_away(app: Celery, admin: Any):
    page = admin.post(
        f"{RULES}add/",
        {"flow": "rate/task/add", "limit": "100/m", "by": "x", "scope": "global"},
        follow=True,
    )
    assert "was added successfully" in messages(page)[0]
    rule = flows(app).get("rate/task/add")
    assert rule is not None
    assert (rule.limit, rule.by, rule.algorithm) == ("100/m", "kwargs.x", "window")
    change(admin, f"{RULES}rate_2Ftask_2Fadd/change/", limit="5/s", burst=9, algorithm="bucket")
    rule = flows(app).get("rate/task/add")
    assert rule is not None
    assert (rule.limit, rule.by, rule.burst) == ("5/s", "kwargs.x", 9)
    admin.post(f"{RULES}add/", {"flow": "running/task/add", "limit": "2", "scope": "worker"})
    change(admin, f"{RULES}running_2Ftask_2Fadd/change/", limit="3")
    rule = flows(app).get("running/task/add")
    assert rule is not None
    assert (rule.limit, rule.scope) == (3, "worker")
    for wrong, field in (
        ({"flow": "add", "limit": "5/s"}, "flow"),
        ({"flow": "rate/x", "limit": "soon"}, "limit"),
        ({"flow": "running/x", "limit": "5/s"}, "limit"),
    ):
        page = admin.post(f"{RULES}add/", {**wrong, "scope": "global"})
        assert field in errors(page), wrong
    listed = admin.get(RULES).content.decode()
    assert "5/s, burst 9" in listed
    page = act(admin, RULES, "reset_rules", "rate/task/add", "running/task/add")
    assert messages(page) == ["2 rules reset."]
    assert [each.name for each in flows(app)] == []


def test_tasks_tags_and_keys_are_paused_and_resumed(app: Celery, admin: Any):
    refused = {"kind": "key", "value": "7", "queue": "mail", "until": ""}
    page = admin.post(f"{PAUSES}add/", refused)
    assert "pgjobs queues fair mail kwargs.tenant_id" in str(errors(page)["queue"])
    assert flows(app).pauses() == []
    queues(app)["mail"].fair("tenant_id")
    for kind, value, queue, until in (
        ("task", "add", "", "2h"),
        ("tag", "mail", "", ""),
        ("key", "7", "mail", "2199-01-31 06:00"),
    ):
        form = {"kind": kind, "value": value, "queue": queue, "until": until}
        page = admin.post(f"{PAUSES}add/", form, follow=True)
        assert "was added successfully" in messages(page)[0], kind
    found = [(each.kind, each.name, each.queue) for each in flows(app).pauses()]
    assert found == [("key", "7", "mail"), ("tag", "mail", ""), ("task", "add", "")]
    for wrong, field in (
        ({"kind": "key", "value": "7"}, "queue"),
        ({"kind": "task", "value": "x", "queue": "mail"}, "value"),
        ({"kind": "task", "value": "x", "until": "soon"}, "until"),
    ):
        page = admin.post(f"{PAUSES}add/", {"queue": "", "until": "", **wrong})
        assert field in errors(page), wrong
    page = admin.get(PAUSES)
    assert "2199" in page.content.decode()
    names = [row.pk for row in page.context["cl"].result_list]
    assert names == ["key:mail:7", "tag:mail", "task:add"]
    assert messages(act(admin, PAUSES, "resume_jobs", *names)) == ["3 pauses ended."]
    assert flows(app).pauses() == []
    assert actions(app)[-1] == ("resume_jobs", "ada", "admin")


def test_who_may_view_only_looks(mail: Celery, sign_in: Any):
    queues(mail)["mail"].rate("1/s")
    viewer = sign_in("view_queue", "view_rule", "view_pause")
    for path in (QUEUES, RULES, PAUSES, MAIL, f"{RULES}rate_2Fqueue_2Fmail/change/"):
        page = viewer.get(path)
        assert page.status_code == 200, path
        assert 'name="_save"' not in page.content.decode(), path
        assert "pause_queues" not in page.content.decode(), path
    done = actions(mail)
    assert viewer.post(MAIL, {"limit": "1"}).status_code == 403
    assert viewer.get(f"{RULES}add/").status_code == 403
    assert viewer.post(f"{PAUSES}add/", {"kind": "task", "value": "x"}).status_code == 403
    act(viewer, QUEUES, "pause_queues", "mail")
    act(viewer, RULES, "reset_rules", "rate/queue/mail")
    assert actions(mail) == done


def test_who_may_change_acts(mail: Celery, sign_in: Any):
    editor = sign_in("change_queue", "change_rule", "change_pause")
    assert messages(act(editor, QUEUES, "pause_queues", "mail", until="")) == ["1 queue paused."]
    change(editor, MAIL, limit=3)
    assert queues(mail).get("mail").concurrency == 3
    assert editor.get(f"{PAUSES}add/").status_code == 200
    assert editor.get("/admin/pgjobs/job/").status_code == 403


@pytest.mark.parametrize("value", ["\0", "a\0b", "\ud800", "9" * 400, "'", "%", "\x1b", ""])
def test_no_parameter_is_an_error_of_the_server(mail: Celery, admin: Any, value: str):
    for path in (QUEUES, RULES, PAUSES):
        for name in ("q", "p", "o", "e", "all", "name", "name__in", "_to_field", "x"):
            query = urlencode({name: value}, errors="surrogatepass")
            page = admin.get(f"{path}?{query}", raise_request_exception=False)
            assert page.status_code < 500, (path, query)
        from urllib.parse import quote

        for page in ("change", "history", "delete"):
            one = f"{path}{quote(value, errors='surrogatepass', safe='') or '0'}/{page}/"
            assert admin.get(one, raise_request_exception=False).status_code < 500, one


def test_the_models_are_pages_only(app: Celery):
    from pgjobs_celery.django.models import Pause, Queue, Rule
    from pgjobs_celery.errors import PgJobsError

    for model in (Queue, Rule, Pause):
        assert list(model.objects.all()) == []
        with pytest.raises(PgJobsError):
            model(name="x").save()

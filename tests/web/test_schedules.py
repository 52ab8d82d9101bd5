"""The page of entries: what it shows, and what it lets whom do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

pytest.importorskip("starlette", reason="the extra web is not installed")

from celery import Celery
from celery.schedules import crontab

from pgjobs_celery import audit, cron, jobs, schedules

from .conftest import Browser


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app("shop")

    @app.task(name="shop.report", shared=False)
    def report(*args: object, **kwargs: object) -> None: ...

    control = schedules(app)
    control.put(
        "nightly",
        "shop.report",
        cron("0 2 * * *", tz="Europe/Berlin"),
        kwargs={"k": "a-bucket-of-ours"},
    )
    control.put("often", "shop.report", 5)
    control.put("weekdays", "shop.report", crontab("0", "9-17", "mon-fri"))
    return app


@pytest.fixture
def browser(app: Celery, open_page: Callable[..., Browser]) -> Browser:
    return open_page(app, role="admin")


def test_the_list_says_in_plain_english_when_entries_are_due(browser):
    page = browser.get("/schedules").text
    assert "At 02:00, every day" in page
    assert "Europe/Berlin" in page
    assert "Every 5 seconds" in page
    assert "Monday through Friday" in page


def test_the_list_is_searched_by_name_and_cut_into_pages(app, browser, monkeypatch):
    monkeypatch.setattr("pgjobs_celery.web.pages.schedules.PAGE", 2)
    first = browser.get("/schedules").text
    assert "weekdays" not in first
    assert "weekdays" in browser.get("/schedules?after=often").text
    found = browser.get("/schedules?q=NIGHT").text
    assert "nightly" in found
    assert "often" not in found
    assert "Not an entry" in browser.get("/schedules?q=nothing").text


def test_the_calendar_counts_an_entry_of_each_second_without_going_through_it(app, browser):
    schedules(app).put("each second", "shop.report", 1)
    page = browser.get("/schedules/week").text
    assert "86,400" in page
    assert "02:00" in page or "01:00" in page


def test_an_entry_tells_of_its_last_job_and_its_ticks_that_were_missed(app, browser, connection):
    job = schedules(app).run("nightly")
    connection.execute(
        "UPDATE pgjobs.schedules SET next_run_at = now() - interval '3 days' WHERE name = 'nightly'"
    )
    page = browser.get("/schedule?name=nightly").text
    assert job.id in page or job.id[:8] in page
    assert "have not been published" in page
    assert browser.get("/schedule?name=unknown").status_code == 404


ACTIONS = {
    "run": "run_schedule",
    "pause": "pause_schedule",
    "resume": "resume_schedule",
    "delete": "delete_schedule",
}


@pytest.mark.parametrize("verb", ACTIONS)
def test_an_action_is_done_recorded_and_told_with_its_command(app, browser, verb):
    if verb == "resume":
        schedules(app).pause("nightly")
    answer = browser.post_form(f"/schedules/{verb}", name="nightly")
    assert answer.status_code == 200
    assert f"schedules {verb} nightly" in answer.text
    entry = audit(app).list(1)[0]
    assert (entry.action, entry.via, entry.schedule) == (ACTIONS[verb], "web", "nightly")
    found = schedules(app).get("nightly")
    if verb == "delete":
        assert found is None
    elif verb == "run":
        assert [job.task for job in jobs(app)] == ["shop.report"]
    else:
        assert found.is_paused == (verb == "pause")


def form(**fields: str) -> dict[str, str]:
    return {
        "is_new": "1", "name": "new", "task": "shop.report", "kind": "cron", "when": "30 4 * * *",
        "tz": "", "args": "", "kwargs": '{"user": 7}', "options": '{"queue": "slow"}',
        "missed": "all", "missed_limit": "3",
    } | fields  # fmt: skip


def test_an_entry_is_added_and_changed_by_a_form(app, browser):
    answer = browser.post_form("/schedules/put", **form())
    assert "was made" in answer.text
    made = schedules(app).get("new")
    assert (made.kwargs, made.options, made.missed, made.missed_limit) == (
        {"user": 7}, {"queue": "slow"}, "all", 3,
    )  # fmt: skip
    answer = browser.post_form("/schedules/put", **form(is_new="0", kind="every", when="15m"))
    assert "--every 15m" in answer.text
    assert schedules(app).get("new").schedule.run_every == timedelta(minutes=15)
    page = browser.get("/schedule?name=new").text
    assert 'value="900"' in page


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "nightly"}, "already"),
        ({"when": "1--100000000 * * * *"}, "not a cron expression"),
        ({"when": "0 0 31 2 *"}, "never due"),
        ({"when": "1," * 499 + "1 * * * *"}, "at most 1,000 characters"),
        ({"kind": "crontab", "when": "1-100000000 * * * *"}, "not a crontab"),
        ({"kind": "crontab", "when": "*/100000000 * * * *"}, "not a crontab"),
        ({"kind": "every", "when": "0"}, "not an interval"),
        ({"kind": "every", "when": "9e99"}, "not an interval"),
        ({"kind": "solar", "when": "noon 1 1"}, "Celery has no solar"),
        ({"kind": "sometimes"}, "one of cron"),
        ({"tz": "Mars/Olympus"}, "not a time zone"),
        ({"args": "{"}, "not JSON"),
        ({"args": "{}"}, "must be an array"),
        ({"args": "[" * 100_000}, "not JSON"),
        ({"options": '{"countdwn": 1}'}, "countdown"),
        ({"options": '{"schedule": 1}'}, "a field of its own"),
        ({"options": '{"priority": 1e99}'}, "priority must be"),
        ({"missed": "maybe"}, "missed must be"),
        ({"missed_limit": "-1"}, "whole number"),
        ({"task": "x\x00y"}, "NUL"),
    ],
)
def test_a_mistake_is_told_beside_what_was_typed(app, browser, fields, reason):
    answer = browser.post_form("/schedules/put", **form(**fields))
    assert answer.status_code == 400
    assert reason in answer.text
    assert "&#34;slow&#34;" in answer.text or "options" in fields
    assert schedules(app).get("new") is None


def test_an_entry_of_the_program_is_only_paused_and_run(app, browser, connection):
    connection.execute("UPDATE pgjobs.schedules SET is_configured = true WHERE name = 'nightly'")
    page = browser.get("/schedule?name=nightly").text
    assert "change it there" in page
    assert 'name="when"' not in page
    answer = browser.post_form("/schedules/put", **form(is_new="0", name="nightly"))
    assert answer.status_code == 400
    assert "beat_schedule" in answer.text
    answer = browser.post_form("/schedules/delete", name="nightly")
    assert answer.status_code == 400
    assert schedules(app).get("nightly") is not None


def test_arguments_are_shown_to_those_who_may_change_them(app, open_page):
    assert (
        "a-bucket-of-ours" not in open_page(app, role="operator").get("/schedule?name=nightly").text
    )
    assert "a-bucket-of-ours" in open_page(app, role="admin").get("/schedule?name=nightly").text


def test_secrets_stay_on_the_server_and_in_the_entry(app, browser):
    schedules(app).put("login", "shop.report", 60, kwargs={"password": "hunter2", "user": "al"})
    page = browser.get("/schedule?name=login").text
    assert "hunter2" not in page
    assert "al" in page
    fields = form(is_new="0", name="login", task="shop.other", kwargs="", args="[1]", keeps="1")
    answer = browser.post_form("/schedules/put", **fields)
    assert "was changed" in answer.text
    assert "hunter2" not in answer.text
    entry = schedules(app).get("login")
    assert (entry.kwargs, entry.args) == ({"password": "hunter2", "user": "al"}, [])
    assert (entry.task, entry.spec["type"]) == ("shop.report", "cron")


def test_without_the_program_entries_are_shown_paused_and_deleted(app, url, open_page):
    browser = open_page(url, role="admin")
    page = browser.get("/schedules").text
    assert "At 02:00, every day" in page
    assert "knows the database only" in page
    assert "Run now" not in page
    browser.post_form("/schedules/pause", name="nightly", app="shop")
    assert schedules(app).get("nightly").is_paused
    for verb in ("run", "resume"):
        answer = browser.post_form(f"/schedules/{verb}", name="nightly", app="shop")
        assert answer.status_code == 400
        assert "celery -A proj pgjobs web" in answer.text
    assert jobs(app).count() == 0
    browser.post_form("/schedules/delete", name="nightly", app="shop")
    assert schedules(app).get("nightly") is None


def test_rows_that_were_written_by_hand_are_shown(app, browser, connection):
    for name, spec, due in (
        ("<b>x</b>", '{"type": "cron", "expression": "1--9 * * * *"}', "now"),
        ("y", "[1]", "infinity"),
        ("z", '{"type": "solar"}', "now"),
    ):
        connection.execute(
            "INSERT INTO pgjobs.schedules (app, name, task, schedule, definition, next_run_at)"
            " VALUES ('shop', %s, 't', %s, '', %s)",
            (name, spec, due),
        )
    for path in ("/schedules", "/schedules/week", "/schedule?name=y", "/schedule?name=z"):
        page = browser.get(path)
        assert page.status_code == 200
        assert "<b>x</b>" not in page.text

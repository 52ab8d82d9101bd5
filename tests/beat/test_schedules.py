"""``schedules(app)``: entries made, changed, paused, run and deleted while beat runs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import psycopg
import pytest
from celery import Celery, chain, group
from celery.beat import BeatLazyFunc
from celery.schedules import BaseSchedule, crontab, schedstate, schedule, solar

from pgjobs_celery import PgTask, Unique, bulk, cron, jobs, schedules, using
from pgjobs_celery.beat.schedule import Schedule
from pgjobs_celery.beat.schedules import Schedules
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import ConfiguredEntry, InvalidOption, PgJobsError, UnknownOption
from pgjobs_celery.job.states import State

from ..support.shop import report, start_beat

SOON = timedelta(seconds=60)
#: Options that no job can be published with.
BAD = {"headers": {"pgjobs": {"max_attempts": 0}}}


class EverySecondTuesday(BaseSchedule):
    """What only the program knows."""

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return last_run_at + timedelta(days=14) - self.now()

    def is_due(self, last_run_at: datetime) -> schedstate:
        remaining = self.remaining_estimate(last_run_at).total_seconds()
        return schedstate(remaining <= 0, max(remaining, 86_400.0))


def welcome(user_id: int = 0) -> None: ...


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app("shop", timezone="Europe/Berlin")
    app.task(report, name="shop.report")
    app.task(welcome, name="shop.welcome", base=PgTask, meta={"team": "crm"}, tags=["mail"])
    return app


@pytest.fixture
def control(app: Celery) -> Schedules:
    return schedules(app)


def now() -> datetime:
    return datetime.now(timezone.utc)


def test_an_entry_that_nobody_knows_is_none(control):
    assert control.get("unknown") is None
    assert list(control) == []
    assert control.pause("unknown") is False
    assert control.resume("unknown") is False
    assert control.run("unknown") is None
    assert control.delete("unknown") is False


@pytest.mark.parametrize(
    ("given", "expected", "spec"),
    [
        (30, schedule(30), {"type": "interval", "every": 30.0, "relative": False}),
        (0.5, schedule(0.5), {"type": "interval", "every": 0.5, "relative": False}),
        (
            timedelta(hours=2),
            schedule(7200),
            {"type": "interval", "every": 7200.0, "relative": False},
        ),
        ("@daily", cron("@daily"), {"type": "cron", "expression": "@daily", "tz": None}),
        (
            cron("0 2 * * *", tz="Asia/Tokyo"),
            cron("0 2 * * *", tz="Asia/Tokyo"),
            {"type": "cron", "expression": "0 2 * * *", "tz": "Asia/Tokyo"},
        ),
        (
            crontab(minute=0, hour="2,3", day_of_week={1, 3}),
            crontab(minute=0, hour="2,3", day_of_week={1, 3}),
            {
                "type": "crontab", "minute": 0, "hour": "2,3", "day_of_week": [1, 3],
                "day_of_month": "*", "month_of_year": "*",
            },
        ),
    ],
)  # fmt: skip
def test_an_entry_comes_back_as_it_was_put(control, given, expected, spec):
    put = control.put("a", "shop.report", given, (1, "x"), {"day": "today"}, queue="slow")
    assert put == control.get("a")
    assert (put.task, put.args, put.kwargs) == ("shop.report", [1, "x"], {"day": "today"})
    assert (put.options, put.schedule, put.spec) == ({"queue": "slow"}, expected, spec)
    assert (put.missed, put.missed_limit, put.is_configured) == ("once", 100, False)
    assert (put.last_run_at, put.last_task_id, put.last_state) == (None, None, None)
    assert (put.total_run_count, put.paused_at, put.is_paused) == (0, None, False)
    assert now() < put.next_run_at
    assert [each.name for each in control] == ["a"]


def test_a_solar_entry_comes_back_as_it_was_put(control):
    pytest.importorskip("ephem")
    put = control.put("a", "shop.report", solar("sunset", 52.5, 13.4))
    assert put.spec == {"type": "solar", "event": "sunset", "lat": 52.5, "lon": 13.4}
    assert now() < put.next_run_at < now() + timedelta(days=2)


def test_a_task_is_named_by_itself_and_takes_the_options_of_a_call(app, control):
    at = datetime(2031, 1, 1, tzinfo=timezone.utc)
    put = control.put(
        "a", app.tasks["shop.welcome"], 60, queue="mail", priority=3, tags=[" VIP "],
        max_attempts=2, meta={"campaign": "spring"}, expires=at, headers={"x": 1},
        unique=Unique(period=7), missed="all", missed_limit=7,
    )  # fmt: skip
    assert put.task == "shop.welcome"
    assert (put.missed, put.missed_limit) == ("all", 7)
    assert put.options["unique"]["period"] == 7.0
    assert {name: put.options[name] for name in put.options.keys() - {"unique"}} == {
        "queue": "mail", "priority": 3, "tags": ["vip"], "max_attempts": 2, "expires": at,
        "meta": {"campaign": "spring"}, "headers": {"x": 1},
    }  # fmt: skip


def test_a_signature_says_what_it_has(app, control):
    task = app.tasks["shop.report"]
    put = control.put("a", task.s(2, x=1).set(queue="slow"), 60, (1,), {"y": 2}, priority=3)
    assert (put.task, put.args, put.kwargs) == ("shop.report", [1, 2], {"x": 1, "y": 2})
    assert put.options == {"queue": "slow", "priority": 3}
    assert control.put("a", task.si(2), 60).args == [2]
    with pytest.raises(InvalidOption, match="a chain is not a task that beat can publish"):
        control.put("a", chain(task.s(), task.s()), 60)
    with pytest.raises(InvalidOption, match="a group is not a task that beat can publish"):
        control.put("a", group(task.s(), task.s()), 60)


def test_an_entry_is_changed_by_putting_it_anew(control):
    first = control.put("a", "shop.report", 3600, (1,), queue="slow")
    control.pause("a")
    same = control.put("a", "shop.report", 3600, (2,))
    assert (same.args, same.options) == ([2], {})
    assert same.is_paused
    control.resume("a")
    other = control.put("a", "shop.report", 60)
    assert other.next_run_at < first.next_run_at
    moved = control.put("a", "shop.report", 60, next_run_at=datetime(2031, 1, 1))
    assert moved.next_run_at == datetime(2030, 12, 31, 23, tzinfo=timezone.utc)


def test_while_the_schedule_stays_the_next_tick_does(control):
    first = control.put("a", "shop.report", 3600)
    assert control.put("a", "shop.welcome", 3600).next_run_at == first.next_run_at


def test_a_name_that_is_taken_is_not_added(control):
    control.add("a", "shop.report", 60)
    with pytest.raises(InvalidOption, match="there is an entry 'a' already: put"):
        control.add("a", "shop.welcome", 60)
    assert control.get("a").task == "shop.report"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"name": ""}, "name must have 1 to"),
        ({"name": 7}, "name must be text"),
        ({"name": "a\0b"}, "NUL"),
        ({"task": ""}, "entry 'a': task must have 1 to"),
        ({"task": None}, "entry 'a': task must be text"),
        ({"schedule": "0 2 * *"}, "entry 'a': '0 2 \\* \\*' is not a cron expression"),
        ({"schedule": "0 0 30 2 *"}, "entry 'a': .* is never due"),
        ({"schedule": 0}, "is due at once, again and again"),
        ({"schedule": timedelta(seconds=-1)}, "is due at once, again and again"),
        ({"schedule": timedelta.max}, "cannot be computed"),
        ({"schedule": None}, "a schedule is a number of seconds"),
        ({"schedule": EverySecondTuesday()}, "class EverySecondTuesday is known to the program"),
        ({"args": "abc"}, "args must be a tuple or list"),
        ({"args": [object()]}, "args cannot be written as JSON"),
        ({"args": [float("nan")]}, "args cannot be written as JSON"),
        ({"kwargs": [1]}, "kwargs must be a dict"),
        ({"kwargs": {"x": {1, 2}}}, "kwargs cannot be written as JSON"),
        ({"kwargs": {"x": "a\0b"}}, "kwargs: PostgreSQL's JSON has no NUL"),
        ({"headers": {"x": object()}}, "options cannot be written as JSON"),
        ({"headers": "x"}, "headers must be a mapping"),
        ({"missed": "twice"}, "missed must be 'once', 'skip' or 'all'"),
        ({"missed_limit": 0}, "missed_limit must be a whole number from 1"),
        ({"missed_limit": 10_001}, "missed_limit must be a whole number from 1 to 10,000"),
        ({"priority": 256}, "priority must be 0 to 255"),
        ({"queue": ""}, "a queue cannot be called"),
        ({"tags": "mail"}, "tags must be a list"),
        ({"max_attempts": 0}, "max_attempts must be a whole number"),
        ({"meta": 1}, "meta must be a mapping"),
        ({"unique": True}, "unique is for tasks of the class PgTask"),
        ({"next_run_at": 5}, "next_run_at must be a datetime"),
    ],
)
def test_what_cannot_be_meant_is_refused(control, given, complaint):
    values: dict[str, Any] = {"name": "a", "task": "shop.report", "schedule": 60, **given}
    with pytest.raises(InvalidOption, match=complaint):
        control.put(**values)
    assert list(control) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [("qeue", "queue"), ("tag", "tags"), ("mised", "missed"), ("shedule", "schedule")],
)
def test_an_option_that_there_is_not_is_refused_with_the_one_that_is_meant(control, name, meant):
    with pytest.raises(UnknownOption, match=f"no option '{name}'.*did you mean '{meant}'"):
        control.put("a", "shop.report", 60, **{name: 1})


def test_what_a_tick_has_for_itself_is_no_option(control):
    for name in ("task_id", "producer", "app"):
        with pytest.raises(UnknownOption, match=f"no option '{name}'"):
            control.put("a", "shop.report", 60, **{name: 1})


def test_a_task_that_is_not_registered_is_a_warning(control, make_app, caplog):
    with caplog.at_level(logging.WARNING):
        control.put("a", "shop.repotr", 60)
    assert "no task 'shop.repotr' is registered in app 'shop'" in caplog.text
    assert "did you mean 'shop.report'?" in caplog.text
    caplog.clear()
    schedules(make_app("thin")).put("a", "shop.report", 60)  # knows no task at all
    assert caplog.text == ""


def test_the_entries_of_another_app_are_its_own(control, make_app):
    control.put("a", "shop.report", 60)
    assert list(schedules(make_app("other"))) == []


def test_a_beat_that_runs_knows_of_each_change(app, control, connection):
    beat = start_beat(app)

    def look() -> None:
        beat._next_look = 0.0
        while beat.tick() == 0:
            pass

    past = now() - timedelta(seconds=5)
    control.put("a", "shop.report", 3600, next_run_at=past)
    look()
    (job,) = jobs(app)
    assert job.meta == {"schedule": "a", "tick": past.isoformat()}
    entry = control.get("a")
    assert (entry.last_run_at, entry.last_task_id) == (past, job.task_id)
    assert (entry.last_state, entry.total_run_count) == (State.AVAILABLE, 1)
    control.pause("a")
    control.put("a", "shop.report", 3600, next_run_at=past)
    look()
    assert control.get("a").total_run_count == 1
    control.resume("a")
    look()
    assert control.get("a").total_run_count == 1
    control.put("a", "shop.report", 3600, next_run_at=past)
    control.delete("a")
    look()
    assert jobs(app).count() == 1


def test_what_is_paused_has_no_next_run_and_goes_on_with_the_tick_to_come(control, connection):
    control.put("a", "shop.report", 60)
    assert control.pause("a") is True
    paused = control.get("a")
    assert (paused.is_paused, paused.next_run_at) == (True, None)
    assert control.pause("a") is True
    assert control.get("a").paused_at == paused.paused_at
    connection.execute("UPDATE pgjobs.schedules SET next_run_at = now() - interval '1 day'")
    assert control.resume("a") is True
    resumed = control.get("a")
    assert resumed.is_paused is False
    assert now() < resumed.next_run_at <= now() + SOON
    assert control.resume("a") is False


def test_a_run_by_hand_is_published_at_once_and_recorded(app, control, connection):
    control.put("a", "shop.report", cron("@daily"), (1,), {"x": 2}, queue="slow", tags=["t"])
    before = control.get("a")
    result = control.run("a")
    job = jobs(app).get(result.id)
    assert (job.task, job.args, job.kwargs, job.queue) == ("shop.report", [1], {"x": 2}, "slow")
    assert (job.tags, job.meta) == (("t",), {"schedule": "a", "by_hand": True})
    entry = control.get("a")
    assert (entry.last_task_id, entry.last_state) == (result.id, State.AVAILABLE)
    assert (entry.total_run_count, entry.next_run_at) == (1, before.next_run_at)
    assert now() - entry.last_run_at < SOON
    control.pause("a")
    assert control.run("a").id != result.id
    assert control.get("a").total_run_count == 2


def test_a_job_keeps_what_its_task_says_of_itself(app, control):
    control.put("a", "shop.welcome", 60, tags=["vip"], meta={"campaign": "spring"})
    past = now() - timedelta(seconds=5)
    control.put("b", "shop.welcome", 60, next_run_at=past)
    beat = start_beat(app)
    beat.tick()
    by_hand = jobs(app).get(control.run("a"))
    by_tick = jobs(app).get(control.get("b").last_task_id)
    assert by_hand.tags == ("mail", "vip")
    assert by_hand.meta == {
        "team": "crm", "campaign": "spring", "schedule": "a", "by_hand": True,
    }  # fmt: skip
    assert by_tick.meta == {"team": "crm", "schedule": "b", "tick": past.isoformat()}


def test_a_run_that_cannot_be_published_is_not_recorded(app, control, connection):
    control.put("a", "shop.report", 60)
    connection.execute("UPDATE pgjobs.schedules SET options = %s", (json.dumps(BAD),))
    with pytest.raises(PgJobsError):
        control.run("a")
    assert (control.get("a").total_run_count, jobs(app).count()) == (0, 0)


def test_a_run_of_what_is_there_already_is_its_duplicate(app, control):
    control.put("a", "shop.welcome", 60, unique=True)
    first, second = control.run("a"), control.run("a")
    assert jobs(app).get(first).state is State.AVAILABLE
    assert jobs(app).get(second).state is State.CANCELLED
    entry = control.get("a")
    assert (entry.last_task_id, entry.last_state) == (second.id, State.CANCELLED)


def test_what_bulk_collects_is_recorded_with_the_jobs(app, control):
    control.put("a", "shop.report", 60)
    with bulk():
        result = control.run("a")
        assert (jobs(app).count(), control.get("a").total_run_count) == (0, 0)
    assert (jobs(app).count(), control.get("a").total_run_count) == (1, 1)
    assert control.get("a").last_task_id == result.id


def test_inside_of_using_all_is_part_of_the_callers_transaction(app, control, url):
    control.put("b", "shop.report", 60)
    with psycopg.connect(parse_url(url)) as mine:
        with using(mine):
            control.put("a", "shop.report", 60)
            control.run("a")
            control.pause("b")
            assert control.get("a").total_run_count == 1
        assert control.get("a") is None
        mine.rollback()
        assert (jobs(app).count(), control.get("b").is_paused) == (0, False)
        with using(mine):
            control.put("a", "shop.report", 60)
            control.run("a")
            control.delete("b")
        mine.commit()
    assert [(each.name, each.total_run_count) for each in control] == [("a", 1)]
    assert jobs(app).count() == 1


def test_an_entry_that_is_deleted_leaves_its_jobs(app, control):
    control.put("a", "shop.report", 60)
    control.run("a")
    assert control.delete("a") is True
    assert control.delete("a") is False
    assert (list(control), jobs(app).count()) == ([], 1)


def test_a_connection_that_was_cut_while_it_was_idle_is_not_the_callers_business(
    control, connection
):
    control.put("a", "shop.report", 60)
    calls: list[Callable[[], Any]] = [
        lambda: control.get("a"),
        lambda: list(control),
        lambda: control.put("a", "shop.report", 90),
        lambda: control.pause("a"),
        lambda: control.resume("a"),
        lambda: control.run("a"),
        lambda: control.delete("a"),
    ]
    for call in calls:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert call()


# -- the program's own ---------------------------------------------------------------------------


@pytest.fixture
def configured(app: Celery) -> Schedules:
    """An app with a schedule of its own, which a beat has put into the table."""
    app.conf.beat_schedule = {
        "nightly": {"task": "shop.report", "schedule": crontab(minute=0, hour=2), "args": (1,)},
        "lazy": {
            "task": "shop.report",
            "schedule": EverySecondTuesday(),
            "args": (BeatLazyFunc(lambda: 42),),
        },
    }
    start_beat(app)
    return schedules(app)


def test_the_programs_own_entries_are_not_changed_here(app, configured):
    with pytest.raises(ConfiguredEntry, match="'nightly' is one of the program's beat_schedule"):
        configured.put("nightly", "shop.report", 60)
    with pytest.raises(ConfiguredEntry):
        configured.add("nightly", "shop.report", 60)
    with pytest.raises(ConfiguredEntry, match="change it there, or take it out"):
        configured.delete("nightly")
    elsewhere = Celery("shop", broker=app.conf.broker_url, set_as_current=False)
    with pytest.raises(ConfiguredEntry):  # by its row
        schedules(elsewhere).put("nightly", "shop.report", 60)
    assert configured.get("nightly").schedule == crontab(minute=0, hour=2)


def test_one_of_the_programs_is_not_made_before_a_beat_has_started(app, control):
    app.conf.beat_schedule = {"nightly": {"task": "shop.report", "schedule": 60}}
    with pytest.raises(ConfiguredEntry):
        control.put("nightly", "shop.report", 60)
    assert control.pause("nightly") is False


def test_the_programs_own_are_paused_resumed_and_run(app, configured):
    assert [(each.name, each.is_configured) for each in configured] == [
        ("lazy", True),
        ("nightly", True),
    ]
    assert configured.pause("nightly") is True
    start_beat(app)
    assert configured.get("nightly").is_paused
    assert configured.resume("nightly") is True
    assert jobs(app).get(configured.run("nightly")).args == [1]


def test_what_only_the_program_knows_is_run_and_resumed_in_it(app, configured):
    lazy = configured.get("lazy")
    assert (lazy.args, lazy.schedule, lazy.spec["type"]) == (None, None, "other")
    assert jobs(app).get(configured.run("lazy")).args == [42]
    configured.pause("lazy")
    elsewhere = schedules(Celery("shop", broker=app.conf.broker_url, set_as_current=False))
    assert elsewhere.get("lazy").is_paused
    with pytest.raises(PgJobsError, match="arguments that only its program knows: run it there"):
        elsewhere.run("lazy")
    with pytest.raises(PgJobsError, match="resume it in the program"):
        elsewhere.resume("lazy")
    assert configured.resume("lazy") is True


# -- the handle ----------------------------------------------------------------------------------


def test_an_entry_cannot_be_changed_by_its_picture(control):
    entry = control.put("a", "shop.report", 60)
    with pytest.raises(FrozenInstanceError):
        entry.missed = "all"


def test_a_row_that_was_written_by_hand_is_shown_as_far_as_it_can_be_read(control, connection):
    control.put("a", "shop.report", 60)
    connection.execute("UPDATE pgjobs.schedules SET schedule = '{\"type\": \"cron\"}', args = '['")
    entry = control.get("a")
    assert isinstance(entry, Schedule)
    assert (entry.schedule, entry.args, entry.spec) == (None, None, {"type": "cron"})


def test_where_only_the_results_are_ours_the_entries_are_there(url, make_app):
    app = make_app("shop", broker_url="memory://", result_backend=url)
    schedules(app).put("a", "shop.report", 60)
    assert UUID(schedules(app).run("a").id)
    assert schedules(app).get("a").total_run_count == 1


def test_an_app_without_a_database_of_ours_has_no_entries():
    app = Celery("other", broker="memory://", backend="cache+memory://", set_as_current=False)
    with pytest.raises(PgJobsError, match="app 'other' has its jobs elsewhere"):
        schedules(app)

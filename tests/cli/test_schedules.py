"""``celery pgjobs schedules``: the commands on what beat publishes, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from celery import Celery
from celery.beat import ScheduleEntry
from celery.schedules import crontab, schedule
from click.testing import Result

from pgjobs_celery import cron, jobs, schedules
from pgjobs_celery.beat.schedules import Schedules

from ..support.celery_process import run_celery
from ..support.shop import make_shop, run_schedules, start_beat


@pytest.fixture
def app(make_app: Callable[..., Celery], monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An app that ``celery -A cli_shop`` finds."""
    return make_shop(make_app, monkeypatch)


@pytest.fixture
def run(app: Celery) -> Callable[..., Result]:
    """``celery -A cli_shop pgjobs schedules ...``."""
    return run_schedules


@pytest.fixture
def control(app: Celery) -> Schedules:
    return schedules(app)


def lines(done: Result) -> list[list[str]]:
    return [line.split() for line in done.output.splitlines() if line.strip()]


def test_entries_are_listed_with_what_came_of_them(run, control, connection):
    assert run("list").output.startswith("No entries of app 'shop'")
    control.put("[bold]poll", "evil\x1b[31m", 90)
    control.put("nightly", "shop.report", cron("@daily", tz="Asia/Tokyo"), missed="skip")
    control.run("nightly")
    head, _, poll, nightly, zone = lines(run("list"))
    assert " ".join(head) == "name schedule task next run last run outcome missed"
    assert " ".join(poll[:6]) == "[bold]poll every 1 min 30 s"
    assert poll[6] == "evil\ufffd[31m"
    assert nightly[:4] == ["nightly", "@daily", "Asia/Tokyo", "shop.report"]
    assert (nightly[5], nightly[-2:]) == ("16:00:00", ["available", "skip"])
    assert zone == ["Times", "are", "those", "of", "Europe/Berlin."]
    control.pause("nightly")
    head, _, _, nightly, _ = lines(run("list"))
    assert " ".join(head[-2:]) == "paused since"
    assert nightly[4] == "paused"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (crontab(minute=0, hour="2,3", day_of_week={1, 3}), "crontab 0 2,3 * * 1,3"),
        (schedule(0.5), "every 0.5 s"),
        (schedule(300), "every 5 min"),
    ],
)
def test_a_schedule_is_shown_as_it_was_written(run, control, given, shown):
    control.put("a", "shop.report", given)
    assert shown in run("list").output


def test_entries_are_listed_for_machines(run, control):
    control.put("a", "shop.report", "@daily", (1,), tags=["x"])
    (data,) = json.loads(run("list", "--json").output)
    assert data["schedule"] == {"type": "cron", "expression": "@daily", "tz": None}
    assert (data["args"], data["options"], data["paused_at"]) == ([1], {"tags": ["x"]}, None)
    assert data["next_run_at"].endswith(":00:00+00:00")


def test_show_says_all_that_is_known_of_an_entry(run, control, connection):
    control.put("a", "shop.report", 60)
    control.run("a")
    error = '[{"attempt": 1, "type": "KeyError", "message": "x"}]'
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'discarded', finished_at = now(), errors = %s", (error,)
    )
    shown = dict(line.split(None, 1) for line in run("show", "a").output.splitlines())
    assert (shown["last_state"], shown["total_run_count"]) == ("discarded", "1")
    assert json.loads(run("show", "a", "--json").output)["last_errors"] == json.loads(error)
    done = run("show", "b")
    assert (done.exit_code, done.output) == (1, "Error: app 'shop' has no entry 'b'\n")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--every", "15m"), schedule(900)),
        (("--cron", "0 2 * * *"), cron("0 2 * * *")),
        (("--cron", "@daily", "--tz", "Asia/Tokyo"), cron("@daily", tz="Asia/Tokyo")),
        (("--crontab", "0 2 * * mon"), crontab(minute=0, hour=2, day_of_week="mon")),
    ],
)
def test_an_entry_is_added_with_a_schedule_of_each_kind(run, control, options, expected):
    done = run("add", "a", "shop.report", *options)
    assert (done.exit_code, done.output[:18]) == (0, "a is due next at 2"), done.output
    assert control.get("a").schedule == expected


def test_a_solar_entry_is_added(run, control):
    pytest.importorskip("ephem")
    assert run("add", "a", "shop.report", "--solar", "sunset", "52.5", "13.4").exit_code == 0
    assert control.get("a").spec["event"] == "sunset"


def test_an_entry_is_added_with_all_that_can_be_said_of_it(run, control):
    done = run(
        *("add", "a", "shop.report", "--every", "60", "--args", "[1]", "--kwargs", '{"x": 2}'),
        *("--queue", "slow", "--priority", "3", "--tag", "a", "--tag", "b", "--max-attempts", "2"),
        *("--expires", "1h", "--options", '{"serializer": "json"}', "--missed", "all"),
        *("--missed-limit", "7", "--first", "2031-01-31T06:00+01:00"),
    )
    assert done.output == "a is due next at 2031-01-31 06:00:00 +0100\n"
    entry = control.get("a")
    assert (entry.args, entry.kwargs, entry.missed, entry.missed_limit) == ([1], {"x": 2}, "all", 7)
    assert entry.options == {
        "queue": "slow", "priority": 3, "tags": ["a", "b"], "max_attempts": 2, "expires": 3600.0,
        "serializer": "json",
    }  # fmt: skip


def test_an_entry_that_is_there_is_changed_only_if_that_is_said(run, control):
    run("add", "a", "shop.report", "--every", "60")
    done = run("add", "a", "shop.report", "--every", "90")
    assert (done.exit_code, "--replace" in done.output) == (1, True)
    assert run("add", "a", "shop.report", "--every", "90", "--replace").exit_code == 0
    assert control.get("a").schedule == schedule(90)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "say when it is due"),
        (("--every", "60", "--cron", "@daily"), "say when it is due"),
        (("--every", "60", "--tz", "UTC"), "--tz belongs to --cron"),
        (("--every", "0"), "due at once, again and again"),
        (("--cron", "0 2"), "is not a cron expression"),
        (("--cron", "@daily", "--tz", "Europe/Berln"), "is not a time zone"),
        (("--crontab", "0 2"), "write minute, hour, day of month, month and day of week"),
        (("--crontab", "0 25 * * *"), "Celery has no schedule '0 25 * * *'"),
        (("--solar", "moonrise", "0", "0"), "Celery has no schedule ('moonrise'"),
        (("--every", "60", "--args", "{"), "is not JSON"),
        (("--every", "60", "--args", "{}"), "args must be a tuple or list"),
        (("--every", "60", "--options", "[]"), "must be a JSON object"),
        (("--every", "60", "--options", '{"args": []}'), "'args' is not an option of a job"),
        (("--every", "60", "--options", '{"qeue": "x"}'), "did you mean 'queue'?"),
        (("--every", "60", "--first", "soon"), "'soon' is not a time"),
        (("--every", "60", "--priority", "256"), "priority must be 0 to 255"),
    ],
)
def test_what_cannot_be_meant_is_one_line(run, control, options, complaint):
    done = run("add", "a", "shop.report", *options)
    assert done.exit_code in (1, 2)
    assert complaint in done.output.splitlines()[-1]
    assert list(control) == []


def test_entries_are_paused_resumed_run_and_deleted_by_name(run, app, control):
    for name in ("a", "b"):
        control.put(name, "shop.report", 60)
    assert run("pause", "a", "b").output == "a is paused\nb is paused\n"
    done = run("resume", "a")
    assert done.output.startswith("a is due next at 2")
    assert run("resume", "a").output == "a was not paused\n"
    done = run("run", "a", "b")
    ids = [job.task_id for job in jobs(app)]
    assert done.output == f"a is published as {ids[0]}\nb is published as {ids[1]}\n"
    assert run("delete", "a", "b").output == "a is deleted\nb is deleted\n"
    assert list(control) == []


@pytest.mark.parametrize("command", ["pause", "resume", "run", "delete", "show"])
def test_a_name_that_there_is_not_is_said_with_the_one_that_is_meant(run, control, command):
    control.put("nightly", "shop.report", 60)
    done = run(command, "nigthly")
    assert done.exit_code == 1
    assert done.output == (
        "Error: app 'shop' has no entry 'nigthly'; did you mean 'nightly'?\n"
    )  # fmt: skip


def test_the_programs_own_are_not_deleted(run, app):
    app.conf.beat_schedule = {"nightly": {"task": "shop.report", "schedule": crontab()}}
    start_beat(app)
    done = run("delete", "nightly")
    assert done.exit_code == 1
    assert done.output.startswith("Error: entry 'nightly' is one of the program's beat_schedule")
    assert run("pause", "nightly").exit_code == 0


def test_an_app_has_to_be_named(url, tmp_path):
    done = run_celery("-b", url, "pgjobs", "schedules", "list", cwd=tmp_path)
    assert done.returncode == 2
    assert "name it with `celery -A proj`" in done.stderr


def test_an_app_with_its_jobs_elsewhere_is_one_line(run, app):
    app.conf.update(broker_url="memory://", result_backend="cache+memory://")
    done = run("list")
    assert (done.exit_code, len(done.output.splitlines())) == (1, 1)
    assert "has its jobs elsewhere" in done.output


# -- check ---------------------------------------------------------------------------------------


def check(run: Callable[..., Result]) -> dict[str, list[str]]:
    """What is said, by rule."""
    done = run("check", "--json")
    reported: dict[str, list[str]] = {}
    for finding in json.loads(done.output):
        reported.setdefault(finding["rule"], []).append(f"{finding['name']}: {finding['text']}")
    assert done.exit_code == (1 if reported else 0)
    return reported


def test_what_is_as_it_should_be_is_not_mentioned(run, app, control):
    app.conf.beat_schedule = {
        "hourly": {"task": "shop.report", "schedule": cron("0 * * * *")},
        "weekly": {"task": "shop.report", "schedule": crontab(minute=0, hour=5, day_of_week=1)},
        "poll": {"task": "shop.report", "schedule": 30, "missed": "skip"},
    }
    start_beat(app)
    assert check(run) == {}
    assert run("check").output == "Nothing to say.\n"


def test_what_may_not_be_meant_is_named(run, app, control):
    app.conf.beat_schedule = {
        "days": {"task": "shop.report", "schedule": cron("0 9 1 * 1")},
        "task": {"task": "shop.repotr", "schedule": 60},
        "lost": {"task": "shop.report", "schedule": crontab(hour=5, minute=0), "missed": "skip"},
        "many": {"task": "shop.report", "schedule": 5, "missed": "all"},
    }
    start_beat(app)
    app.conf.beat_schedule = {
        **app.conf.beat_schedule, "new": {"task": "shop.report", "schedule": 60},
    }  # fmt: skip
    reported = check(run)
    assert reported.keys() == {"days", "task", "missed", "unknown"}
    assert reported["days"][0].startswith("days: '0 9 1 * 1' is due on the days of the month and")
    assert reported["task"][0].endswith("did you mean 'shop.report'?")
    lost, many = reported["missed"]
    assert lost.startswith("lost: a tick that no beat is there for within 60 s is left out")
    assert many.startswith("many: it is due every 5 s, and when no beat was there up to 100 jobs")
    assert reported["unknown"] == ["new: is in beat_schedule, and no beat has started with it yet"]
    assert "days: days: '0 9 1 * 1'" in run("check").output


def test_entries_are_checked_before_a_beat_has_started_and_as_they_are_in_the_program(run, app):
    app.conf.beat_schedule = {"days": {"task": "shop.report", "schedule": 60}}
    start_beat(app)
    app.conf.beat_schedule = {"days": {"task": "shop.report", "schedule": "0 9 1 * 1"}}
    assert check(run).keys() == {"days"}
    app.main = "another"
    assert check(run).keys() == {"days"}
    app.conf.beat_schedule = {"as celery has it": ScheduleEntry("x", "shop.report", schedule=60)}
    assert check(run) == {}


def test_an_entry_that_beat_leaves_out_is_named(run, app):
    app.conf.beat_schedule = {
        "key": {"task": "shop.report", "schedul": 60},
        "never": {"task": "shop.report", "schedule": "0 0 30 2 *"},
        "none": None,
        "range": {"task": "shop.report", "schedule": "61 * * * *"},
        7: {"task": "shop.report", "schedule": 60},
    }
    reported = check(run)
    assert reported.keys() == {"wrong"}
    number, key, never, none, range_ = reported["wrong"]
    assert number == "7: beat leaves it out: its name must be text, not 7"
    assert key.endswith("there is no key 'schedul'; did you mean 'schedule'?")
    assert never.startswith("never: beat leaves it out: ")
    assert none.startswith("none: beat leaves it out: ")
    assert "not a cron expression" in range_


@pytest.mark.parametrize(
    ("zone", "given", "reported"),
    [
        ("Europe/Berlin", crontab(minute=30, hour=2), "due at 03:30+0200 and not at 03:00+0200"),
        ("Europe/Berlin", crontab(minute=0), "not due at 02:00+0100"),
        ("Europe/Berlin", crontab(minute="*/30"), "not due at 02:00+0100, 02:30+0100"),
        ("Europe/Berlin", crontab(minute=30, hour=4), None),
        ("Europe/Berlin", crontab(minute=30, hour=2, day_of_month=1), None),
        ("Europe/Berlin", crontab(30, 2, day_of_month="1-24", day_of_week=0), None),
        ("Europe/Berlin", crontab(30, 2, day_of_month="25-31", day_of_week=0), "due at 03:30+0200"),
        ("America/New_York", crontab(minute=30, hour=2), "due at 03:30-0400 and not at 03:00"),
        ("Asia/Kolkata", crontab(minute=30, hour=2), None),
        ("UTC", crontab(minute=0), None),
    ],
)
def test_what_a_change_of_the_clocks_does_to_a_crontab_is_named(run, app, zone, given, reported):
    app.conf.timezone = zone
    app.conf.beat_schedule = {"a": {"task": "shop.report", "schedule": given}}
    given.app = app
    start_beat(app)
    found = check(run)
    if reported is None:
        assert found == {}
    else:
        assert any(
            reported in text and "when the clocks change" in text for text in found["clocks"]
        )


def test_an_entry_that_cannot_be_read_here_is_named(run, control, connection):
    control.put("a", "shop.report", 60)
    connection.execute('UPDATE pgjobs.schedules SET schedule = \'{"type": "cron"}\'')
    assert check(run) == {"unread": ["a: its schedule cannot be read here: {'type': 'cron'}"]}

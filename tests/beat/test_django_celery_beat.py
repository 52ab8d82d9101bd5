"""``import-django-celery-beat``, from tables that django-celery-beat has made itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from types import ModuleType
from typing import Any

import psycopg
import pytest
from celery import Celery
from celery.bin.celery import celery
from celery.schedules import crontab, schedule
from click.testing import CliRunner, Result
from psycopg.conninfo import conninfo_to_dict

from pgjobs_celery import cron, jobs, schedules
from pgjobs_celery.beat.django_celery_beat import Imported, import_entries
from pgjobs_celery.beat.next_tick import next_tick
from pgjobs_celery.beat.schedules import Schedules
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows.django_celery_beat import read_django_entries
from pgjobs_celery.errors import PgJobsError
from pgjobs_celery.job.states import State

from ..conftest import close_app

pytest.importorskip("django_celery_beat")

AFTER = datetime(2026, 11, 25, 11, 7, 3, tzinfo=timezone.utc)
SOON = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=2)
DAILY = {"minute": "30", "hour": "2", "timezone": "Europe/Berlin"}


def entry(name: str, **columns: Any) -> dict[str, Any]:
    return {"name": name, "task": "shop.report", "after": AFTER.isoformat(), **columns}


ENTRIES = [
    entry("interval", interval={"every": 5, "period": "minutes"}, args="[1, 2]", kwargs='{"x": 1}'),
    entry("interval of days", interval={"every": 1, "period": "days"}),
    entry("ours", crontab=DAILY, queue="slow", priority=3, headers='{"h": 1}', expire_seconds=60),
    entry("routed", crontab=DAILY, exchange="e", routing_key="r"),
    entry("both days", crontab={**DAILY, "day_of_month": "1-7", "day_of_week": "mon"}),
    entry("elsewhere", crontab={**DAILY, "hour": "*/6", "timezone": "Asia/Kolkata"}),
    entry(
        "elsewhere, listed",
        crontab={
            "minute": "0, 30", "hour": "9-17/2", "day_of_week": "mon-fri", "month_of_year": "jan,7",
            "timezone": "America/New_York",
        },
    ),
    entry(
        "elsewhere, both days",
        crontab={**DAILY, "day_of_month": "1", "day_of_week": "1", "timezone": "Asia/Tokyo"},
    ),
    entry("disabled", interval={"every": 1, "period": "hours"}, enabled=False),
    entry("no JSON", interval={"every": 1, "period": "hours"}, args="[1"),
    entry("no list", interval={"every": 1, "period": "hours"}, args='{"x": 1}'),
    entry("clocked", clocked={"clocked_time": SOON.isoformat()}, one_off=True, args="[7]"),
    entry(
        "clocked, past", clocked={"clocked_time": "2020-01-01T00:00:00+00:00"}, one_off=True
    ),
    entry("once", crontab=DAILY, one_off=True),
    entry("once, disabled", crontab=DAILY, one_off=True, enabled=False),
    entry("later", interval={"every": 1, "period": "hours"}, start_time=SOON.isoformat()),
    entry("ends", interval={"every": 1, "period": "hours"}, expires=SOON.isoformat()),
    entry("ended", interval={"every": 1, "period": "hours"}, expires="2020-01-01T00:00:00+00:00"),
    entry("solar", solar={"event": "sunset", "latitude": "52.5", "longitude": "13.4"}),
    entry("unknown", interval={"every": 1, "period": "hours"}, task="shop.repotr"),
    entry("nightly", crontab=DAILY),
    entry("nightly, disabled", crontab=DAILY, enabled=False),
    entry("celery.backend_cleanup", crontab=DAILY, task="celery.backend_cleanup"),
]  # fmt: skip


@pytest.fixture(scope="module")
def django_url(make_migrated: Callable[[], str]) -> str:
    """A database with our tables and Django's."""
    return make_migrated()


@pytest.fixture(scope="module")
def ticks(django_url: str) -> dict[str, list[datetime]]:
    """When the entries that Django has made are due, as it reckons."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.django_entries", parse_url(django_url)],
        input=json.dumps(ENTRIES),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {name: [datetime.fromisoformat(at) for at in all] for name, all in found.items()}


@pytest.fixture
def connection(django_url: str, ticks: Any) -> Iterator[psycopg.Connection]:
    """Autocommit; what a test changes in Django's tables is taken back."""
    with psycopg.connect(parse_url(django_url), autocommit=True) as connection:
        connection.execute("TRUNCATE pgjobs.jobs, pgjobs.schedules")
        connection.execute("CREATE TABLE kept AS SELECT * FROM django_celery_beat_periodictask")
        yield connection
        connection.execute(
            "TRUNCATE django_celery_beat_periodictask; "
            "INSERT INTO django_celery_beat_periodictask SELECT * FROM kept; DROP TABLE kept"
        )


@pytest.fixture
def app(django_url: str, connection: psycopg.Connection) -> Iterator[Celery]:
    app = Celery("shop", broker=django_url, backend=django_url, set_as_current=False)
    app.conf.update(
        timezone="Europe/Berlin",
        beat_schedule={
            "nightly": {"task": "shop.report", "schedule": crontab()},
            "nightly, disabled": {"task": "shop.report", "schedule": crontab()},
        },
    )
    app.task(report, name="shop.report")
    yield app
    close_app(app)


def report(*args: Any, **kwargs: Any) -> None: ...


@pytest.fixture
def control(app: Celery) -> Schedules:
    return schedules(app)


def take_over(control: Schedules, url: str, **options: Any) -> dict[str, Imported]:
    there = read_django_entries(parse_url(url))
    return {outcome.name: outcome for outcome in import_entries(control, there, **options)}


def test_every_entry_is_taken_over_or_it_is_said_why_not(control, django_url):
    outcomes = take_over(control, django_url)
    assert {name: outcome.action for name, outcome in outcomes.items()} == {
        "interval": "added",
        "interval of days": "added",
        "ours": "added",
        "routed": "added",
        "both days": "added",
        "elsewhere": "added",
        "elsewhere, listed": "added",
        "elsewhere, both days": "left out",
        "disabled": "added",
        "no JSON": "left out",
        "no list": "left out",
        "clocked": "published",
        "clocked, past": "left out",
        "once": "published",
        "once, disabled": "left out",
        "later": "added",
        "ends": "added",
        "ended": "not needed",
        "solar": outcomes["solar"].action,
        "unknown": "added",
        "nightly": "not needed",
        "nightly, disabled": "left out",
        "celery.backend_cleanup": "not needed",
    }
    for name, note in {
        "elsewhere": r"'a cron\(\) in Asia/Kolkata'",
        "elsewhere, listed": r"a cron\(\) in America/New_York: when the clocks change",
        "elsewhere, both days": "in Asia/Tokyo, the app in Europe/Berlin",
        "disabled": "paused",
        "no JSON": "its args are not JSON",
        "no list": "its args must be a list",
        "clocked": "a job that runs once",
        "clocked, past": "is past",
        "once, disabled": "disabled",
        "ends": "its jobs expire at",
        "ended": "has expired",
        "unknown": "did you mean 'shop.report'",
        "nightly": "is in beat_schedule",
        "nightly, disabled": "pause it once a beat has started",
    }.items():
        assert re.search(note, str(outcomes[name].notes)), name


def test_an_entry_is_here_what_it_is_there(control, django_url):
    take_over(control, django_url)
    interval = control.get("interval")
    assert (interval.task, interval.args, interval.kwargs) == ("shop.report", [1, 2], {"x": 1})
    assert (interval.schedule, interval.options) == (schedule(300), {})
    assert interval.is_configured is False
    ours = control.get("ours")
    assert ours.options == {"queue": "slow", "priority": 3, "headers": {"h": 1}, "expires": 60}
    assert ours.schedule == crontab(minute="30", hour="2")
    assert control.get("routed").options == {"exchange": "e", "routing_key": "r"}
    assert control.get("ends").options == {"expires": SOON}
    assert control.get("disabled").is_paused
    assert control.get("elsewhere").schedule == cron("30 */6 * * *", tz="Asia/Kolkata")
    assert control.get("later").next_run_at == SOON


def test_the_ticks_are_those_that_django_celery_beat_would_have(control, django_url, ticks):
    take_over(control, django_url)
    compared = 0
    for each in control:
        after, found = AFTER, []
        for _ in ticks.get(each.name, ()):
            after = next_tick(each.schedule, after)
            found.append(after)
        assert found == ticks.get(each.name, []), each.name
        compared += bool(found)
    assert compared >= 10


def test_a_solar_entry_is_taken_over_where_its_library_is(control, django_url):
    pytest.importorskip("ephem")
    assert take_over(control, django_url)["solar"].action == "added"
    assert control.get("solar").spec == {
        "type": "solar", "event": "sunset", "lat": 52.5, "lon": 13.4,
    }  # fmt: skip


def test_a_solar_entry_is_left_out_in_one_line_where_its_library_is_not(
    control, django_url, monkeypatch
):
    monkeypatch.setitem(sys.modules, "ephem", None)
    outcome = take_over(control, django_url)["solar"]
    assert outcome.action == "left out"
    assert "ephem" in outcome.notes[0]
    assert "\n" not in outcome.notes[0]


def test_what_runs_once_is_a_job_that_waits(app, control, django_url):
    take_over(control, django_url)
    assert control.get("clocked") is None
    found = {job.meta["schedule"]: job for job in jobs(app)}
    assert found.keys() == {"clocked", "once"}
    assert (found["clocked"].state, found["clocked"].args) == (State.SCHEDULED, [7])
    assert found["clocked"].scheduled_at == SOON
    local = found["once"].scheduled_at.astimezone(app.timezone)
    assert (local.hour, local.minute) == (2, 30)


def test_a_second_time_it_changes_nothing(app, control, django_url):
    take_over(control, django_url)
    before = list(control), list(jobs(app))
    again = take_over(control, django_url)
    assert (list(control), list(jobs(app))) == before
    assert {outcome.action for outcome in again.values()} == {
        "unchanged", "not needed", "left out",
    }  # fmt: skip


def test_a_dry_run_says_the_same_and_writes_nothing(app, control, django_url):
    rehearsed = take_over(control, django_url, dry_run=True)
    assert (list(control), jobs(app).count()) == ([], 0)
    assert rehearsed == take_over(control, django_url)


def test_what_has_changed_there_is_brought_here(app, control, django_url, connection):
    take_over(control, django_url)
    before = control.get("interval")
    connection.execute(
        "UPDATE django_celery_beat_periodictask SET args = '[3]', enabled = NOT enabled "
        "WHERE name IN ('interval', 'disabled')"
    )
    later = SOON + timedelta(days=1)
    move = "UPDATE django_celery_beat_clockedschedule SET clocked_time = %s WHERE clocked_time = %s"
    connection.execute(move, (later, SOON))
    outcomes = take_over(control, django_url)
    changed = {name for name, outcome in outcomes.items() if outcome.action == "changed"}
    assert changed == {"interval", "disabled", "clocked"}
    assert (control.get("interval").args, control.get("interval").is_paused) == ([3], True)
    assert before.args == [1, 2]
    assert control.get("disabled").is_paused is False
    (job,) = jobs(app).filter(meta={"schedule": "clocked"})
    assert job.scheduled_at == later
    connection.execute(move, (SOON, later))


def test_it_goes_on_where_the_last_run_was(control, django_url, connection):
    last = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(hours=23)
    connection.execute(
        "UPDATE django_celery_beat_periodictask SET last_run_at = %s WHERE name LIKE 'interval%%'",
        (last,),
    )
    outcomes = take_over(control, django_url)
    assert control.get("interval of days").next_run_at == last + timedelta(days=1)
    assert control.get("interval").next_run_at == last + timedelta(minutes=5)
    assert "it is overdue there, and runs with the first beat" in outcomes["interval"].notes


def test_to_expire_after_0_seconds_is_never_to_expire(control, django_url, connection):
    connection.execute("UPDATE django_celery_beat_periodictask SET expire_seconds = 0")
    take_over(control, django_url)
    assert "expires" not in control.get("ours").options


@pytest.mark.parametrize(
    ("column", "at", "left_out", "note"),
    [
        ("last_run_at", "infinity", False, "its last_run_at is infinity, and is not taken over"),
        ("last_run_at", "0044-03-15 12:00:00+00 BC", False, "BC, and is not taken over"),
        ("date_changed", "infinity", False, ""),
        ("expires", "infinity", False, ""),
        ("expires", "-infinity", False, "its expires is -infinity"),
        ("start_time", "infinity", True, "its start_time is infinity"),
        ("start_time", "-infinity", False, ""),
    ],
)
def test_a_time_that_python_cannot_hold_is_that_entrys_own_matter(
    control, django_url, connection, column, at, left_out, note
):
    connection.execute(
        f"UPDATE django_celery_beat_periodictask SET {column} = %s WHERE name = 'interval of days'",
        (at,),
    )
    outcomes = take_over(control, django_url)
    odd = outcomes.pop("interval of days")
    assert odd.action == ("left out" if left_out else "added")
    assert note in "; ".join(odd.notes)
    assert outcomes["interval"].action == "added"
    assert (control.get("interval of days") is None) is left_out
    assert read_django_entries(parse_url(django_url))


def test_a_clocked_time_that_never_comes_is_left_out(control, django_url, connection):
    move = "UPDATE django_celery_beat_clockedschedule SET clocked_time = %s WHERE clocked_time = %s"
    connection.execute(move, ("infinity", SOON))
    outcomes = take_over(control, django_url)
    assert outcomes["clocked"] == Imported("clocked", "left out", ["its clocked_time is infinity"])
    connection.execute(move, (SOON, "infinity"))


def test_what_has_run_once_is_not_run_again(app, control, django_url, connection):
    take_over(control, django_url)
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'completed', due_at = NULL, finished_at = now()"
    )
    outcomes = take_over(control, django_url)
    assert outcomes["clocked"] == Imported(
        "clocked", "unchanged", ["it runs once, and its job is completed"]
    )
    connection.execute("UPDATE django_celery_beat_periodictask SET total_run_count = 1")
    connection.execute("DELETE FROM pgjobs.jobs")
    assert take_over(control, django_url)["clocked"].action == "not needed"
    assert jobs(app).count() == 0


def test_one_of_the_programs_is_paused_where_it_is_disabled_there(control, django_url, connection):
    connection.execute(
        "INSERT INTO pgjobs.schedules (app, name, is_configured, task, schedule, definition, "
        "next_run_at) VALUES ('shop', 'nightly, disabled', true, 'shop.report', '{}', '', now())"
    )
    outcome = take_over(control, django_url)["nightly, disabled"]
    assert (outcome.action, control.get("nightly, disabled").is_paused) == ("changed", True)
    assert take_over(control, django_url)["nightly, disabled"].action == "not needed"


def test_without_such_tables_it_says_where_it_has_looked(bare_database):
    with pytest.raises(PgJobsError, match=r"no tables of django-celery-beat .*: name their"):
        read_django_entries(bare_database)


@pytest.fixture
def run(app: Celery, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``celery -A django_shop pgjobs schedules import-django-celery-beat ...``."""
    module = ModuleType("django_shop")
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "django_shop", module)
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)

    def run(*args: str) -> Result:
        words = ["-A", "django_shop", "pgjobs", "schedules", "import-django-celery-beat", *args]
        return CliRunner().invoke(celery, words)

    return run


def test_the_command_reports_each_entry_and_fails_if_one_is_left_out(
    run, control, django_url, connection
):
    done = run("--dry-run")
    assert done.exit_code == 1
    assert "elsewhere: added; a cron() in Asia/Kolkata" in done.output
    assert done.output.splitlines()[-1].endswith(": nothing was written")
    assert list(control) == []
    data = {each["name"]: each for each in json.loads(run("--json").output)}
    assert data["disabled"] == {"name": "disabled", "action": "added", "notes": ["paused"]}
    connection.execute("DELETE FROM django_celery_beat_periodictask WHERE name <> 'interval'")
    done = run()
    assert (done.exit_code, done.output) == (0, "interval: unchanged\n1 unchanged\n")


def test_the_tables_may_be_in_another_database(run, control, django_url, bare_database):
    done = run("--from", django_url.replace("pgjobs://", "postgresql://"), "--dry-run")
    assert "interval: added" in done.output
    done = run(
        "--from", django_url.rpartition("/")[0] + f"/{conninfo_to_dict(bare_database)['dbname']}"
    )
    assert done.exit_code == 1
    assert len(done.output.splitlines()) == 1
    assert done.output.startswith("Error: ")

"""Rows of ``schedules`` that somebody has written by hand: the entry is set aside, others go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import psycopg
import pytest
from celery import Celery
from click.testing import Result
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pgjobs_celery import cron, schedules
from pgjobs_celery.beat.scheduler import PgScheduler
from pgjobs_celery.beat.schedules import Schedules

from ..conftest import Connection
from ..support.shop import entries, jobs, make_shop, published, run_schedules, tick

#: What PostgreSQL has as a time, and Python does not.
TIMES = ["infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "294276-12-31 23:59:59+00"]
RARELY = 86_400.0


@pytest.fixture
def app(make_app: Callable[..., Celery], monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An app that ``celery -A cli_shop`` finds, with an entry of its own."""
    app = make_shop(make_app, monkeypatch)
    app.conf.beat_schedule = {"own": {"task": "shop.report", "schedule": RARELY}}
    return app


@pytest.fixture
def control(app: Celery) -> Schedules:
    return schedules(app)


@pytest.fixture
def run(app: Celery) -> Callable[..., Result]:
    """``celery -A cli_shop pgjobs schedules ...``."""
    return run_schedules


@pytest.fixture
def write(connection: Connection) -> Callable[..., None]:
    """Write into the row of an entry, as somebody with psql."""

    def write(name: str, **columns: Any) -> None:
        sets = ", ".join(f"{column} = %s" for column in columns)
        connection.execute(
            f"UPDATE pgjobs.schedules SET {sets}, version = nextval('pgjobs.schedules_version')"
            " WHERE name = %s",
            [*columns.values(), name],
        )

    return write


@pytest.mark.parametrize("column", ["next_run_at", "last_run_at", "paused_at", "inserted_at"])
@pytest.mark.parametrize("at", TIMES)
def test_a_time_that_python_cannot_hold_stops_no_other_entry(
    app, control, write, run, connection, caplog, column, at
):
    for name in ("bad", "good"):
        control.put(name, "shop.report", RARELY)
    beat = PgScheduler(app)
    tick(beat)
    for name in ("bad", "good", "own"):
        write(name, next_run_at="now")
    for name in ("bad", "own"):
        write(name, **{column: at})
    tick(beat)
    is_published = column in ("last_run_at", "inserted_at")
    everything = {"bad": 1, "good": 1, "own": 1}
    assert published(connection) == (everything if is_published else {"good": 1})
    is_named = "entry 'bad'" in caplog.text and f"its {column} is not a time" in caplog.text
    assert is_named is (column != "inserted_at")
    # As after a restart.
    again = PgScheduler(app)
    tick(again)
    found = {each.name: each for each in control}
    assert found.keys() == {"bad", "good", "own"}
    assert not found["good"].damage
    for name in ("bad", "own"):
        # What was published has a last run again.
        assert bool(found[name].damage) is (column in ("next_run_at", "paused_at"))
        assert found[name].is_paused is (column == "paused_at")
    assert run("list").exit_code == run("list", "--json").exit_code == 0
    assert run("show", "bad", "--json").exit_code == 0


@pytest.mark.parametrize("at", TIMES)
def test_a_damaged_entry_is_shown_repaired_and_goes_on(app, control, write, run, connection, at):
    control.put("bad", "shop.report", RARELY, (1,))
    beat = PgScheduler(app)
    tick(beat)
    write("bad", next_run_at=at, last_run_at=at)
    write("own", next_run_at=at)
    shown = {line.split()[0]: line for line in run("list").output.splitlines() if line.split()}
    for name in ("bad", "own"):
        assert " damaged " in shown[name]
        assert "its next_run_at" in shown[name]
    assert "damaged: its next_run_at, last_run_at are not times" in run("check").output
    found = control.get("bad")
    assert (found.next_run_at, found.args) == (None, [1])
    done = run("repair", "bad", "own")
    assert done.exit_code == 0
    assert [line.split(" at ")[0] for line in done.output.splitlines()] == [
        "bad is due next",
        "own is due next",
    ]
    assert run("repair", "bad").output == "bad needs no repair\n"
    assert run("repair", "nobody").exit_code == 1
    rows = entries(connection)
    assert all(rows[name]["next_run_at"] > datetime.now(timezone.utc) for name in ("bad", "own"))
    for name in ("bad", "own"):
        write(name, next_run_at="now")
    tick(beat)
    assert published(connection) == {"bad": 1, "own": 1}


def test_a_damaged_pause_stays_one_until_it_is_resumed(app, control, write, run, connection):
    control.put("bad", "shop.report", RARELY)
    beat = PgScheduler(app)
    write("bad", next_run_at="now", paused_at="infinity")
    tick(beat)
    assert "bad is paused" in run("repair", "bad").output
    assert control.get("bad").paused_at is not None
    write("bad", paused_at="-infinity")
    assert control.resume("bad") is True
    assert not control.get("bad").damage
    tick(beat)
    assert jobs(connection) == []


def test_a_damaged_entry_can_be_put_anew_and_deleted(control, write, run, connection):
    control.put("bad", "shop.report", cron("@daily"))
    write("bad", next_run_at="infinity")
    assert control.put("bad", "shop.report", cron("@daily")).next_run_at is not None
    write("bad", next_run_at="-infinity", args="[1", schedule="[1]")
    done = run("repair", "bad")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "the row of entry 'bad' cannot be read" in done.output
    assert run("delete", "bad").output == "bad is deleted\n"
    assert entries(connection) == {}


def test_a_count_that_can_go_no_further_costs_no_tick(app, control, write, connection):
    control.put("often", "shop.report", RARELY)
    beat = PgScheduler(app)
    tick(beat)
    write("often", next_run_at="now", total_run_count=2**63 - 1)
    tick(beat)
    control.run("often")
    assert published(connection) == {"often": 2}


def test_versions_that_are_too_large_together_hide_nothing(app, control, connection):
    for name in ("a", "b"):
        control.put(name, "shop.report", RARELY)
    connection.execute(
        "UPDATE pgjobs.schedules SET version = 9223372036854775807, next_run_at = now()"
    )
    tick(PgScheduler(app))
    assert published(connection) == {"a": 1, "b": 1}


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(allow_nan=False), TEXTS,
    st.sampled_from(["*", "* * * * *", "@daily", "0 0 30 2 *", "Europe/Berlin", "sunset", ""]),
)  # fmt: skip
DATA = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["every", "relative", "expression", "tz", "minute", "hour", "day_of_week", "day_of_month",
     "month_of_year", "event", "lat", "lon", "repr", "class", "__type__", "__value__"]
)  # fmt: skip
SPECS = st.builds(
    lambda kind, rest: {**rest, "type": kind},
    st.sampled_from(["interval", "cron", "crontab", "solar", "other", "?"]) | VALUES,
    st.dictionaries(KEYS, VALUES, max_size=6),
)
JSON = st.one_of(
    st.none(), TEXTS, DATA.map(json.dumps), st.just("[" * 5000 + "]" * 5000),
    st.sampled_from(['{"__type__": "datetime", "__value__": 5}', '[1e999]', "NaN"]),
    st.dictionaries(
        st.sampled_from(["queue", "priority", "expires", "eta", "headers", "tags", "link", "missed",
                         "task_id", "unique", "serializer", "countdown", "producer", "connection"]),
        DATA, max_size=3,
    ).map(json.dumps),
)  # fmt: skip
MOMENTS = st.sampled_from(
    [*TIMES, "0001-01-01 00:00:00+00", "0001-01-03 00:00:00+00", "9999-12-31 23:59:59.999999+00",
     "1970-01-01", "2026-01-01", "now"]
)  # fmt: skip
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "task": TEXTS | st.sampled_from(["shop.report", "shop.none"]),
        "args": JSON,
        "kwargs": JSON,
        "options": JSON,
        "schedule": (SPECS | DATA).map(json.dumps),
        "definition": TEXTS,
        "missed": st.sampled_from(["once", "skip", "all"]),
        "missed_limit": st.integers(1, 2**31 - 1),
        "next_run_at": MOMENTS,
        "last_run_at": st.none() | MOMENTS,
        "paused_at": st.none() | MOMENTS,
        "last_task_id": st.none() | TEXTS,
        "total_run_count": st.integers(-(2**63), 2**63 - 1),
        "version": st.integers(-(2**63), 2**63 - 1),
    },
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ROWS)
@example({"schedule": json.dumps({"type": "interval", "every": 1e-9}), "next_run_at": "now"})
@example({"schedule": json.dumps({"type": "interval", "every": 1e300}), "next_run_at": "now"})
@example({"next_run_at": "0001-01-03 00:00:00+00", "missed": "all", "missed_limit": 2**31 - 1})
def test_whatever_a_row_holds_others_are_published_and_it_can_be_deleted(
    app, control, write, run, connection, columns
):
    connection.execute("DELETE FROM pgjobs.jobs")
    connection.execute("DELETE FROM pgjobs.schedules")
    for name in ("bad", "good"):
        control.put(name, "shop.report", RARELY)
    beat = PgScheduler(app)
    tick(beat)
    version = columns.pop("version", None)
    try:
        write("bad", **{"next_run_at": "now", **columns})
        if version is not None:
            connection.execute(
                "UPDATE pgjobs.schedules SET version = %s WHERE name = 'bad'", [version]
            )
    except (psycopg.DataError, psycopg.IntegrityError):
        return  # no row can hold that
    write("good", next_run_at="now")
    for each in (beat, PgScheduler(app)):
        each._next_look = 0.0
        for _ in range(20):
            each.tick()
    assert published(connection)["good"] == 1
    assert {each.name for each in control} >= {"bad", "good"}
    for command in (("list",), ("list", "--json"), ("show", "bad"), ("check",)):
        assert run(*command).exit_code in (0, 1), command
        assert "bad" in run(*command).output or command == ("check",)
    assert run("delete", "bad").exit_code == 0

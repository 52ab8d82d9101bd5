"""The rows of schedules: who moves them on, who may change them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from pgjobs_celery.config import Options
from pgjobs_celery.db.database import CONNECTION_ERRORS, Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows import schedules
from pgjobs_celery.db.rows.schedules import Advance, ScheduleRow, ScheduleRows

from ..conftest import Connection

NOW = datetime.now(timezone.utc).replace(microsecond=0)
LATER = NOW + timedelta(hours=1)


@pytest.fixture
def rows(database: Database) -> ScheduleRows:
    return ScheduleRows(database, "app")


@pytest.fixture
def other(url: str) -> Iterator[ScheduleRows]:
    """The same, as another process has it."""
    database = Database(parse_url(url), Options())
    yield ScheduleRows(database, "app")
    database.close()


def entry(name: str, **fields: Any) -> ScheduleRow:
    given = {
        "is_configured": False, "task": "work", "args": "[]", "kwargs": "{}", "options": "{}",
        "schedule": '{"type": "interval", "every": 1}', "definition": "x", "missed": "once",
        "missed_limit": 100, "next_run_at": NOW,
    }  # fmt: skip
    return ScheduleRow(name=name, **{**given, **fields})


@pytest.fixture
def advance(rows: ScheduleRows) -> Callable[[str], Advance]:
    """A factory of moves of entries as they are now, by a tick."""

    def advance(name: str) -> Advance:
        version = rows.list_versions().get(name, 0)
        return Advance(name, version, NOW, LATER, NOW, f"id of {name}", 1)

    return advance


def test_an_entry_is_moved_on_by_one_of_many(rows, url, advance):
    names = [f"e{number}" for number in range(20)]
    rows.register_schedules([entry(name) for name in names], keep=names)

    moves = {name: advance(name) for name in names}

    def move(number: int) -> set[str]:
        database = Database(parse_url(url), Options())
        mine = ScheduleRows(database, "app")
        try:
            with mine.publishing():
                # In an order of its own, which would be a deadlock if one waited for another.
                order = names[number:] + names[:number]
                return mine.advance_schedules([moves[name] for name in order])
        finally:
            database.close()

    with ThreadPoolExecutor(6) as pool:
        moved = [name for found in pool.map(move, range(6)) for name in found]
    assert len(moved) == len(set(moved)) <= 20
    left = rows.advance_schedules([advance(name) for name in names])
    assert sorted([*moved, *left]) == sorted(names)
    for row in rows.get_schedules():
        assert (row.next_run_at, row.last_run_at) == (LATER, NOW)
        assert (row.last_task_id, row.total_run_count) == (f"id of {row.name}", 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"expected": LATER},
        {"version": 1},
        {"name": "no such"},
    ],
)
def test_an_entry_that_is_not_as_it_was_thought_stays(fields, rows, advance):
    rows.put_schedule(entry("a"))
    before = rows.get_schedules()
    assert rows.advance_schedules([advance("a")._replace(**fields)]) == set()
    assert rows.get_schedules() == before


def test_what_is_locked_is_skipped_and_what_is_taken_back_is_free_again(rows, other, advance):
    rows.register_schedules([entry("a"), entry("b")], keep=["a", "b"])

    def fail() -> None:
        with rows.publishing():
            assert rows.advance_schedules([advance("a")]) == {"a"}
            assert other.advance_schedules([advance("a"), advance("b")]) == {"b"}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert other.advance_schedules([advance("a"), advance("b")]) == {"a"}


def test_a_beat_that_stops_before_it_commits_has_lost_its_connection(
    rows, other, monkeypatch, advance
):
    monkeypatch.setattr(schedules, "IDLENESS", 100)
    rows.put_schedule(entry("a"))

    def stop() -> None:
        with rows.publishing():
            assert rows.advance_schedules([advance("a")]) == {"a"}
            time.sleep(0.3)

    with pytest.raises(CONNECTION_ERRORS):
        stop()
    assert other.advance_schedules([advance("a")]) == {"a"}
    assert rows.look().fingerprint == other.look().fingerprint


def test_a_tick_is_no_change_and_everything_else_is(rows, advance):
    rows.register_schedules([entry("own")], keep=["own"])
    seen = {rows.look().fingerprint}

    def is_seen() -> bool:
        fingerprint = rows.look().fingerprint
        is_new = fingerprint not in seen
        seen.add(fingerprint)
        return is_new

    assert rows.put_schedule(entry("a"))
    assert is_seen()
    rows.advance_schedules([advance("a")])
    rows.record_run("a", "an id")
    rows.register_schedules([entry("own")], keep=["own"])
    assert not is_seen()
    for change in (
        lambda: rows.put_schedule(entry("a", args="[1]")),
        lambda: rows.pause_schedule("a"),
        lambda: rows.resume_schedule("a", LATER),
        lambda: rows.register_schedules([entry("own", args="[1]")]),
        lambda: rows.delete_schedule("a"),
        lambda: rows.put_schedule(entry("b")),
        lambda: rows.register_schedules([], keep=[]),
    ):
        change()
        assert is_seen()


def test_entries_of_a_program_replace_its_earlier_ones_and_no_others(rows, other, database):
    elsewhere = ScheduleRows(database, "another app")
    elsewhere.register_schedules([entry("a")], keep=["a"])
    rows.put_schedule(entry("made at run time"))
    rows.register_schedules([entry("a"), entry("b")], keep=["a", "b"])
    assert rows.register_schedules([entry("b"), entry("c")], keep=["b", "c", "wrong"]) == ["a"]
    assert rows.register_schedules([entry("d")]) == []
    assert [row.name for row in rows.get_schedules()] == ["b", "c", "d", "made at run time"]
    assert [row.name for row in elsewhere.get_schedules()] == ["a"]


def test_an_entry_of_the_program_is_not_changed_at_run_time_nor_the_other_way_round(rows):
    rows.register_schedules([entry("own")], keep=["own"])
    assert not rows.put_schedule(entry("own", args="[1]"))
    assert not rows.delete_schedule("own")
    rows.put_schedule(entry("made"))
    rows.register_schedules([entry("own"), entry("made", args="[2]")], keep=["own", "made"])
    assert {row.name: (row.is_configured, row.args) for row in rows.get_schedules()} == {
        "own": (True, "[]"),
        "made": (False, "[]"),
    }


def test_another_schedule_begins_anew_and_the_same_goes_on(rows):
    rows.register_schedules([entry("a")], keep=["a"])
    rows.register_schedules([entry("a", task="other", next_run_at=LATER)], keep=["a"])
    (row,) = rows.get_schedules()
    assert (row.task, row.next_run_at) == ("other", NOW)
    rows.register_schedules([entry("a", definition="y", next_run_at=LATER)], keep=["a"])
    assert rows.get_schedules()[0].next_run_at == LATER


def test_moments_are_in_utc_whatever_the_session_has(rows, connection: Connection, url):
    rows.put_schedule(entry("a"))
    rows.pause_schedule("a")
    rows.record_run("a", "an id")
    database = Database(f"{parse_url(url)} options='-c timezone=Asia/Kathmandu'", Options())
    (row,) = ScheduleRows(database, "app").get_schedules()
    database.close()
    assert row.next_run_at == NOW
    for moment in (row.next_run_at, row.last_run_at, row.paused_at):
        assert moment.tzinfo is timezone.utc
    assert replace(row, version=0) == replace(rows.get_schedules()[0], version=0)


def test_which_ticks_have_jobs(rows, database, connection: Connection):
    assert rows.find_ticks([]) == set()
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, state, finished_at)"
        " VALUES ('x', 'work', 'celery', 'cancelled', now())"
    )
    assert rows.find_ticks(["x", "y"]) == {"x"}

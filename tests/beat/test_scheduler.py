"""The scheduler, ticked by hand: what it publishes of what, and what becomes of the rest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from celery import Celery
from celery.beat import BeatLazyFunc, ScheduleEntry
from celery.schedules import BaseSchedule, crontab, schedstate, schedule
from celery.signals import before_task_publish
from kombu import Exchange, Queue

from pgjobs_celery import PgTask, Unique
from pgjobs_celery.beat.entry import PgEntry, to_row
from pgjobs_celery.beat.scheduler import PgScheduler
from pgjobs_celery.db.rows import schedules
from pgjobs_celery.db.rows.schedules import ScheduleRow
from pgjobs_celery.errors import InvalidOption, PgJobsError, UnknownOption

from ..conftest import Connection
from ..support.proxies import Proxy
from ..support.shop import entries, jobs, published, tick
from ..support.waiting import wait_for

MakeApp = Callable[..., Celery]
Row = dict[str, Any]

#: Never due within a test.
RARELY = 86_400.0


def work(*args: Any, **kwargs: Any) -> None:
    """Never run here."""


@pytest.fixture
def beat_app(make_app: MakeApp) -> MakeApp:
    """A factory of apps with a task ``work`` and entries of it, which are given without it."""

    def make(name: str = "tests", entries: dict[str, dict[str, Any]] | None = None, **conf: Any):
        app = make_app(name, **conf)
        app.task(work, name="work")
        app.conf.beat_schedule = {
            key: {"task": "work", "schedule": RARELY, **entry}
            for key, entry in (entries or {}).items()
        }
        return app

    return make


@pytest.fixture
def make_due(connection: Connection) -> Callable[..., None]:
    """Have entries be due some seconds ago, as if that time had passed."""

    def make_due(*names: str, seconds: float = 0.01) -> None:
        connection.execute(
            "UPDATE pgjobs.schedules SET next_run_at = now() - %s * interval '1 second',"
            " version = nextval('pgjobs.schedules_version')"
            " WHERE %s::text[] = '{}' OR name = ANY (%s::text[])",
            [seconds, list(names), list(names)],
        )

    return make_due


# Entries


def test_a_job_knows_its_entry_and_its_tick(beat_app, make_due, connection):
    beat = PgScheduler(beat_app(entries={"all": {"args": (1,), "kwargs": {"x": 2}}}))
    tick(beat)
    make_due("all")
    due = entries(connection)["all"]["next_run_at"]
    tick(beat)
    (job,) = jobs(connection)
    assert job["meta"] == {
        "schedule": "all",
        "tick": due.astimezone(timezone.utc).isoformat(),
    }
    assert b'"x": 2' in job["body"]
    row = entries(connection)["all"]
    assert (row["last_task_id"], row["last_run_at"]) == (job["task_id"], due)
    assert row["total_run_count"] == 1
    assert row["next_run_at"] == due + timedelta(seconds=RARELY)
    assert beat.rows.get_schedules()[0].last_state == "available"


def test_what_is_wrong_with_an_entry_is_said_and_stops_no_other(
    beat_app, make_due, connection, caplog
):
    def fail() -> None:
        raise OSError("no such file")

    beat = PgScheduler(
        beat_app(
            entries={
                "key": {"shedule": 1},
                "task": {"task": None},
                "schedule": {"schedule": {"every": 1}},
                "args": {"args": "abc"},
                "options": {"options": ["queue"]},
                "missed": {"missed": "twice"},
                "never": {"schedule": "0 0 30 2 *"},
                "always": {"schedule": 0},
                "nul\0": {},
                "x" * 1001: {},
                "limit": {"missed_limit": 10_001},
                "object": {"args": (object(),)},
                "lazy": {"kwargs": {"now": BeatLazyFunc(fail)}},
                "exchange": {"options": {"exchange": "nowhere", "routing_key": "x"}},
                "tags": {"options": {"tags": [""]}},
                "good": {},
                "also good": {},
            }
        )
    )
    tick(beat)
    for warning in (
        "there is no key 'shedule'; did you mean 'schedule'?",
        "task must be text, not None",
        "its name must have 1 to 1,000 bytes",
        "missed_limit must be a whole number from 1 to 10,000",
        "not {'every': 1}",
        "args must be a tuple or list, not 'abc'",
        "options must be a dict",
        "not 'twice'",
        "is never due",
        "is due at once",
        "NUL",
    ):
        assert warning in caplog.text
    assert entries(connection).keys() == {
        *("object", "lazy", "exchange", "tags", "good", "also good")
    }
    caplog.clear()
    make_due()
    tick(beat)
    assert published(connection) == {"good": 1, "also good": 1}
    for name in ("object", "lazy", "exchange", "tags"):
        assert f"a tick of entry '{name}' is lost" in caplog.text
        row = entries(connection)[name]
        assert (row["total_run_count"], row["last_task_id"]) == (0, None)
    assert all(
        not row["next_run_at"].timestamp() < time.time() for row in entries(connection).values()
    )


def test_a_queue_that_was_declared_in_vain_is_declared_again(beat_app, make_due, connection):
    app = beat_app(
        entries={"bad": {"args": (object(),)}, "a": {}, "z": {}},
        task_queues=[Queue("mail", Exchange("topics", type="topic"), routing_key="mail.#")],
        task_default_queue="mail",
        task_default_exchange="topics",
        task_default_exchange_type="topic",
        task_default_routing_key="mail.new",
    )
    beat = PgScheduler(app)
    tick(beat)
    make_due()
    tick(beat)
    assert {job["entry"]: job["queue"] for job in jobs(connection)} == {"a": "mail", "z": "mail"}


def test_lazy_arguments_are_computed_for_each_job(beat_app, make_due, connection):
    numbers = iter(range(10))
    lazy = BeatLazyFunc(lambda: next(numbers))
    beat = PgScheduler(beat_app(entries={"lazy": {"args": [lazy], "kwargs": {"x": lazy}}}))
    tick(beat)
    make_due()
    tick(beat)
    make_due()
    tick(beat)
    assert [job["body"][:14] for job in jobs(connection)] == [b'[[0], {"x": 1}', b'[[2], {"x": 3}']
    assert entries(connection)["lazy"]["args"] is None


def test_options_reach_the_job_whether_beat_knows_the_task_or_not(
    beat_app, make_due, connection, caplog
):
    options = {
        "queue": "mail", "tags": ["B"], "max_attempts": 3, "meta": {"x": 1}, "expires": 60,
        "countdown": 30, "priority": 4, "headers": {"own": "1"},
    }  # fmt: skip
    app = beat_app(
        entries={
            "known": {"task": "attempted", "options": options},
            "plain": {"options": options},
            "unknown": {"task": "elsewhere.task", "options": options},
            "unique": {"task": "attempted", "args": (1,), "options": {"unique": Unique()}},
            "same": {"task": "attempted", "args": (1,), "options": {"unique": Unique()}},
            "in vain": {"options": {"unique": True}},
        }
    )
    app.task(work, base=PgTask, name="attempted", tags=["a"], meta={"of": "task"})
    beat = PgScheduler(app)
    tick(beat)
    make_due()
    tick(beat)
    found = {job["entry"]: job for job in jobs(connection)}
    for name in ("known", "plain", "unknown"):
        job = found[name]
        assert (job["queue"], job["max_attempts"], job["priority"]) == ("mail", 3, 4)
        assert job["meta"]["x"] == 1
        assert job["state"] == "scheduled"
        assert 29 < (job["scheduled_at"] - job["inserted_at"]).total_seconds() < 31
        assert 59 < (job["expires_at"] - job["inserted_at"]).total_seconds() < 61
        assert '"own":"1"' in job["message"]
    assert found["known"]["tags"] == ["a", "b"]
    assert found["known"]["meta"]["of"] == "task"
    assert found["plain"]["tags"] == found["unknown"]["tags"] == ["b"]
    assert sorted(found[name]["state"] for name in ("unique", "same")) == ["available", "cancelled"]
    assert "unique is for a PgTask that beat knows; work is not one" in caplog.text
    assert app.conf.beat_schedule["known"]["options"] == options


def test_a_periodic_task_may_say_what_becomes_of_missed_ticks(beat_app):
    app = beat_app()

    @app.on_after_finalize.connect
    def add(sender: Celery, **_: Any) -> None:
        sender.add_periodic_task(
            crontab(), sender.signature("work", (1,)), name="added", missed="all", missed_limit=7
        )

    app.finalize()
    entry = PgScheduler(app).schedule["added"]
    assert (entry.missed, entry.missed_limit, entry.options) == ("all", 7, {})


def test_an_entry_may_be_given_as_one_and_goes_by_its_key(beat_app, connection):
    app = beat_app()
    app.conf.beat_schedule = {
        "ours": PgEntry(name="x", task="work", schedule=RARELY, missed="skip"),
        "celerys": ScheduleEntry(name="y", task="work", schedule=schedule(RARELY)),
        "task": {"task": app.tasks["work"], "schedule": RARELY},
    }
    tick(PgScheduler(app))
    found = entries(connection)
    assert {name: (row["task"], row["missed"]) for name, row in found.items()} == {
        "ours": ("work", "skip"),
        "celerys": ("work", "once"),
        "task": ("work", "once"),
    }


def test_an_entry_keeps_what_celery_gives_to_copies_of_it():
    entry = PgEntry(name="x", task="work", schedule=1.0, missed="skip", missed_limit=3)
    assert (next(entry).missed, next(entry).missed_limit) == ("skip", 3)
    made = type(entry)(*entry.__reduce__()[1])
    assert (made.name, made.task, made.schedule) == ("x", "work", schedule(1.0))
    with pytest.raises(UnknownOption, match="did you mean 'kwargs'"):
        PgEntry(name="x", task="work", schedule=1.0, kwarg={})
    with pytest.raises(InvalidOption, match="missed_limit"):
        PgEntry(name="x", task="work", schedule=1.0, missed_limit=0)


class EverySecond(BaseSchedule):
    """Of somebody's own, with the repr that every object has."""

    def __init__(self, seconds: float, app: Any = None) -> None:
        super().__init__(app=app)
        self.seconds = seconds

    def is_due(self, last_run_at: datetime) -> schedstate:
        remaining = self.seconds - (self.now() - last_run_at).total_seconds()
        return schedstate(remaining <= 0, remaining if remaining > 0 else self.seconds)


def test_a_schedule_of_somebodys_own_is_the_same_in_all_beats(beat_app, make_due, connection):
    beats = [
        PgScheduler(beat_app(entries={"own": {"schedule": EverySecond(RARELY)}})) for _ in range(2)
    ]
    tick(*beats)
    definition = entries(connection)["own"]["definition"]
    for _ in range(2):
        make_due()
        tick(*beats)
    assert published(connection) == {"own": 2}
    assert entries(connection)["own"]["definition"] == definition
    tick(PgScheduler(beat_app(entries={"own": {"schedule": EverySecond(60)}})))
    assert entries(connection)["own"]["definition"] != definition


def test_celerys_clean_up_is_kept_where_the_results_are_elsewhere(beat_app):
    assert PgScheduler(beat_app()).schedule == {}
    app = beat_app(result_backend="cache+memory://")
    app.backend.supports_autoexpire = False
    assert PgScheduler(app).schedule.keys() == {"celery.backend_cleanup"}


# Beats


def test_each_tick_is_published_once_by_any_number_of_beats(beat_app, make_due, connection):
    beats = [PgScheduler(beat_app(entries={"a": {}, "b": {}})) for _ in range(3)]
    tick(*beats)
    for count in range(1, 4):
        make_due()
        tick(*beats[count % 3 :], *beats)
        assert published(connection) == {"a": count, "b": count}


def test_an_entry_that_another_beat_is_publishing_is_left_to_it(beat_app, make_due, connection):
    other = PgScheduler(beat_app(entries={"held": {}, "free": {}}))
    seen: list[Counter[str]] = []

    def look() -> None:
        tick(other)  # while the first is in its transaction
        seen.append(published(connection))

    held = {"held": {"args": [BeatLazyFunc(look)]}, "free": {}}
    beat = PgScheduler(beat_app(entries=held))
    tick(beat, other)
    make_due("held")
    tick(beat)
    make_due("free")
    tick(other)
    assert seen == [{}]
    assert published(connection) == {"held": 1, "free": 1}


#: A session that has waited in its transaction for so long.
IDLE = """
    SELECT 1 FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'idle in transaction'
      AND clock_timestamp() - state_change > %s::interval
"""


def test_a_beat_that_stops_in_its_transaction_loses_it(
    beat_app, make_due, connection, monkeypatch, caplog
):
    monkeypatch.setattr(schedules, "IDLENESS", 500)

    def stop(**_: Any) -> None:
        if schedules.IDLENESS == 500:
            wait_for(lambda: not connection.execute(IDLE, ["0"]).fetchall())
            # The next transaction must not lose it on a busy machine.
            monkeypatch.setattr(schedules, "IDLENESS", 10_000)

    beat = PgScheduler(beat_app(entries={"a": {}}))
    tick(beat)
    make_due()
    before_task_publish.connect(stop, weak=False)
    tick(beat)
    assert "tries again" in caplog.text
    assert "lost:" not in caplog.text
    tick(beat)
    before_task_publish.disconnect(stop)
    assert published(connection) == {"a": 1}


def test_arguments_that_take_long_hold_up_no_other_entry(
    beat_app, make_due, connection, monkeypatch
):
    # Long enough for a busy machine; the transaction of the lazy one is idle for longer.
    monkeypatch.setattr(schedules, "IDLENESS", 1_000)
    seen: list[Counter[str]] = []

    def compute() -> None:
        seen.append(published(connection))
        wait_for(lambda: connection.execute(IDLE, ["1.5 s"]).fetchall())

    lazy = {"args": [BeatLazyFunc(compute)]}
    beat = PgScheduler(beat_app(entries={"a lazy one": lazy, "b": {}, "c": {}}))
    tick(beat)
    make_due()
    tick(beat)
    assert seen == [{"b": 1, "c": 1}]
    assert published(connection) == {"a lazy one": 1, "b": 1, "c": 1}


def test_many_ticks_are_published_in_several_transactions(
    beat_app, make_due, connection, monkeypatch
):
    monkeypatch.setattr("pgjobs_celery.beat.scheduler.MOST_JOBS", 25)
    names = [f"e{number}" for number in range(5)]
    beat = PgScheduler(beat_app(entries={name: {"schedule": 5.0} for name in names}))
    tick(beat)
    make_due(seconds=47.5)
    tick(beat)
    assert published(connection) == dict.fromkeys(names, 10)
    assert len({job["inserted_at"] for job in jobs(connection)}) == 2


@pytest.mark.parametrize(
    "statement", ["advance_schedules", "declare_queue", "insert_jobs", "COMMIT"]
)
def test_no_tick_is_lost_or_doubled_where_an_answer_is_cut_off(
    statement, beat_app, make_due, connection, server, url
):
    with Proxy(url) as proxy:
        app = beat_app(entries={"a": {}, "b": {}}, broker_url=proxy.url, result_backend=proxy.url)
        beat = PgScheduler(app)
        tick(beat)
        make_due()
        proxy.cut_answer(statement)
        tick(beat)
        assert proxy.cuts == 1
        tick(beat)
    assert published(connection) == {"a": 1, "b": 1}
    assert {row["total_run_count"] for row in entries(connection).values()} == {1}


def test_a_tick_whose_job_is_there_is_not_published_again(beat_app, make_due, connection):
    beat = PgScheduler(beat_app(entries={"a": {}}))
    tick(beat)
    make_due()
    (due,) = (row["next_run_at"] for row in entries(connection).values())
    tick(beat)
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'completed', attempt = 1, finished_at = now()"
    )
    connection.execute(
        "UPDATE pgjobs.schedules SET next_run_at = %s,"
        " version = nextval('pgjobs.schedules_version')",
        [due],
    )
    tick(beat)
    assert [(job["state"], job["attempt"]) for job in jobs(connection)] == [("completed", 1)]
    assert entries(connection)["a"]["next_run_at"] > due


def test_apps_of_other_names_keep_out_of_each_others_way(beat_app, make_due, connection):
    beats = [PgScheduler(beat_app(name, entries={name: {}})) for name in ("one", "two")]
    tick(*beats)
    make_due()
    tick(*beats)
    assert published(connection) == {"one": 1, "two": 1}
    tick(PgScheduler(beat_app("one")))
    assert entries(connection).keys() == {"two"}


def test_an_eager_app_runs_each_tick_once_whatever_another_does(beat_app, make_due, connection):
    app = beat_app(
        entries={"a": {"task": "run"}, "b": {"task": "run", "args": ("fail",)}},
        task_always_eager=True,
        task_eager_propagates=True,
    )
    ran: list[Any] = []

    def run(*args: Any) -> None:
        ran.append(args)
        if args:
            raise ValueError

    app.task(run, name="run")
    beat = PgScheduler(app)
    tick(beat)
    make_due()
    tick(beat)
    assert sorted(ran) == [(), ("fail",)]


@pytest.mark.peer
def test_the_rows_may_be_beside_the_results_with_another_broker(
    beat_app, make_due, connection, redis_url, caplog
):
    queue = f"beat-{time.time_ns()}"
    app = beat_app(
        entries={"a": {}, "bad": {"args": (object(),)}, "c": {}},
        broker_url=redis_url,
        task_default_queue=queue,
    )
    beat = PgScheduler(app)
    tick(beat)
    make_due()
    tick(beat, PgScheduler(app))
    with app.connection_for_read() as broker:
        messages = broker.SimpleQueue(queue)
        names = [messages.get(timeout=1).headers["pgjobs"]["meta"]["schedule"] for _ in range(2)]
        assert sorted(names) == ["a", "c"]
        with pytest.raises(messages.Empty):
            messages.get_nowait()
    assert "a tick of entry 'bad' is lost" in caplog.text
    assert jobs(connection) == []


def test_ticks_wait_for_another_broker_that_is_not_there(
    beat_app, make_due, connection, redis_url, caplog
):
    app = beat_app(
        entries={"a": {}},
        broker_url="redis://127.0.0.1:1/0",
        task_publish_retry=False,
        broker_connection_timeout=0.2,
    )
    beat = PgScheduler(app)
    tick(beat)
    make_due()
    due = entries(connection)["a"]["next_run_at"]
    tick(beat)
    assert "tries again" in caplog.text
    assert entries(connection)["a"]["next_run_at"] == due


# Changes


def at_run_time(app: Celery, name: str, **fields: Any) -> ScheduleRow:
    entry = PgEntry(**{"name": name, "task": "work", "schedule": RARELY, "app": app, **fields})
    return to_row(entry, datetime.now(timezone.utc), is_configured=False)


def test_what_is_changed_at_run_time_is_seen(beat_app, make_due, connection, caplog):
    beat = PgScheduler(beat_app())
    rows = beat.rows
    tick(beat)
    assert rows.put_schedule(at_run_time(beat.app, "new", args=(1,)))
    tick(beat)
    make_due()
    tick(beat)
    assert rows.put_schedule(at_run_time(beat.app, "new", args=(2,)))
    make_due()
    tick(beat)
    assert [job["body"][:5] for job in jobs(connection)] == [b"[[1],", b"[[2],"]
    assert rows.pause_schedule("new")
    make_due()
    tick(beat)
    assert published(connection) == {"new": 2}
    assert rows.resume_schedule("new", datetime.now(timezone.utc))
    tick(beat)
    assert published(connection) == {"new": 3}
    assert rows.delete_schedule("new")
    tick(beat)
    assert "new" not in beat.schedule
    assert beat._due_at == {}
    connection.execute(
        "INSERT INTO pgjobs.schedules (app, name, task, schedule, definition, next_run_at) VALUES"
        " ('tests', 'odd', 'work', '{\"type\": \"moon\"}', 'x', now())"
    )
    tick(beat)
    tick(beat)
    assert caplog.text.count("the row of entry 'odd' cannot be read") == 1


def test_nothing_is_published_as_it_was_before_a_change(beat_app, make_due, connection):
    beat = PgScheduler(beat_app())
    beat.rows.put_schedule(at_run_time(beat.app, "new", args=(1,)))
    tick(beat)
    make_due()
    tick(beat)
    row = beat._rows["new"]
    beat._wait("new", beat.now())  # as it has been known since the last look
    beat.rows.put_schedule(at_run_time(beat.app, "new", args=(2,)))
    beat._next_look = time.monotonic() + 60
    connection.execute("UPDATE pgjobs.schedules SET next_run_at = %s", [row.next_run_at])
    while beat.tick() == 0.0:
        pass
    assert len(jobs(connection)) == 1
    tick(beat)
    make_due()
    tick(beat)
    assert [job["body"][:5] for job in jobs(connection)] == [b"[[1],", b"[[2],"]


def test_an_entry_of_the_program_gives_way_to_one_that_was_made_before(
    beat_app, make_due, connection, caplog
):
    first = PgScheduler(beat_app())
    first.rows.put_schedule(at_run_time(first.app, "same", args=("run time",)))
    beat = PgScheduler(beat_app(entries={"same": {"args": ("program",)}}))
    tick(beat)
    make_due()
    tick(beat)
    assert b"run time" in jobs(connection)[0]["body"]
    assert "was made at run time before" in caplog.text
    beat.takeover_after = 0.0
    assert beat.rows.delete_schedule("same")
    tick(beat, beat)
    make_due()
    tick(beat)
    assert b"program" in jobs(connection)[1]["body"]


def test_of_two_versions_of_a_program_the_one_that_came_last_wins_while_it_lives(
    beat_app, make_due, connection
):
    old = PgScheduler(beat_app(entries={"kept": {}, "changed": {"args": (1,)}, "gone": {}}))
    tick(old)
    new = PgScheduler(
        beat_app(entries={"kept": {}, "changed": {"schedule": 3600.0, "args": (2,)}, "added": {}})
    )
    tick(new, old)
    assert entries(connection).keys() == {"kept", "changed", "added"}
    make_due()
    tick(old, new, old)
    assert published(connection) == {"kept": 1, "changed": 1, "added": 1}
    body = next(job["body"] for job in jobs(connection) if job["entry"] == "changed")
    assert body.startswith(b"[[2],")

    # The old one is started once more, and killed: the new one has to see to its own again.
    again = PgScheduler(beat_app(entries={"kept": {}, "changed": {"args": (1,)}, "gone": {}}))
    tick(again, new)
    assert entries(connection).keys() == {"kept", "changed", "gone"}
    make_due("changed", seconds=1)
    tick(new)
    assert published(connection)["changed"] == 1
    new.takeover_after = 0.1
    wait_for(lambda: tick(new) or "added" in entries(connection))
    tick(new)
    make_due("changed", "added")
    tick(new)
    assert published(connection) == {"kept": 1, "changed": 2, "added": 2}


def test_a_version_that_is_being_published_is_not_taken_over(beat_app, make_due, connection):
    old = PgScheduler(beat_app(entries={"changed": {"schedule": 60.0}}))
    tick(old)
    new = PgScheduler(beat_app(entries={"changed": {}}))
    tick(new)
    old.takeover_after = 0.0
    tick(old, old)
    assert old._estranged.keys() == {"changed"}
    definition = entries(connection)["changed"]["definition"]
    assert definition == new._definitions["changed"]
    assert definition != old._definitions["changed"]


def test_a_start_writes_only_what_has_changed(beat_app, connection):
    tick(PgScheduler(beat_app(entries={"a": {}, "b": {}})))
    before = entries(connection)
    connection.execute("UPDATE pgjobs.schedules SET paused_at = now() WHERE name = 'a'")
    tick(PgScheduler(beat_app(entries={"a": {}, "b": {"args": (1,)}})))
    after = entries(connection)
    assert after["a"]["version"] == before["a"]["version"]
    assert after["a"]["paused_at"] is not None
    assert after["b"]["version"] > before["b"]["version"]
    assert after["b"]["next_run_at"] == before["b"]["next_run_at"]


# Missed ticks


@pytest.mark.parametrize(
    ("entry", "conf", "count"),
    [
        ({}, {}, 1),
        ({"missed": "skip"}, {}, 0),
        ({"missed": "all", "missed_limit": 5}, {}, 5),
        ({"missed": "all"}, {"beat_cron_starting_deadline": 7200}, 2),
        ({}, {"beat_cron_starting_deadline": 10}, 0),
    ],
)
def test_missed_ticks_go_by_the_entrys_policy(entry, conf, count, beat_app, make_due, connection):
    # Between two ticks, so that none is of the last minute.
    half_past = (datetime.now(timezone.utc).minute + 30) % 60
    app = beat_app(entries={"hourly": {"schedule": crontab(minute=half_past), **entry}}, **conf)
    beat = PgScheduler(app)
    tick(beat)
    ahead = entries(connection)["hourly"]["next_run_at"]
    connection.execute(
        "UPDATE pgjobs.schedules SET next_run_at = next_run_at - interval '24 hours',"
        " version = nextval('pgjobs.schedules_version')"
    )
    tick(beat)
    ticks = [datetime.fromisoformat(job["meta"]["tick"]) for job in jobs(connection)]
    assert ticks == [ahead - timedelta(hours=hours) for hours in range(count, 0, -1)]
    assert entries(connection)["hourly"]["next_run_at"] == ahead


def test_an_app_that_has_its_jobs_elsewhere_is_told_so():
    app = Celery("elsewhere", broker="memory://", set_as_current=False)
    with pytest.raises(PgJobsError, match="has its jobs elsewhere"):
        PgScheduler(app).tick()

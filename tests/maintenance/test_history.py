"""The history counts each end once, in the minute in which it ended, however often it is looked."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from uuid import UUID

import psycopg
import pytest

from pgjobs_celery.control.history import WINDOWS, lines, series, table
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows.history import Depth, HistoryKey, Period
from pgjobs_celery.db.rows.metrics import Ends, Line
from pgjobs_celery.job.outcome import discarded, retried, snoozed
from pgjobs_celery.maintenance.history import (
    BOUNDS,
    RUNTIMES,
    WAITS,
    Places,
    coarser,
    depths,
    periods,
)
from tests.support.rows import alive, put

from .test_fold import BUCKETS, FAILED, NODE, Connection, Impatient, age, run_one

HOUR, DAY, WEEK = WINDOWS["hour"], WINDOWS["day"], WINDOWS["week"]


@pytest.fixture
def fold(database: Database, connection: Connection) -> Callable[[], None]:
    alive(database, NODE)
    connection.execute("DELETE FROM pgjobs.fold")
    database.metrics.begin_fold()
    return lambda: (Impatient(100).run(database), None)[1]


def rows(connection: Connection, kind: str = "all", width: int = 60) -> list[tuple[int, bool]]:
    """How many succeeded in each row, the oldest first, and whether for good."""
    found = connection.execute(
        "SELECT succeeded, is_final FROM pgjobs.history WHERE kind = %s AND width = %s"
        " AND succeeded > 0 ORDER BY at, is_final",
        (kind, width),
    )
    return [(row["succeeded"], row["is_final"]) for row in found]


def test_an_end_is_in_the_history_at_once_and_only_once(database, connection, fold):
    put(database, "a", "b", task="tasks.add")
    put(database, "c", task="tasks.mul")
    run_one(database)
    run_one(database, lambda claim: discarded(claim, FAILED))
    run_one(database)
    for _ in range(3):
        fold()
        whole = series(database, HOUR).total
        assert (whole.succeeded, whole.failed, whole.ended) == (2, 1, 3)
        assert sum(whole.period.waits) == sum(whole.period.runs) == 3
        assert whole.failure_share == pytest.approx(1 / 3)
        tasks = table(database, HOUR, "task")
        assert {name: (each.succeeded, each.failed) for name, each in tasks.items()} == {
            "tasks.add": (1, 1), "tasks.mul": (1, 0),
        }  # fmt: skip
        assert table(database, HOUR, "queue")["celery"].ended == 3
        age(connection)
    assert rows(connection) == [(2, True)]


def test_recent_ends_are_counted_anew_and_not_twice(database, connection, fold):
    """As long as a transaction is open that may end jobs before now."""
    put(database, "a", "b")
    run_one(database)
    fold()
    assert rows(connection) == [(1, False)]
    run_one(database)
    fold()
    assert sum(number for number, is_final in rows(connection)) == 2
    assert not any(is_final for _, is_final in rows(connection))


def test_what_is_deleted_or_run_again_stays_in_the_history(database, connection, fold):
    put(database, "a", "b")
    run_one(database)
    fold()
    run_one(database)
    connection.execute("DELETE FROM pgjobs.jobs")
    fold()
    assert series(database, HOUR).total.succeeded == 2
    age(connection)
    fold()
    fold()
    assert series(database, HOUR).total.succeeded == 2


def test_an_end_that_is_committed_late_is_not_lost(database, connection, fold, url):
    put(database, "a", "b")
    run_one(database)
    with psycopg.connect(parse_url(url)) as late:
        late.execute(
            "UPDATE pgjobs.jobs SET state = 'cancelled', finished_at = now() WHERE task_id = 'b'"
        )
        for _ in range(3):
            fold()
        late.commit()
    fold()
    fold()
    whole = series(database, HOUR).total
    assert (whole.succeeded, whole.cancelled) == (1, 1)


def test_attempts_that_were_no_end_are_counted_apart(database, connection, fold):
    put(database, "a", "b")
    for make in (lambda claim: retried(claim, 60.0, FAILED), lambda claim: snoozed(claim, 60.0)):
        (claim,) = database.claims.claim_jobs(NODE, "n", BUCKETS, 1)[0]
        assert database.claims.settle_jobs(NODE, [make(claim)]) == []
    fold()
    whole = series(database, HOUR).total
    assert (whole.retried, whole.period.snoozed, whole.ended) == (1, 1, 0)


def finish(connection: Connection, seconds: float, task: str = "t", queue: str = "celery") -> None:
    """A job that ended so many seconds ago, after it had waited for 2 s and run for 4."""
    connection.execute(
        "INSERT INTO pgjobs.jobs"
        " (task_id, task, queue, state, attempt, scheduled_at, attempted_at, finished_at)"
        " SELECT gen_random_uuid(), %s, %s, 'completed', 1, e.at - interval '6 s',"
        " e.at - interval '4 s', e.at FROM (SELECT now() - %s * interval '1 s' AS at) AS e",
        (task, queue, seconds),
    )


def test_wide_buckets_are_added_up_when_they_are_over(database, connection, fold):
    """A fold that was away for days finds all, and no window tells it twice."""
    hours = [0.001, 0.7, 1.5, 3, 20, 60, 24 * 6]
    for hour in hours:
        finish(connection, hour * 3600)
    connection.execute("UPDATE pgjobs.fold SET watermark = now() - interval '8 days'")
    fold()  # all of it is recent
    assert [series(database, each).total.succeeded for each in (HOUR, DAY, WEEK)] == [2, 5, 7]
    connection.execute("UPDATE pgjobs.fold SET candidate = now()")
    fold()
    for _ in range(3):
        assert [series(database, each).total.succeeded for each in (HOUR, DAY, WEEK)] == [2, 5, 7]
        for window, number in ((HOUR, 2), (DAY, 5), (WEEK, 7)):
            assert table(database, window, "task")["t"].succeeded == number
        assert sum(lines(database, WEEK, "task")["t"].ended) == 7
        fold()
    whole = series(database, WEEK).total
    assert whole.wait(0.5) == pytest.approx(1.75)  # between 1 s and 2.5 s
    assert 2.5 < (whole.run(0.95) or 0) <= 5
    assert whole.mean_run == pytest.approx(4, abs=0.01)


def test_old_buckets_are_pruned(database, connection, fold):
    finish(connection, 4 * 3600)
    finish(connection, 40 * 86_400)
    connection.execute("UPDATE pgjobs.fold SET watermark = now() - interval '50 days'")
    connection.execute("UPDATE pgjobs.fold SET candidate = now()")
    fold()
    fold()
    assert rows(connection) == []
    assert rows(connection, width=600) == [(1, True)]
    assert rows(connection, width=3600) == [(1, True)]


def test_the_most_that_waited_in_a_minute_is_kept(database, connection, fold):
    put(database, "a", "b", "c")
    database.claims.claim_jobs(NODE, "n", BUCKETS, 1)
    fold()
    connection.execute("DELETE FROM pgjobs.jobs WHERE state = 'available'")
    fold()
    whole = series(database, HOUR)
    assert (whole.total.ready, whole.total.running) == (2, 1)
    line = lines(database, HOUR, "queue")["celery"]
    # The minute may have gone by between the two looks.
    assert max(each for each in line.ready if each is not None) == 2
    assert line.ready[0] is None


def test_a_queue_that_a_look_does_not_find_was_empty(database, connection, fold):
    finish(connection, 0)
    fold()
    assert lines(database, HOUR, "queue")["celery"].ready[-1] == 0


def test_names_beyond_the_limit_count_together(database, connection, fold):
    for number in range(5):
        finish(connection, 60, f"t{number}", "q")
    connection.execute("UPDATE pgjobs.fold SET watermark = now() - interval '2 minutes'")
    Impatient(2).run(database)
    found = table(database, HOUR, "task")
    assert {name: each.succeeded for name, each in found.items()} == {
        "other": 3, "t0": 1, "t1": 1,
    }  # fmt: skip
    finish(connection, 1, "t4", "q")
    Impatient(2).run(database)  # another process, which has to ask for the names
    assert table(database, HOUR, "task")["other"].succeeded == 4


def test_hostile_times_and_names_do_no_harm(database, connection, fold):
    put(database, "a", "b", task="x" * 9000, queue="q" * 9000)
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'completed', finished_at = 'infinity',"
        " attempted_at = '-infinity', scheduled_at = 'infinity' WHERE task_id = 'a'"
    )
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'completed', finished_at = now() + interval '9 years',"
        " attempted_at = '0001-01-01' WHERE task_id = 'b'"
    )
    put(database, "c", task="x" * 9000, queue="q" * 9000)
    fold()
    fold()
    assert series(database, HOUR).total.ended == 0  # it is yet to come
    assert series(database, HOUR, "queue", "q" * 9000).total.ready == 1


ENDS = Ends("t", "q", "completed", "", True, True, 2, 3, 5, 7_000_000, 8_000_000, 60)


def test_each_end_is_added_to_all_to_its_task_and_to_its_queue():
    found = periods([ENDS, ENDS._replace(state="discarded", runtime_bucket=0)], Places((), 9))
    expected = Period(
        succeeded=5, failed=5, waited=16.0, ran=14.0, waits=[0, 0, 0, 10], runs=[5, 0, 5]
    )
    assert found == {
        HistoryKey("all", "", 60): expected,
        HistoryKey("task", "t", 60): expected,
        HistoryKey("queue", "q", 60): expected,
    }


@pytest.mark.parametrize(
    ("change", "period"),
    [
        ({"state": "cancelled"}, Period(cancelled=5)),
        ({"state": "retried", "has_run": False}, Period(retried=5)),
        ({"state": "snoozed", "has_run": False}, Period(snoozed=5)),
        ({"state": "rescued", "has_run": False}, Period(rescued=5)),
        ({"has_run": False}, Period(succeeded=5)),
        ({"state": "by hand", "has_run": False}, Period()),
    ],
)
def test_each_kind_of_end_is_counted(change, period):
    assert periods([ENDS._replace(**change)], Places((), 9))[HistoryKey("all", "", 60)] == period


def test_an_end_without_a_minute_is_left_out():
    assert periods([ENDS._replace(minute=0)], Places((), 9)) == {}


def test_recent_ends_stand_beside_those_that_are_final():
    found = periods([ENDS, ENDS._replace(is_final=False)], Places((), 9))
    assert found[HistoryKey("all", "", 60, True)].succeeded == 5
    assert found[HistoryKey("all", "", 60, False)].succeeded == 5


def test_a_name_that_has_a_place_keeps_it_though_the_limit_falls():
    places = Places([("task", "a"), ("task", "b"), ("queue", "a")], 2)
    assert [places.of("task", name) for name in "abc"] == ["a", "b", "other"]
    assert [places.of("queue", name) for name in "bc"] == ["b", "other"]
    assert places.have([("queue", "b")])
    assert not places.have([("queue", "c")])


def test_depths_are_of_what_may_run_and_what_runs():
    found = [
        Line("a", "available", None, 3, 0.0), Line("a", "executing", UUID(int=1), 2, 0.0),
        Line("a", "executing", UUID(int=2), 1, 0.0), Line("b", "scheduled", None, 9, 0.0),
        Line("c", None, None, 0, 0.0),
    ]  # fmt: skip
    assert depths(found, Places((), 9)) == [Depth("all", "", 3, 3), Depth("queue", "a", 3, 3)]
    assert depths([], Places((), 9)) == [Depth("all", "", 0, 0)]


@pytest.mark.parametrize("coarse", [RUNTIMES, WAITS], ids=["runtimes", "waits"])
def test_each_bucket_lies_within_one_of_the_metrics(coarse):
    """A value is in the same bucket of the totals, whether it goes there by way of ours or not."""
    assert set(coarse) <= set(BOUNDS)
    of = coarser(BOUNDS, coarse)
    for value in (0.0, *BOUNDS, *(bound * 1.01 for bound in BOUNDS), 1e9):
        assert of[bisect_left(BOUNDS, value)] == bisect_left(coarse, value)


def test_time_goes_on(database, fold):
    """The last bucket is the one of now."""
    fold()
    points = series(database, HOUR).points
    assert len(points) == 60
    assert points[-1].at is not None
    assert timedelta(0) <= datetime.now(timezone.utc) - points[-1].at < timedelta(seconds=75)

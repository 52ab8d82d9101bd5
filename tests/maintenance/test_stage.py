"""Due jobs are put in line at their time, batch by batch, whoever else does it too."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pgjobs_celery.maintenance.stage import Stage
from tests.support.rows import put, states


def make_due(connection, count: int, queue: str = "celery") -> None:
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, message, body, state, due_at) "
        "SELECT %s || n, 'task', %s, 'm', 'b', 'scheduled', now() - interval '1 s' "
        "FROM generate_series(1, %s) AS n",
        (queue, queue, count),
    )


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.batch = 10
    return stage


def test_everything_due_is_staged_in_batches(database, connection, stage):
    make_due(connection, 35)
    put(database, "later", eta=60)
    assert stage.run(database) == {"staged": 35}
    assert stage.run(database) == {"staged": 0}
    found = states(connection)
    assert found.pop("later") == "scheduled"
    assert set(found.values()) == {"available"}


def test_the_next_run_is_when_the_next_job_is_due_and_soon_enough_for_one_nobody_told_of(
    database, stage
):
    stage.run(database)
    assert stage.next_delay() == stage.interval
    put(database, "much later", eta=3600)
    stage.run(database)
    assert stage.next_delay() == stage.interval
    put(database, "soon", eta=2)
    stage.run(database)
    assert 1 < stage.next_delay() <= 2


def test_one_run_is_short_however_much_is_due(database, connection, stage):
    """The heartbeat waits in the same thread."""
    make_due(connection, 100)
    stage.turn = 0.0
    assert stage.run(database) == {"staged": 0}
    assert stage.next_delay() == 0.0
    stage.turn = 0.01
    while stage.next_delay() == 0.0:  # a run may be over before its first batch
        stage.run(database)
    assert stage.next_delay() == stage.interval
    assert set(states(connection).values()) == {"available"}


def test_several_workers_stage_each_job_once(database, connection):
    make_due(connection, 500)
    barrier = threading.Barrier(4)

    def run(_: int) -> int:
        stage = Stage()
        stage.batch = 7
        barrier.wait()
        return stage.run(database)["staged"]

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(run, range(4))) == 500
    assert set(states(connection).values()) == {"available"}


def test_a_job_that_somebody_has_locked_is_tried_again_soon(database, connection, stage):
    make_due(connection, 1)
    with connection.transaction():
        connection.execute("SELECT 1 FROM pgjobs.jobs FOR UPDATE")
        assert stage.run(database) == {"staged": 0}
        assert 0 < stage.next_delay() < 1
    assert stage.run(database) == {"staged": 1}


def test_whoever_waits_for_the_queue_is_woken(database, connection, stage):
    listener = database.listen_for_work()
    try:
        listener.announce(["one", "two", "three"])
        make_due(connection, 3, "one")
        make_due(connection, 3, "two")
        stage.run(database)
        assert listener.wait(5) | listener.wait(0.2) == {"jone", "jtwo"}
    finally:
        listener.close()


def test_pauses_that_are_over_are_told_of_and_the_next_run_is_at_the_end_of_one(
    database, connection
):
    told = []
    stage = Stage(on_pause_over=lambda: told.append("over"))
    connection.execute(
        "INSERT INTO pgjobs.pauses (kind, name, until)"
        " VALUES ('task', 'a', now() + interval '2 s'), ('task', 'for good', NULL)"
    )
    stage.run(database)
    assert 1 < stage.next_delay() <= 2
    assert told == []
    connection.execute(
        "INSERT INTO pgjobs.limits (queue, paused_at, paused_until) VALUES ('q', now(), now())"
    )
    stage.run(database)
    assert told == ["over"]


def test_signals_and_waits_are_seen_while_they_are_new(database, connection):
    assert database.claims.look_ahead().has_signals is False
    connection.execute(
        "INSERT INTO pgjobs.signals (task_id, name, payload) VALUES ('a', 'approved', 'x')"
    )
    assert database.claims.look_ahead().has_signals is True
    database.steps.wake_waiting(10)
    assert database.claims.look_ahead().has_signals is False

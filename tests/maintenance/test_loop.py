"""Services take turns in one thread; one that fails is tried again and stops no other."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from pgjobs_celery.db.database import Database
from pgjobs_celery.errors import SchemaMissing
from pgjobs_celery.maintenance.loop import Loop, Service
from tests.support.waiting import wait_for

LOGGER = "pgjobs_celery.maintenance.loop"


class Counting(Service):
    """Counts its runs, and does in each what it is told."""

    def __init__(
        self,
        name: str = "counting",
        interval: float = 0.01,
        work: Callable[[], dict[str, int] | None] = dict,
    ) -> None:
        self.name, self.interval, self._work = name, interval, work
        self.runs: list[float] = []
        self.threads: set[str] = set()

    def run(self, database: Database) -> dict[str, int]:
        self.runs.append(time.monotonic())
        self.threads.add(threading.current_thread().name)
        return self._work() or {}

    def wait(self, runs: int = 1) -> None:
        wait_for(lambda: len(self.runs) >= runs, message=lambda: self.runs)


@pytest.fixture
def loop(database: Database) -> Iterator[Loop]:
    loop = Loop(database)
    yield loop
    loop.stop()


def failing(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def test_services_run_at_their_intervals_in_one_thread(loop):
    often, seldom = Counting(interval=0.01), Counting(interval=0.2)
    loop.add(often)
    loop.add(seldom)
    seldom.wait(2)
    assert len(often.runs) > len(seldom.runs)
    assert seldom.runs[1] - seldom.runs[0] >= 0.2
    assert often.threads == seldom.threads == {"pgjobs-maintenance"}


def test_there_is_no_thread_before_there_is_a_service(database):
    before = threading.active_count()
    Loop(database).stop()
    assert threading.active_count() == before


def test_a_service_says_itself_when_it_is_to_run_next(loop):
    delays = iter([0.0, 0.05, 0.0, 100.0])

    class Own(Counting):
        def next_delay(self) -> float:
            return next(delays)

    service = Own(interval=50)
    loop.add(service)
    service.wait(3)
    assert service.runs[1] - service.runs[0] >= 0.05
    assert service.runs[2] - service.runs[1] < 5


def test_a_service_that_is_hurried_runs_at_once(loop):
    service = Counting(interval=100)
    loop.hurry(service)  # it is not there yet
    loop.add(service)
    assert service.runs == []
    loop.hurry(service)
    service.wait(1)
    loop.hurry(service)
    service.wait(2)


def test_what_hurries_a_service_while_it_runs_makes_it_run_again(loop):
    running, go_on = threading.Event(), threading.Event()

    def work() -> None:
        running.set()
        assert go_on.wait(10)

    service = Counting(interval=100, work=work)
    loop.add(service)
    loop.hurry(service)
    assert running.wait(10)
    loop.hurry(service)
    go_on.set()
    service.wait(2)


def test_what_is_expected_brings_a_run_forward_and_never_puts_it_off(loop):
    delay = 100.0

    class Own(Counting):
        def next_delay(self) -> float:
            return delay

    service = Own()
    loop.expect(service)  # it is not there yet
    loop.add(service)
    delay = 0.02
    loop.expect(service)
    delay = 200.0
    loop.expect(service)
    service.wait(1)


@pytest.mark.parametrize(
    ("error", "level", "text"),
    [
        (psycopg.OperationalError("cut"), logging.WARNING, "trying again until it is back: cut"),
        (SchemaMissing("no tables"), logging.ERROR, "no tables"),
        (ZeroDivisionError("zero"), logging.ERROR, "failed; trying again in 0.01 s"),
    ],
)
def test_a_service_that_fails_says_so_and_is_tried_again(loop, caplog, error, level, text):
    bad, good = Counting("bad", work=failing(error)), Counting("good")
    with caplog.at_level(logging.INFO, LOGGER):
        loop.add(bad)
        loop.add(good)
        bad.wait(2)
        good.wait(2)
        loop.stop()
    records = [record for record in caplog.records if "bad" in record.getMessage()]
    assert records[0].levelno == level
    assert text in records[0].getMessage()
    assert bool(records[0].exc_info) is isinstance(error, ZeroDivisionError)


def test_what_was_done_is_said_and_nothing_is_said_of_nothing(loop, caplog):
    idle, busy = Counting("idle"), Counting("busy", work=lambda: {"a": 2, "b": 0, "c": 1})
    with caplog.at_level(logging.INFO, LOGGER):
        loop.add(idle)
        loop.add(busy)
        idle.wait(2)
        busy.wait(2)
        loop.stop()
    assert {record.getMessage() for record in caplog.records} == {"busy: 2 a, 1 c"}


def test_a_service_without_a_pause_leaves_the_others_their_turn(loop):
    greedy, modest = Counting(interval=0.0), Counting(interval=0.05)
    loop.add(greedy)
    loop.add(modest)
    modest.wait(3)


def test_stopping_waits_for_the_service_that_runs_and_runs_no_other(loop):
    running, go_on = threading.Event(), threading.Event()

    def work() -> None:
        running.set()
        assert go_on.wait(10)

    slow, other = Counting(interval=0.0, work=work), Counting(interval=100)
    loop.add(other)
    loop.add(slow)
    assert running.wait(10)
    loop.hurry(other)
    threading.Timer(0.05, go_on.set).start()
    loop.stop()
    assert go_on.is_set()
    assert other.runs == []
    loop.stop()


def test_a_service_may_stop_its_own_loop(database):
    loop = Loop(database)
    service = Counting(interval=0.0, work=loop.stop)
    loop.add(service)
    service.wait(1)
    wait_for(lambda: not loop._thread.is_alive())
    assert len(service.runs) == 1

"""Outcomes that no claim carries along are written by themselves, and soon."""

from __future__ import annotations

import threading
import time

import pytest

from pgjobs_celery.maintenance.loop import Loop
from pgjobs_celery.maintenance.settle import Settle
from tests.support.waiting import wait_for

from ..support.busyness import Stopwatch


class Ledger:
    """Keeps a number of outcomes; counts how often it was flushed."""

    def __init__(self) -> None:
        self.unwritten = 0
        self.since = 0.0
        self.flushed: list[int] = []
        self.was_flushed = threading.Event()
        self.error: Exception | None = None

    def note(self) -> None:
        if not self.unwritten:
            self.since = time.monotonic()
        self.unwritten += 1

    def flush(self) -> None:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.flushed.append(self.unwritten)
        self.unwritten = 0
        self.was_flushed.set()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_nothing_to_write_is_nothing_to_do(ledger, database):
    service = Settle(ledger, ledger.flush)
    assert service.run(database) == {}
    assert ledger.flushed == []
    assert service.next_delay() == service.interval


def test_an_outcome_waits_for_a_claim_to_carry_it_and_no_longer_than_that(ledger, database):
    service = Settle(ledger, ledger.flush)
    ledger.note()
    service.run(database)
    assert ledger.flushed == []
    assert 0 < service.next_delay() <= service.linger
    ledger.since -= service.linger
    assert service.next_delay() == 0.0
    ledger.note()
    service.run(database)
    assert ledger.flushed == [2]


def test_in_the_loop_an_outcome_is_written_after_it_lingered(ledger, database):
    loop, service = Loop(database), Settle(ledger, ledger.flush)
    loop.add(service)
    try:
        watch = Stopwatch()  # first: it lingers from the note on
        ledger.note()
        loop.expect(service)
        assert ledger.was_flushed.wait(10)
        # A timed wait may end a tick of the clock early (0.35 ms, seen on Python 3.13).
        assert service.linger * 0.9 <= watch.elapsed()
        assert watch.own() < service.interval
    finally:
        loop.stop()


def test_what_could_not_be_written_is_tried_again(ledger, database):
    loop, service = Loop(database), Settle(ledger, ledger.flush)
    service.interval = 0.05
    ledger.error = ZeroDivisionError("no")
    loop.add(service)
    try:
        ledger.note()
        loop.expect(service)
        wait_for(lambda: ledger.flushed == [1])
    finally:
        loop.stop()

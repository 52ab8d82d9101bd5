"""A transport's seat in the event loop: when the loop turns for a look that is due."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from kombu.asynchronous import Hub

from pgjobs_celery.broker.loop_seat import LoopSeat
from pgjobs_celery.scopes.waker import Waker


def never() -> bool:
    return False


def always() -> bool:
    return True


class Seat:
    """A seat in a real loop, whose turns are counted."""

    def __init__(self) -> None:
        self.hub, self.waker = Hub(), Waker()
        self.turns: list[float] = []
        self.on_turn: Callable[[], None] = lambda: None
        self.seat = LoopSeat(self.hub, self.waker, self._turn)
        self._loop = self.hub.create_loop()

    def _turn(self) -> None:
        self.turns.append(time.monotonic())
        self.on_turn()

    def turn(self) -> None:
        """One turn of the loop."""
        next(self._loop)


@pytest.fixture
def seat() -> Iterator[Seat]:
    one = Seat()
    yield one
    one.seat.leave()
    one.waker.close()
    one.hub.close()


def test_what_is_due_needs_a_turn_at_once(seat: Seat):
    now = time.monotonic()
    assert seat.seat.ring_at(now - 1, is_turned_soon=never)
    assert seat.seat.ring_at(now - 1, is_turned_soon=always)
    assert not seat.hub.timer.queue


def test_what_is_never_due_needs_none(seat: Seat):
    assert not seat.seat.ring_at(float("inf"), is_turned_soon=never)
    assert not seat.hub.timer.queue


def test_the_loop_must_be_woken_for_an_earlier_alarm_only(seat: Seat):
    now = time.monotonic()
    assert seat.seat.ring_at(now + 60, is_turned_soon=never)
    assert not seat.seat.ring_at(now + 60, is_turned_soon=never)
    assert not seat.seat.ring_at(now + 90, is_turned_soon=never)
    assert seat.seat.ring_at(now + 30, is_turned_soon=never)


def test_a_loop_that_is_turned_soon_need_not_be_woken_and_rings_in_time(seat: Seat):
    due_at = time.monotonic() + 0.2

    def ring_once() -> None:
        seat.on_turn = lambda: None
        assert not seat.seat.ring_at(due_at, is_turned_soon=always)
        seat.waker.wake()  # as the report of a child does

    seat.on_turn = ring_once
    while seat.turns[-1:] < [due_at]:
        seat.turn()
    # The turn of the ring, that of the report, and that of the alarm.
    assert len(seat.turns) <= 4
    assert seat.turns[-1] < due_at + 0.5

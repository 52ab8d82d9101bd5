"""Visitors that ask the same get one answer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pgjobs_celery.web.memory import MOST, Memory


def test_an_answer_is_kept():
    memory, asked = Memory(), []
    assert [memory.get("a", lambda: asked.append(1) or len(asked), 60) for _ in range(3)] == [
        1,
        1,
        1,
    ]
    assert memory.get("b", lambda: "other", 60) == "other"


def test_an_old_answer_is_read_anew():
    memory = Memory()
    assert [memory.get("a", lambda number=number: number, 0) for number in range(3)] == [0, 1, 2]


def test_nothing_is_kept_once_somebody_has_acted():
    memory = Memory()
    assert memory.get("a", lambda: 1, 60) == 1
    memory.clear()
    assert memory.get("a", lambda: 2, 60) == 2


def test_an_error_is_not_kept():
    memory = Memory()
    with pytest.raises(ZeroDivisionError):
        memory.get("a", lambda: 1 // 0, 60)
    assert memory.get("a", lambda: 7, 60) == 7


def test_of_many_that_ask_at_once_one_reads():
    memory, asked, begun = Memory(), [], threading.Barrier(4)

    def read() -> int:
        asked.append(1)
        return len(asked)

    def ask() -> int:
        begun.wait(10)
        return memory.get("a", read, 60)

    with ThreadPoolExecutor(4) as threads:
        assert {each.result() for each in [threads.submit(ask) for _ in range(4)]} == {1}


def test_no_more_than_so_many_are_kept():
    memory = Memory()
    for number in range(MOST * 3):
        memory.get(number, lambda: None, 60)
    assert len(memory._kept) <= MOST

"""What children write into their pipes is heard whole, in order and once, however it is cut."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.asynpool import ResultHandler
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.asynchronous import Hub

from pgjobs_celery.worker.pipe_io import CHUNK, PipeIO, lacking, split, tell


class Reader:
    """Celery's reader of pipes in an event loop, with ours within."""

    def __init__(self, hear: Callable[[Any], None]) -> None:
        self.hub = Hub()
        self.end, self.pipe = os.pipe()
        os.set_blocking(self.end, False)
        handler: Any = ResultHandler.__new__(ResultHandler)
        handler.fileno_to_outq, handler.on_state_change = {self.end: object()}, hear
        pool = SimpleNamespace(
            _result_handler=handler, _create_write_handlers=None, sched_strategy=None
        )
        PipeIO(pool, self.hub)
        handler.register_with_event_loop(self.hub)
        self.hub.add_reader(self.end, handler.handle_event, self.end)

    def turn(self) -> None:
        next(self.hub.loop)

    def close(self) -> None:
        self.hub.close()
        os.close(self.end)
        os.close(self.pipe)


@pytest.fixture
def heard() -> list[Any]:
    return []


@pytest.fixture
def reader(heard: list[Any]) -> Iterator[Reader]:
    made = Reader(heard.append)
    yield made
    made.close()


def packed(message: Any) -> bytes:
    body = pickle.dumps(message)
    return struct.pack(">i", len(body)) + body


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 200), max_size=30),
)
def test_messages_are_heard_in_order_however_they_are_cut(sizes: list[int], cuts: list[int]):
    messages = [(index, bytes(size)) for index, size in enumerate(sizes)]
    data = b"".join(map(packed, messages))
    heard: list[Any] = []
    reader = Reader(heard.append)
    try:
        for cut in [*cuts, len(data)]:
            part, data = data[:cut], data[cut:]
            if part:
                os.write(reader.pipe, part)
                reader.turn()
    finally:
        reader.close()
    assert heard == messages


def test_what_has_come_is_heard_in_one_turn(reader: Reader, heard: list[Any]):
    messages = [("ack", 1), ("ready", 1), ("ack", 2)]
    os.write(reader.pipe, b"".join(map(packed, messages)))
    reader.turn()
    assert heard == messages


def test_a_message_larger_than_a_pipe_is_read_as_it_comes(reader: Reader, heard: list[Any]):
    data = packed(("ready", bytes(5 * CHUNK))) + packed(("ack", 2))
    os.set_blocking(reader.pipe, False)
    while data:
        data = data[os.write(reader.pipe, data) :]
        reader.turn()
    assert [kind for kind, _ in heard] == ["ready", "ack"]


def test_an_error_about_one_message_leaves_the_others_heard(heard: list[Any]):
    def hear(message: Any) -> None:
        heard.append(message)
        if message[0] in (1, 2):
            raise ValueError(f"message {message[0]}")

    reader = Reader(hear)
    try:
        last = packed((3, "cut"))
        os.write(reader.pipe, packed((1, "a")) + packed((2, "b")) + last[:9])
        with pytest.raises(ValueError, match="message 2") as caught:
            reader.turn()
        assert "message 1" in str(caught.value.__context__)
        os.write(reader.pipe, last[9:])
        next(reader.hub.create_loop())
    finally:
        reader.close()
    assert [number for number, _ in heard] == [1, 2, 3]


def test_an_end_within_a_message_is_an_error_and_the_pipe_is_left_alone():
    reader = Reader(lambda message: None)
    os.write(reader.pipe, packed("half")[:6])
    reader.turn()
    pipe, reader.pipe = reader.pipe, os.dup(reader.pipe)
    os.close(reader.pipe)
    os.close(pipe)
    reader.pipe = os.open(os.devnull, os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="End of file"):
            reader.turn()
    finally:
        reader.close()


@pytest.mark.parametrize(
    ("begun", "missing"),
    [(b"", 4), (b"\0\0", 2), (b"\0\0\0\5", 5), (b"\0\0\0\5ab", 3), (b"\0\0\0\2abc", 0)],
)
def test_how_much_is_missing(begun: bytes, missing: int):
    assert lacking(begun) == missing


def test_the_beginning_of_the_next_message_is_left():
    assert split(packed("a") + packed("b") + b"\0\0") == (["a", "b"], b"\0\0")
    assert split(b"") == ([], b"")


def test_nothing_is_told_of_an_empty_message(heard: list[Any]):
    tell([None, "a"], heard.append)
    assert heard == ["a"]

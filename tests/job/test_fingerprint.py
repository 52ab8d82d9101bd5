"""Which failures are alike: hard messages, hard tracebacks, and exceptions that lie."""

from __future__ import annotations

import json
import time
import traceback

import pytest

from pgjobs_celery.job.fingerprint import LONGEST_SUMMARY, cause_of, fingerprint, own_frame, summary
from pgjobs_celery.job.outcome import error_entry, error_from
from pgjobs_celery.job.recorded import read_entry

UUID = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"


@pytest.mark.parametrize(
    ("message", "alike"),
    [
        ("order 4711 of 'Ada' is late", 'order 7 of "Bob" is late'),
        ("no row 12", "no row 99999999999999999999"),
        ("balance is -5", "balance is 1e10"),
        (f"user {UUID}", "user 9b2e7d3c4f894d119a0c0305e82c3301"),
        ("<Foo object at 0x7f1234abcd>", "<Foo object at 0x1>"),
        ("10.0.0.7:5432 refused", "192.168.178.255 refused"),
        ("fe80::1:2:3:4 is down", "2001:db8:0:0:1:2:3:4 is down"),
        ("mail to ada@example.org bounced", "mail to b.ob+x@mail.example.com bounced"),
        ("https://x.org/a?b=1 said 502", "http://y.org/ said 504"),
        ("/tmp/tmpab12/x.csv: no such file", "/var/folders/zz/9/T/tmpq: no such file"),
        ("charge cus_Nf93k2Lp8x failed", "charge cus_a81Pq22Zz9 failed"),
        ("ids (1, 2, 3)", "ids (7)"),
        ("at 2026-11-29 12:30:45", "at 1999-01-01 00:00:00"),
        ("طلب ٣٤ فشل", "طلب 7 فشل"),
        ("commit deadbeef01 is bad", "commit 0123456789abcdef is bad"),
        ("{'a': 1, 'b': [2, 3]}", "{'x': 9, 'longer': [4, 5, 6]}"),
        ("a  b\n\tc", "a b c"),
        ("x\x00y\u202ez\ud800", "xyz"),
        ("'it\\'s'", "'is'"),
        ("x" * 10 + "".join(map(str, range(2000))), "x" * 10 + "9" * 5000),
    ],
)
def test_messages_that_differ_from_job_to_job_are_alike(message, alike):
    assert summary(message) == summary(alike)


@pytest.mark.parametrize(
    ("message", "other"),
    [
        ("can't open the file", "can't close the file"),
        ("connection refused", "connection reset"),
        ("can't do this, won't do that", "can't be, won't do that"),
        ("deadlock detected", "lock not available"),
        ("zahlung abgelehnt", "Zahlung angenommen"),
        ("", "x"),
    ],
)
def test_messages_that_say_something_else_are_not(message, other):
    assert summary(message) != summary(other)


def test_a_message_of_ten_megabytes_costs_no_more_than_its_beginning():
    for part in ("a", "'", '"\\', "1.", "a@", "0:", "/tmp/", "a1", "\u202e"):
        text = part * (10_000_000 // len(part))
        began = time.process_time()
        assert len(summary(text)) <= LONGEST_SUMMARY
        assert time.process_time() - began < 5


def raised(error: BaseException, cause: BaseException | None = None) -> str:
    try:
        try:
            if cause is not None:
                raise cause
            raise error
        except BaseException as first:
            if cause is None:
                raise
            raise error from first
    except BaseException as last:
        return "".join(traceback.format_exception(type(last), last, last.__traceback__))


TRACER = 'File "/v/lib/python3.12/site-packages/celery/app/trace.py", line 1, in trace_task'


def lines(*frames: str) -> str:
    shown = [f"  {frame}\n    code()" for frame in frames]
    head = "Traceback (most recent call last):"
    return "\n".join([head, f"  {TRACER}", *shown, "ValueError: x"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (lines('File "/srv/7/app/tasks.py", line 12, in charge'), "app/tasks.py:12 in charge"),
        # What it calls is another's.
        (
            lines(
                'File "/srv/7/app/tasks.py", line 12, in charge',
                'File "/v/lib/python3.12/site-packages/requests/api.py", line 5, in get',
                'File "/usr/lib/python3.12/socket.py", line 5, in connect',
            ),
            "app/tasks.py:12 in charge",
        ),
        # An app in a folder named after Celery.
        (lines('File "/srv/celery/app/tasks.py", line 3, in f'), "app/tasks.py:3 in f"),
        # An app that is installed: its own package, and not what it calls.
        (
            lines(
                'File "/v/lib/python3.12/site-packages/shop/tasks.py", line 3, in f',
                'File "/v/lib/python3.12/site-packages/shop/pay.py", line 9, in pay',
                'File "/v/lib/python3.12/site-packages/stripe/api.py", line 8, in post',
            ),
            "shop/pay.py:9 in pay",
        ),
        (lines(r'File "C:\srv\app\tasks.py", line 3, in f'), "app/tasks.py:3 in f"),
        (lines('File "/srv/app/tasks.py", line 3, in <lambda>'), "app/tasks.py:3 in <lambda>"),
        # In a group of exceptions.
        ('  | File "/srv/app/tasks.py", line 3, in f\n  |     g()', None),
        ('  + Exception Group Traceback\n  |   File "/srv/a/t.py", line 3, in f', "a/t.py:3 in f"),
        (lines(), None),
        ("", None),
        ("Traceback \u202e\x00 (most", None),
    ],
)
def test_the_innermost_line_of_the_users_own_code_is_found(text, shown):
    if shown is None and "|" in text:
        shown = "app/tasks.py:3 in f"
    found = own_frame(text)
    assert (None if found is None else str(found)) == shown


def test_of_chained_exceptions_the_last_one_counts():
    own = own_frame(raised(ValueError("a"), KeyError("b")))
    assert own is not None
    assert own.function == "raised"
    first = lines('File "/srv/app/db.py", line 1, in load')
    chained = "\n\nDuring handling of the above exception, another exception occurred:\n\n"
    second = lines('File "/srv/app/tasks.py", line 3, in f')
    assert str(own_frame(first + chained + second)) == "app/tasks.py:3 in f"
    # The last one was raised in no line of the user's: the one before tells more than nothing.
    assert str(own_frame(first + chained + lines())) == "app/db.py:1 in load"


def entry(message: str = "x", line: int = 3, release: str = "1", function: str = "f") -> dict:
    text = lines(f'File "/srv/releases/{release}/app/tasks.py", line {line}, in {function}')
    return json.loads(error_entry("ValueError", message, text))


def test_a_problem_outlives_a_deploy():
    one = read_entry(entry("order 7")).fingerprint("t")
    assert read_entry(entry("order 9", line=40, release="2")).fingerprint("t") == one
    assert one.startswith("ValueError-")
    others = {
        read_entry(entry("order 7")).fingerprint("another task"),
        read_entry(entry("no stock")).fingerprint("t"),
        read_entry(entry("order 7", function="g")).fingerprint("t"),
        read_entry({**entry("order 7"), "type": "KeyError"}).fingerprint("t"),
    }
    assert len(others | {one}) == 5


def test_an_entry_without_its_cause_is_read_as_one_with_it():
    """Those of older releases have none."""
    new = entry("order 7")
    assert new["frame"] == "app/tasks.py:3 in f"
    old = {name: new[name] for name in ("type", "message", "traceback")}
    assert read_entry(old) == read_entry(new)


class Liar(Exception):
    __module__ = 7  # type: ignore[assignment]

    def __str__(self) -> str:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("never")


class NoText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307


@pytest.mark.parametrize(
    "error",
    [
        Liar(),
        NoText(),
        type("A-b\u202e", (Exception,), {})("x"),
        type("E" * 500, (Exception,), {})(),
    ],
)
def test_exceptions_that_lie_of_themselves_are_recorded(error):
    found = read_entry(json.loads(error_from(error, "tb")))
    name = found.fingerprint("t")
    kind, _, digest = name.rpartition("-")
    assert "-" not in kind
    assert len(kind) <= 80
    assert len(digest) == 10


def test_the_message_of_a_key_error_is_the_key():
    assert cause_of("KeyError", "'milk'", None) == cause_of("KeyError", "rum", None)
    assert cause_of("KeyError", "'milk'", None) != cause_of("LookupError", "'milk'", None)


def test_a_lost_worker_is_one_problem_however_it_is_called():
    assert cause_of("WorkerLostError", "a@b was lost", None) == "WorkerLostError"
    assert fingerprint("t", "WorkerLostError", "WorkerLostError") == fingerprint(
        "t", "WorkerLostError", None
    )


@pytest.mark.parametrize(
    "value",
    [
        None, [], 7, "text", True, {}, {"type": None}, {"type": {"a": [1]}, "message": 2**70},
        {"attempt": -1}, {"attempt": True}, {"attempt": "1"}, {"at": "infinity", "began": 7},
        {"at": "2026-13-45T00:00:00+00:00"}, {"message": "<script>\x00\u202e"}, {"cause": {}},
        {"traceback": ["x"], "worker": {"x": 1}}, {"message": "m" * 10_000_000},
    ],
)  # fmt: skip
def test_whatever_a_hand_has_written_is_read(value):
    found = read_entry(value)
    assert isinstance(found.type, str)
    assert len(found.message) <= 100_000
    assert found.attempt is None
    assert found.at is None
    assert found.fingerprint("t").rpartition("-")[2].isalnum()

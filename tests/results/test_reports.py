"""A child's report of a task is one write to the pipe, whatever the task did."""

from __future__ import annotations

import json
import pickle
import select
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from billiard import pool
from billiard.einfo import ExceptionInfo
from billiard.exceptions import SoftTimeLimitExceeded
from billiard.reduction import ForkingPickler
from celery.exceptions import Ignore, Reject, Retry

from pgjobs_celery.job.exceptions import CancelledByTask, Postponed
from pgjobs_celery.job.outcome import Result
from pgjobs_celery.results import reports
from pgjobs_celery.results.handover import hand_over, returned, trace_job

LONG, WIDE = "x" * 100_000, "\U0001f600" * 50_000
ENTRY = json.dumps({"type": "ValueError", "message": WIDE[:3000], "traceback": LONG})


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process looks like a child of billiard's pool."""
    monkeypatch.setattr(reports, "_child", reports._Child())
    monkeypatch.setattr(pool, "ExceptionInfo", pool.ExceptionInfo)
    before = signal.signal(signal.SIGUSR1, pool.soft_timeout_sighandler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def message(ok: bool, returned: Any) -> bytes:
    """What billiard writes to the pipe of it."""
    return b"size" + ForkingPickler.dumps((pool.READY, (10**9, None, (ok, returned), 100)))


def report(trace: Any) -> bytes:
    """What a child writes of a task that Celery's tracer tells of like this."""
    try:
        told = True, trace_job(trace, "task", "id")
    except BaseException:
        told = False, pool.ExceptionInfo()
    written = message(*told)
    assert len(written) <= select.PIPE_BUF
    return written


def raised(error: BaseException, depth: int = 20) -> ExceptionInfo:
    def fall(depth: int) -> None:
        if depth:
            fall(depth - 1)
        raise error

    try:
        fall(depth)
    except BaseException:
        return ExceptionInfo()


@pytest.mark.usefixtures("child")
@pytest.mark.parametrize("text", ["1", LONG, WIDE], ids=["short", "long", "wide"])
@pytest.mark.parametrize("size", [0, 100, 1_500, 2_000, 3_000, 60_000])
def test_a_result_and_what_is_shown_of_it_fit(text: str, size: int):
    result = Result("id", b"r" * size, "application/json", None, None, None)
    handed: list[bool] = []

    def trace(name: str, task_id: str) -> tuple[Any, ...]:
        with returned(task_id):
            handed.append(hand_over(result))
        return 0, text, 0.1

    written = report(trace)
    assert handed == [size <= 2_000]
    assert (b"r" * size in written) == handed[0]
    assert text[:200].encode() in written


@pytest.mark.usefixtures("child")
@pytest.mark.parametrize("where", ["children", "task_id"])
def test_what_else_belongs_to_a_result_counts(where: str):
    result = Result("id", b"1", "application/json", None, None, None)._replace(**{where: LONG})

    def trace(name: str, task_id: str) -> tuple[Any, ...]:
        with returned(result.task_id):
            assert not hand_over(result)
        return 0, "1", 0.1

    written = message(True, trace_job(trace, "task", result.task_id))
    assert len(written) <= select.PIPE_BUF


class Unprintable(Exception):
    def __str__(self) -> str:
        raise KeyError("no")


ERRORS = [
    ValueError("short"),
    ValueError(LONG),
    ValueError(WIDE),
    OSError(5, LONG, LONG),
    ValueError(lambda: "cannot be pickled"),
    Unprintable(LONG),
    Retry(LONG, ValueError(WIDE), 3),
    Retry(exc=LONG),
    Reject(LONG, requeue=True),
    Ignore(LONG),
    MemoryError(LONG),
    CancelledByTask(LONG),
    Postponed(3.0, ValueError(LONG), ENTRY),
    Postponed(3.0, ValueError("short"), json.dumps({"type": "E", "message": "m" * 2000})),
]


@pytest.mark.usefixtures("child")
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_failure_fits_and_means_the_same(error: Exception):
    written = report(lambda name, task_id: (1, raised(error), 0.1))
    _, (_, _, (_, (failed, info, _)), _) = pickle.loads(written[4:])
    told = info.exception
    assert failed
    assert "Traceback" in info.traceback
    if isinstance(error, (Retry, Reject, Ignore, MemoryError)):
        assert type(told) is type(error)
    else:
        names = (type(told).__name__, getattr(told, "exc_cls_name", ""))
        assert type(error).__name__ in names
    for name in ("when", "requeue", "delay"):
        assert getattr(told, name, None) == getattr(error, name, None)
    if isinstance(error, Postponed):
        assert json.loads(told.error)["type"] in ("ValueError", "E")


@pytest.mark.usefixtures("child")
@pytest.mark.parametrize("error", [SystemExit(LONG), Reject(LONG), ValueError(LONG)])
def test_what_leaves_the_tracer_fits(error: BaseException):
    def trace(name: str, task_id: str) -> tuple[Any, ...]:
        raise error

    report(trace)


@pytest.mark.usefixtures("child")
def test_a_soft_time_limit_ends_a_task_and_not_what_it_has_achieved():
    def trace(name: str, task_id: str) -> tuple[Any, ...]:
        with pytest.raises(SoftTimeLimitExceeded):
            signal.raise_signal(signal.SIGUSR1)
        with returned(task_id):
            signal.raise_signal(signal.SIGUSR1)
            assert hand_over(Result(task_id, b"1", "application/json", None, None, None))
        signal.raise_signal(signal.SIGUSR1)
        return 0, "1", 0.1

    assert trace_job(trace, "task", "id")[1].result.result == b"1"
    signal.raise_signal(signal.SIGUSR1)
    assert trace_job(trace, "task", "next")[1].result.task_id == "next"


@pytest.mark.usefixtures("child")
def test_what_a_task_says_of_another_does_not_end_its_limit():
    def trace(name: str, task_id: str) -> tuple[Any, ...]:
        with returned("another"):
            pass
        with pytest.raises(SoftTimeLimitExceeded):
            signal.raise_signal(signal.SIGUSR1)
        return 0, "1", 0.1

    trace_job(trace, "task", "id")


def test_elsewhere_nothing_is_cut():
    failed, info, _ = trace_job(lambda *_: (1, raised(ValueError(LONG)), 0.1), "task", "id")
    assert failed
    assert info.tb is not None
    assert trace_job(lambda *_: (0, LONG, 0.1), "task", "id")[1] == LONG

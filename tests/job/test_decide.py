"""Each way in which a run can end, and the outcome of its job."""

from __future__ import annotations

import json
from typing import Any

import pytest
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded

from pgjobs_celery.job.decide import End, EndedRun, decide, is_killed
from pgjobs_celery.job.exceptions import (
    REPLACED,
    Cancel,
    CancelledByTask,
    Discard,
    Postponed,
    Snooze,
)
from pgjobs_celery.job.outcome import Outcome, Result, error_from
from pgjobs_celery.job.rows import ClaimKey
from pgjobs_celery.job.states import State

CLAIM = ClaimKey(7, 3)
RESULT = Result("id", b"1", "application/json", None, None, None)
ENTRY = error_from(KeyError("x"), "Traceback ...")

#: No other code can have written the end before.
SOLE = {"is_sole": True}

COMPLETED = (State.COMPLETED, {})
REQUEUED = (State.AVAILABLE, {})
#: Gone back, or failed, because the worker had to leave at once.
CUT_SHORT = (State.AVAILABLE, {"kind": "WorkerShutdown", "is_interrupted": True})
CUT_OFF = (State.DISCARDED, {"kind": "WorkerLostError"})


def failed(kind: str, **fields: Any) -> tuple[State, dict[str, Any]]:
    return State.DISCARDED, {"kind": kind, **fields}


def raised(error: BaseException, **known: Any) -> dict[str, Any]:
    return {"end": End.RAISED, "error": error, **known}


def timed_out(**known: Any) -> dict[str, Any]:
    return {"end": End.TIMED_OUT, "limit": 5, **known}


#: What is known of the end, the job's state, and the fields that differ from the usual ones: it
#: counts as an attempt, no entry for ``errors``, other code may have written the end before.
ENDS: dict[str, tuple[dict[str, Any], tuple[State, dict[str, Any]] | None]] = {
    # The task returned.
    "its result is handed over": (
        {"end": End.RETURNED, "result": RESULT},
        (State.COMPLETED, {"result": RESULT, "awaited": "id", "is_sole": True}),
    ),
    "its process has finished the row": ({"end": End.RETURNED, "is_written": True}, None),
    "its result is ignored": (
        {"end": End.RETURNED, "is_shared": False}, (State.COMPLETED, SOLE)
    ),
    "its result is kept elsewhere": ({"end": End.RETURNED}, COMPLETED),
    "its process has found the claim lost": (
        {"end": End.RETURNED, "is_lost": True}, (State.COMPLETED, SOLE)
    ),
    # The task, or code around it, raised.
    "it failed": (
        raised(KeyError("x"), traceback="Traceback ..."), (State.DISCARDED, {"error": ENTRY})
    ),
    "it failed, and failures are not stored": (
        raised(KeyError("x"), stores_failure=False, is_shared=False),
        failed("KeyError", is_stored=False),
    ),
    "it failed, and its process has found the claim lost": (
        raised(KeyError("x"), is_lost=True), failed("KeyError", is_sole=True)
    ),
    "it discards its job": (raised(Discard("no")), failed("Discard")),
    "it snoozes outside of a PgTask": (raised(Snooze(5)), failed("Snooze")),
    "it cancels outside of a PgTask": (raised(Cancel("no")), failed("Cancel")),
    "it will be tried again": (
        raised(Postponed(30, KeyError("x"), ENTRY)),
        (State.RETRYABLE, {"delay": 30, "error": ENTRY, "is_sole": True}),
    ),
    "it will be tried again, and its result is ignored": (
        raised(Postponed(30, KeyError("x"), ENTRY), stores_failure=False),
        (State.RETRYABLE, {"delay": 30, "error": ENTRY, "is_sole": True, "is_stored": False}),
    ),
    "it will be tried again, and the row has the reason": (
        raised(Postponed(30, KeyError("x"), "")),
        (State.RETRYABLE, {"delay": 30, "is_sole": True}),
    ),
    "its process was lost, and it will be tried again": (
        raised(Postponed(30, WorkerLostError("x"), ENTRY)),
        (
            State.RETRYABLE,
            {
                "delay": 30, "error": ENTRY, "was_lost": True, "is_sole": True,
                "is_interrupted": True,
            },
        ),
    ),
    "it is snoozed": (
        raised(Postponed(30, Snooze(30), None)),
        (State.SCHEDULED, {"delay": 30, "counts": False, "is_sole": True}),
    ),
    "it has cancelled its job": (
        raised(CancelledByTask("no")),
        (State.CANCELLED, {"kind": "TaskRevokedError", "is_sole": True}),
    ),
    "it has retried itself": (raised(Retry()), COMPLETED),
    "it has retried itself, and its result is ignored": (
        raised(Retry(), is_shared=False), COMPLETED
    ),
    "it is replaced": (raised(Ignore(REPLACED)), (State.EXECUTING, {})),
    "it raised Ignore": (raised(Ignore("no")), COMPLETED),
    "it raised Ignore, and its result is ignored": (
        raised(Ignore("no"), is_shared=False), (State.COMPLETED, SOLE)
    ),
    "it raised Reject": (raised(Reject("no")), failed("Reject")),
    "it raised Reject to be requeued, acknowledged early": (
        raised(Reject("no", requeue=True), acks_late=False), failed("Reject")
    ),
    "its soft time limit was exceeded": (
        raised(SoftTimeLimitExceeded()), failed("SoftTimeLimitExceeded")
    ),
    # Its process was lost with it.
    "its process was killed": (raised(WorkerLostError("signal 9")), failed("WorkerLostError")),
    "its process has left": (raised(SystemExit(1)), failed("SystemExit")),
    "it was interrupted": (raised(KeyboardInterrupt()), failed("KeyboardInterrupt")),
    "its process was terminated": (raised(Terminated(15)), failed("Terminated")),
    "it was terminated, and Celery has announced that": (
        raised(Terminated(15), is_revoked=True), (State.CANCELLED, {})
    ),
    "it failed when it was revoked": (
        raised(KeyError("x"), is_revoked=True), (State.CANCELLED, {})
    ),
    **{
        f"a cold shutdown has ended it by {type(error).__name__}, {when}": (
            raised(error, is_cut_short=True, acks_late=acks_late), expected
        )
        for error in (Terminated(15), WorkerLostError("x"), SystemExit(), KeyboardInterrupt())
        for when, acks_late, expected in (
            ("acknowledged late", True, CUT_SHORT), ("acknowledged early", False, CUT_OFF)
        )
    },
    "it failed in a cold shutdown": (raised(KeyError("x"), is_cut_short=True), failed("KeyError")),
    "the pool ended without a report": ({"end": End.UNREPORTED}, CUT_SHORT),
    "the pool ended without a report, acknowledged early": (
        {"end": End.UNREPORTED, "acks_late": False}, CUT_OFF
    ),
    # Its hard time limit was exceeded.
    "its time is over": (timed_out(), failed("TimeLimitExceeded")),
    "its time is over, and failures are not stored": (
        timed_out(stores_failure=False), failed("TimeLimitExceeded", is_stored=False)
    ),
    "its time is over, acknowledged early": (
        timed_out(acks_late=False), failed("TimeLimitExceeded")
    ),
    "its time is over, acknowledged early, though not on timeout": (
        timed_out(acks_late=False, acks_on_timeout=False), failed("TimeLimitExceeded")
    ),
    "its time is over, acknowledged late, and not on timeout": (
        timed_out(acks_on_timeout=False), (State.AVAILABLE, {"kind": "TimeLimitExceeded"})
    ),
    "its time is over, says its pool": (
        raised(TimeLimitExceeded(5)), failed("TimeLimitExceeded")
    ),
    # Celery has put the message back, or published another.
    "it raised Reject to be requeued": (
        {"end": End.REQUEUED, "error": Reject("no", requeue=True)}, REQUEUED
    ),
    "it is requeued by its holder": (
        {"end": End.REQUEUED, "is_shared": False, "task_id": None}, (State.AVAILABLE, SOLE)
    ),
    "its worker was lost, and it is requeued": (
        {"end": End.REQUEUED, "error": WorkerLostError("x")},
        (State.AVAILABLE, {"kind": "WorkerLostError"}),
    ),
    "its worker was lost, and it is published again": ({"end": End.REPUBLISHED}, None),
    # It did not begin.
    "it was revoked": (
        {"end": End.REVOKED, "reason": "no"}, (State.CANCELLED, {"kind": "TaskRevokedError"})
    ),
    # No pool had it.
    "it was acknowledged": ({"end": End.ACKNOWLEDGED}, COMPLETED),
    "a plain consumer has acknowledged it": (
        {"end": End.ACKNOWLEDGED, "is_shared": False}, (State.COMPLETED, SOLE)
    ),
    "it was acknowledged, for it cannot be read": (
        {"end": End.ACKNOWLEDGED, "error": ValueError("x")}, failed("ValueError")
    ),
    "it was rejected": ({"end": End.REJECTED}, failed("Reject")),
    "it was rejected, for it cannot be read": (
        {"end": End.REJECTED, "error": ValueError("x")}, failed("ValueError")
    ),
    "it was rejected, and failures are not stored": (
        {"end": End.REJECTED, "stores_failure": False}, failed("Reject", is_stored=False)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_a_run_that_has_ended_becomes_an_outcome(name: str):
    known, expected = ENDS[name]
    job = ("task", "id")
    outcome = decide(EndedRun(CLAIM, **{"task_id": "id", "job": job, **known}))
    if expected is None:
        assert outcome is None
        return
    state, fields = expected
    kind = fields.get("kind")
    assert outcome is not None
    assert kind is None or json.loads(outcome.error or "{}")["type"] == kind
    awaited = None if state is State.COMPLETED else known.get("task_id", "id")
    usual = {
        "awaited": awaited, "is_sole": False, "job": job, "error": outcome.error if kind else None
    }  # fmt: skip
    differing = {name: value for name, value in fields.items() if name != "kind"}
    assert outcome == Outcome(*CLAIM, state, **{**usual, **differing})


def test_every_end_is_in_the_table():
    assert {known["end"] for known, _ in ENDS.values()} == set(End)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyError("x"), False), (Terminated(15), False), (WorkerLostError("x"), True),
        (TimeLimitExceeded(5), True), (SystemExit(), True), (KeyboardInterrupt(), True),
        (SoftTimeLimitExceeded(), False),
    ],
)  # fmt: skip
def test_some_errors_mean_that_the_process_is_lost(error: BaseException, expected: bool):
    assert is_killed(error) is expected

"""Errors of attempts: as entries of ``errors`` in the row, and as Celery reads them back."""

from __future__ import annotations

from typing import Any

from celery import states
from celery.utils.serialization import UnpickleableExceptionWrapper

from ..db.rows.results import StoredResult
from ..job.outcome import error_entry, error_from


def error_of(result: Any, state: str, traceback: str | None) -> str | None:
    """The entry of ``errors`` for an attempt that failed; None for one that did not."""
    if state not in states.EXCEPTION_STATES:
        return None
    if result is None and state == states.RETRY:
        return error_entry("Retry", "the task has retried itself", traceback)
    if isinstance(result, dict) and "exc_type" in result:
        message = result.get("exc_message")
        parts = message if isinstance(message, (list, tuple)) else [message]
        text = ", ".join(str(part) for part in parts)
        return error_entry(str(result["exc_type"]), text, traceback, result.get("exc_module"))
    if isinstance(result, UnpickleableExceptionWrapper):
        return error_entry(result.exc_cls_name, str(result), traceback, result.exc_module)
    if isinstance(result, BaseException):
        return error_from(result, traceback)
    return error_entry(state, str(result), traceback)


def exception_of(row: StoredResult, state: str) -> dict[str, Any]:
    """The exception of a job that failed without storing one: results are ignored, or its worker
    was lost, or it was set aside."""
    error = row.last_error or {}
    default = "TaskRevokedError" if state == states.REVOKED else "Exception"
    return {
        "exc_type": error.get("type", default),
        "exc_message": [error.get("message", state.lower())],
        "exc_module": error.get("module", "celery.exceptions"),
    }

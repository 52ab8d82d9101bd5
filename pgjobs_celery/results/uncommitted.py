"""Refuse to wait for the result of a job that is only published after the wait."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import ResultSet

from ..db.callers.base import callers
from ..db.database import known_databases
from ..errors import NotCommitted
from ..publishing.batch import batches
from ..publishing.insertion import Insertion


class WaitsForItself(NotCommitted, CeleryTimeoutError):
    """A NotCommitted that Celery's callers treat as a timeout."""


def require_committed(result: Any) -> None:
    """Raise NotCommitted for a result that cannot arrive while this thread waits for it.

    That is the result of a job, or of its successor, that was published in the transaction that is
    open here, or is collected and not written yet. The error is a Celery TimeoutError as well:
    software that waits for ten seconds and then goes on does so at once.
    """
    if not _may_wait_for_itself():
        return
    ids = {*_ids(result)}
    if collected := _collected(ids):
        raise WaitsForItself(
            f"task {collected} is collected, and published when the block ends that it is in: to "
            "wait for its result would be to wait for ever. Wait after the block"
        )
    for database in known_databases():
        for task_id in database.find_uncommitted([*ids]):
            raise WaitsForItself(
                f"task {task_id} was published in a transaction that is still open here, and runs "
                "after its commit: to wait for its result would be to wait for ever. Wait after "
                "the commit, or publish it in `with using(None):`; for software that cannot be "
                "changed use a pgjobs:// URL in place of pgjobs+django://"
            )


def _may_wait_for_itself() -> bool:
    return bool(
        batches.find() is not None
        or callers.find() is not None
        or any(database.alias for database in known_databases())
    )


def _ids(result: Any) -> Iterator[str]:
    """The ids of a result, of those that it is made of, and of those that come before it."""
    while result is not None:
        if isinstance(result, ResultSet):
            for each in result.results:
                yield from _ids(each)
        else:
            yield str(result.id)
        result = getattr(result, "parent", None)


def _collected(ids: Collection[str]) -> str | None:
    scope = batches.find()
    steps = scope.value.steps if scope is not None and scope.value is not None else ()
    for step in steps:
        if isinstance(step, Insertion) and step.job.task_id in ids:
            return step.job.task_id
    return None

"""A job as its running task sees it: whether it must stop, and its meta."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from ..db.database import CONNECTION_ERRORS, Database, find_database
from ..errors import ClaimLost
from ..job.held_claim import HeldClaim, held_claim
from ..job.options import check_meta, encode_json, published_options
from ..job.outcome import Result
from ..job.progress import progress_of
from ..printable import guarded
from ..scopes.threads import in_thread

logger = guarded(logging.getLogger(__name__))

#: How old the answer of :meth:`RunningJob.is_cancelled` may be, in seconds.
LOOK_INTERVAL = 0.5
#: The same after the server could not be asked: each try may take as long as connecting does.
RETRY_INTERVAL = 5.0


class RunningJob:
    """The job behind a task's request. One for each run; use :func:`running_job`."""

    def __init__(self, request: Any) -> None:
        self.task_id = str(request.id)
        self.held: HeldClaim | None = held_claim(request)
        self.database: Database | None = find_database(self.held.key) if self.held else None
        self.meta = Meta(self, published_options(request).get("meta") or {})
        self._is_cancelled = False
        self._look_at = 0.0

    def is_cancelled(self) -> bool:
        """True once the job must stop. Asks the database twice a second at most."""
        now = time.monotonic()
        if self._is_cancelled or self.held is None or self.database is None or now < self._look_at:
            return self._is_cancelled
        self._look_at = now + LOOK_INTERVAL
        try:
            self._is_cancelled = not self.database.held.find_claim(self.task_id, self.held.fence)
        except CONNECTION_ERRORS as error:
            self._look_at = now + RETRY_INTERVAL
            logger.warning("task %s cannot ask whether it is cancelled: %s", self.task_id, error)
        return self._is_cancelled

    async def ais_cancelled(self) -> bool:
        """As :meth:`is_cancelled`; the event loop goes on while the database is asked."""
        if self._is_cancelled or self.held is None or time.monotonic() < self._look_at:
            return self._is_cancelled
        return await in_thread(self.is_cancelled)

    def record(self, entry: str) -> bool:
        """Add an entry to ``errors`` of a job that will be retried; False if that fails."""
        if self.held is None or self.database is None:
            return False
        new = Result(self.task_id, None, None, None, None, entry)
        results, fence = self.database.results, self.held.fence
        try:
            return self.database.retrying(lambda: results.record_retry(new, fence))
        except CONNECTION_ERRORS as error:
            logger.warning("task %s cannot write why it failed: %s", self.task_id, error)
            return False


class Meta(MutableMapping[str, Any]):
    """A job's meta: read from its row at the first access, written to it at once.

    Each assignment is one statement, and so is :meth:`update` as a whole. Values are JSON.
    Without a row (eager, another broker) it lives as long as the run.
    Writing raises InvalidOption for a value that JSON cannot hold, and ClaimLost once another
    worker has the job.
    """

    def __init__(self, job: RunningJob, published: Mapping[str, Any]) -> None:
        self._job = job
        self._published = published
        self._values: dict[str, Any] | None = None

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._write({key: value})

    def __delitem__(self, key: str) -> None:
        del self._read()[key]
        self._write({}, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return repr(self._read())

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several keys in one statement."""
        self._write(dict(*args, **kwargs))

    def refresh(self) -> None:
        """Read the row again: another program may have written to it."""
        self._values = None

    async def aget(self, key: str, default: Any = None) -> Any:
        """As ``get()``; the event loop goes on while the row is read."""
        return await in_thread(self.get, key, default)

    async def aset(self, key: str, value: Any) -> None:
        """``meta[key] = value``; the event loop goes on while it is written."""
        await in_thread(self._write, {key: value})

    async def aupdate(self, *args: Any, **kwargs: Any) -> None:
        """As :meth:`update`; the event loop goes on while it is written."""
        await in_thread(self._write, dict(*args, **kwargs))

    def _read(self) -> dict[str, Any]:
        if self._values is None:
            database = self._job.database
            self._values = (
                dict(self._published)
                if database is None
                else database.held.get_meta(self._job.task_id)
            )
        return self._values

    def _write(self, patch: dict[str, Any], *removed: str) -> None:
        patch = check_meta(patch)
        job = self._job
        if job.held is None or job.database is None:
            self._read().update(patch)
            return
        text = encode_json(patch, "meta")
        values = job.database.held.merge_meta(job.task_id, job.held.fence, text, removed)
        if values is None:
            raise ClaimLost(
                f"job {job.task_id} is not this task's any more: its meta stays as it is"
            )
        self._values = values


def running_job(request: Any) -> RunningJob:
    """The job behind this request; the same one each time."""
    progress = progress_of(request)
    if progress.job is None:
        progress.job = RunningJob(request)
    job: RunningJob = progress.job
    return job

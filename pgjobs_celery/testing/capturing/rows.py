"""The rows of a database as an inbox, for assertions in mode "real"."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ...errors import PgJobsError, UndecodableRow
from ...job.envelope import decode_envelope
from ...job.job import Job
from ...job.rows import HIGHEST_RANK
from ...job.states import State
from ...scopes.steady import monotonic
from .capture import Enqueued
from .receiving import read_job

#: Seconds between two looks at the rows while an assertion waits.
INTERVAL = 0.05
#: How many messages are read at a time.
PAGE = 500


class Rows:
    """The jobs of an app whose broker is ``pgjobs://``.

    They are read over the caller's connection if it has one: within :func:`using`, or a transaction
    of Django's, uncommitted jobs are seen as well.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    @property
    def last(self) -> int:
        """The number of the newest row; 0 without any."""
        newest = self._select().list(limit=1)
        return (newest[0].id or 0) if newest else 0

    def find(self, task: str | None = None, after: int = 0) -> list[Enqueued]:
        """Those of a task, or all, in the order they were published, in any state."""
        selection = self._select()
        jobs = list(selection.filter(task=task) if task else selection)
        jobs = [job for job in jobs if (job.id or 0) > after]
        found: list[Enqueued] = []
        for start in range(0, len(jobs), PAGE):
            found += self._read(selection.database, jobs[start : start + PAGE])
        return found

    def wait_until(self, holds: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``holds()``, for ``timeout`` seconds at most; return whether it does."""
        end = monotonic() + timeout
        while not holds():
            left = end - monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, INTERVAL))
        return True

    def _select(self) -> Any:
        # Only here: it loads the database driver, which the other modes do not need.
        from ...control.jobs import jobs

        try:
            return jobs(self._app)
        except PgJobsError as error:
            raise PgJobsError(f'testing(app, "real") asserts of rows: {error}') from None

    def _read(self, database: Any, jobs: Sequence[Job]) -> list[Enqueued]:
        messages = database.matches.get_messages([job.task_id for job in jobs])
        order = database.options.priority_order
        lanes = database.flow_rules.get_lanes([job.task_id for job in jobs])
        return [
            replace(
                self._to_enqueued(job, messages.get(job.task_id), order),
                **dict(zip(("lane", "cost"), lanes.get(job.task_id, (None, None)), strict=True)),
            )
            for job in jobs
        ]

    def _to_enqueued(self, job: Job, message: tuple[str, bytes] | None, order: str) -> Enqueued:
        read = _plain(job)
        if message is not None:
            with suppress(UndecodableRow, ValueError, TypeError, LookupError):
                envelope = decode_envelope(message[0], job.queue)
                read = read_job(
                    {
                        "headers": envelope.headers,
                        "properties": envelope.properties,
                        "content-type": envelope.content_type,
                        "content-encoding": envelope.content_encoding,
                        "body": message[1],
                    },
                    job.queue,
                    envelope.exchange,
                    envelope.routing_key,
                    lambda: self._app.timezone,
                )
        waits = job.state in (State.SCHEDULED, State.RETRYABLE)
        return replace(
            read,
            number=job.id or 0,
            queue=job.queue,
            state=job.state,
            priority=_priority(job, order),
            eta=job.scheduled_at if waits else read.eta,
            published_at=job.inserted_at or read.published_at,
            retries=max(job.attempt - 1, 0),
            tags=job.tags,
            meta=job.meta,
            max_attempts=job.max_attempts,
        )


def _plain(job: Job) -> Enqueued:
    return Enqueued(
        task_id=job.task_id,
        task=job.task,
        args=job.args or [],
        kwargs=job.kwargs or {},
        queue=job.queue,
        root_id=job.root_id,
        parent_id=job.parent_id,
        group_id=job.group_id,
    )


def _priority(job: Job, order: str) -> int:
    return HIGHEST_RANK - job.priority if order == "desc" else job.priority

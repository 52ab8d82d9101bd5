"""Find jobs, look at them, and act on them.

from pgjobs_celery import jobs

jobs(app).filter(task=welcome, kwargs={"user_id": 7}, state="scheduled").cancel()
"""

from __future__ import annotations

import logging
import signal as signals
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any

from ..db.database import Database
from ..errors import InvalidOption
from ..job.envelope import LONGEST_NAME, rank
from ..job.rows import HIGHEST_RANK, LOWEST_RANK
from ..job.states import FINAL, WAITING, State
from ..printable import guarded
from .acting import begin_action
from .app import database_of
from .filters import Filters, seconds, text
from .found_job import FoundJob

if TYPE_CHECKING:
    from ..db.rows.audit import Action
    from ..db.rows.filtered import Matches, OnBatch, Survey

logger = guarded(logging.getLogger(__name__))

#: About how many rows a table must have for a warning of a search without an index.
LARGE = 100_000

#: The states that each action applies to; a job in another is left as it is.
ACTS_ON = {
    "cancel": WAITING | {State.EXECUTING},
    "retry": FINAL | {State.SCHEDULED, State.RETRYABLE},
    "delete": FINAL | WAITING,
    "reschedule": WAITING,
    "set_priority": WAITING,
    "move": WAITING,
}

TaskIds = list[str]
Jobs = list[FoundJob]


def jobs(app: Any) -> Selection:
    """All jobs of a Celery app; narrow them with :meth:`Selection.filter`.

    They are those in the database of the app's broker or, where that is another kind of broker,
    of its result backend. A :class:`~pgjobs_celery.db.database.Database` may be given as well.
    Raises PgJobsError if the app has neither.
    """
    if isinstance(app, Database):
        return Selection(app)
    return Selection(database_of(app), zone=lambda: app.timezone, app=app)


class Selection:
    """The jobs that match filters. They are looked up each time that they are read.

    An action changes the matching jobs in a state it applies to, in batches of 1,000, each in its
    own transaction, and returns the task ids of the jobs that it has changed. Jobs published after
    its start are left alone, so it ends even while others publish. It waits for a row that a
    worker is just claiming. The audit records it, batch by batch and with it or not at all.
    """

    def __init__(
        self,
        database: Database,
        filters: Filters | None = None,
        zone: Callable[[], tzinfo] = lambda: timezone.utc,
        app: Any = None,
        under: Action | None = None,
        until: int | None = None,
    ) -> None:
        #: Where the jobs are.
        self.database = database
        self._filters = filters or Filters()
        self._zone = zone
        self._app = app
        #: An action that has begun, and that all is part of which is done to them.
        self._under = under
        #: The newest row that an action may change; None: that at its start.
        self._until = until

    def __repr__(self) -> str:
        return f"<jobs: {self._filters if self.is_filtered else 'all'}>"

    def filter(self, **filters: Any) -> Selection:
        """A narrower selection, with these filters too; this one stays as it is.

        Each takes one value, or a list, tuple or set of which any may match; of tags all must.
        Earlier filters still hold: two different queues, one after the other, match no job.
        Raises UnknownOption for an unknown name, InvalidOption for an invalid value.
        """
        narrower = self._filters.narrow(**filters)
        return Selection(self.database, narrower, self._zone, self._app, self._under, self._until)

    @property
    def is_filtered(self) -> bool:
        """False if this selects all jobs."""
        return bool(self._filters.given)

    @property
    def uses_index(self) -> bool:
        """False if finding these takes a scan of all rows."""
        return self._filters.uses_index

    # Look

    def __iter__(self) -> Iterator[FoundJob]:
        """The jobs, oldest first, read as they are asked for."""
        return self._read(newest=False)

    def list(self, limit: int | None = 100, *, newest: bool = True) -> Jobs:
        """Up to ``limit`` jobs (None: all), newest first or oldest first."""
        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise InvalidOption(f"limit must be a whole number from 0 on, or None, not {limit!r}")
        return [*self._read(newest=newest, limit=limit)]

    def first(self) -> FoundJob | None:
        """The oldest; None without any."""
        return next(self._read(newest=False, limit=1), None)

    def get(self, id: Any) -> FoundJob | None:
        """The job with this task id; None if it is not in this selection."""
        return self.filter(id=id).first()

    def exists(self) -> bool:
        """True if there is any."""
        return self.first() is not None

    def count(self) -> int:
        """How many there are."""
        return sum(self.count_by_state().values())

    def count_by_state(self) -> dict[State, int]:
        """How many there are in each state, 0 included."""
        counts = dict.fromkeys(State, 0)
        if not self._filters.is_impossible:
            self._advise()
            counts.update(self._matches.count_matched(self._filters.parameters()))
        return counts

    def _read(self, *, newest: bool, limit: int | None = None) -> Iterator[FoundJob]:
        if self._filters.is_impossible:
            return iter(())
        self._advise()
        parameters = self._filters.parameters()
        found = self._matches.list_jobs(parameters, newest=newest, limit=limit)
        return (FoundJob.of(job, self.database) for job in found)

    # Act

    def cancel(
        self,
        reason: str = "",
        *,
        terminate: bool = False,
        signal: str | int = "SIGTERM",
        on_batch: OnBatch | None = None,
    ) -> TaskIds:
        """Cancel them: waiting jobs will never start, running tasks are told.

        A running task goes on until it asks, or is ended with ``signal`` if ``terminate``. The
        result of a job that was waiting raises TaskRevokedError at once. Finished jobs stay as they
        are.
        """
        values = {
            "reason": text("reason", reason) or None,
            "signal": _signal(signal) if terminate else None,
        }
        return self._act("cancel", self._matches.cancel_jobs, on_batch, **values)

    def retry(
        self,
        *,
        keeps_time: bool = False,
        forget_steps: bool = False,
        on_batch: OnBatch | None = None,
    ) -> TaskIds:
        """Put jobs that wait for their time, and finished ones, at the end of the line.

        It is the same job: id and errors stay, the result is deleted, and it may run once more than
        it has, however often that was. Left alone are a job whose unique key has passed to another
        that has not run yet, and a result whose task went through another broker. With
        ``keeps_time``, to take a cancellation back, jobs whose time has not come wait for it again.
        The values of their steps are remembered, unless ``forget_steps``: then they begin anew.
        """
        given = {"keeps_time": keeps_time, "forget_steps": forget_steps}
        values = {name: True for name, value in given.items() if value}
        return self._act("retry", self._matches.retry_jobs, on_batch, **values)

    def delete(self, *, on_batch: OnBatch | None = None) -> TaskIds:
        """Delete their rows with their results, except those of running jobs."""
        return self._act("delete", self._matches.delete_jobs, on_batch)

    def reschedule(
        self,
        *,
        eta: datetime | None = None,
        countdown: float | timedelta | None = None,
        on_batch: OnBatch | None = None,
    ) -> TaskIds:
        """Run waiting jobs at ``eta``, or ``countdown`` seconds from now; at once if that is past.

        An ``eta`` without a time zone is in the app's; a countdown goes by the database's clock.
        """
        if (eta is None) == (countdown is None):
            raise InvalidOption("reschedule takes either eta or countdown")
        if eta is not None:
            if not isinstance(eta, datetime):
                raise InvalidOption(f"eta must be a datetime, not {eta!r}")
            eta = eta if eta.tzinfo else eta.replace(tzinfo=self._zone())
        wait = None if countdown is None else seconds("countdown", countdown)
        return self._act(
            "reschedule", self._matches.reschedule_jobs, on_batch, eta=eta, countdown=wait
        )

    def set_priority(self, priority: int, *, on_batch: OnBatch | None = None) -> TaskIds:
        """Give waiting jobs another priority, 0 to 255, counted as by ``priority_order``.

        A retry by the task itself restores the priority of the message.
        """
        if not isinstance(priority, int) or not LOWEST_RANK <= priority <= HIGHEST_RANK:
            raise InvalidOption(f"priority must be {LOWEST_RANK} to {HIGHEST_RANK}: {priority!r}")
        place = rank(priority, self.database.options.priority_order)
        return self._act("set_priority", self._matches.prioritize_jobs, on_batch, priority=place)

    def move(self, queue: Any, *, on_batch: OnBatch | None = None) -> TaskIds:
        """Put waiting jobs at the end of another queue.

        The message stays as it was published: one that went to an exchange goes there again when
        the task retries itself.
        """
        name = text("queue", getattr(queue, "name", queue))
        if not 0 < len(name.encode()) <= LONGEST_NAME:
            raise InvalidOption(f"queue must have 1 to {LONGEST_NAME:,} bytes, not {name[:40]!r}")
        return self._act("move", self._matches.move_jobs, on_batch, to=name)

    @property
    def _matches(self) -> Matches:
        return self.database.matches

    def _act(
        self,
        action: str,
        act: Callable[..., TaskIds],
        on_batch: OnBatch | None,
        **values: Any,
    ) -> TaskIds:
        filters = self._filters.narrow(state=ACTS_ON[action])
        if filters.is_impossible:
            return []
        survey = self._matches.survey_jobs()
        self._warn(filters, survey)
        if survey.newest is None:
            return []
        tell = on_batch or (lambda count: None)
        recorded = self._under or self._begin(act.__name__)
        if not recorded.details:
            recorded.details = {
                key: value.isoformat() if isinstance(value, datetime) else value
                for key, value in values.items()
                if value is not None
            }
        until = survey.newest if self._until is None else self._until
        return act(filters.parameters(), until, tell, action=recorded, **values)

    def _begin(self, name: str) -> Action:
        """The action as the audit records it."""
        return begin_action(name, self._app, **self._filters.recorded())

    def _advise(self) -> None:
        """Warn, before a search, if it may be slow."""
        if not self.uses_index:
            self._warn(self._filters, self._matches.survey_jobs())

    def _warn(self, filters: Filters, survey: Survey) -> None:
        if filters.uses_index or survey.rows <= LARGE:
            return
        if not filters.columns.isdisjoint(survey.indexed):
            return  # an index of the user's own
        columns = ", ".join(sorted(filters.columns))
        logger.warning(
            "jobs with %s: no index leads to them, so all of about %.0f rows are read; name ids, "
            "states that are not final, or finished_before or finished_after%s",
            self._filters, survey.rows, f"; or create an index on {columns}" if columns else "",
        )  # fmt: skip


def _signal(given: str | int) -> str:
    """The name of a signal, from its name with or without SIG, or its number."""
    try:
        if isinstance(given, int):
            return signals.Signals(given).name
        return signals.Signals[f"SIG{str(given).upper().removeprefix('SIG')}"].name
    except (KeyError, ValueError):
        raise InvalidOption(f"signal must be one, as 'SIGTERM', not {given!r}") from None

"""A job that knows the database where it was found."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..errors import PgJobsError
from ..job.job import Job
from .explain import explain
from .explanation import Explanation
from .steps import JobStep, JobWait, steps_of, wait_of

if TYPE_CHECKING:
    from ..db.database import Database

NO_ROW = (
    "No worker can see its row: it was deleted after it was found, or the transaction that"
    " published it is not committed."
)


class FoundJob(Job):
    """A :class:`Job` from ``jobs(app)``; a copy or a pickle of it is a plain Job."""

    _database: Database | None = None

    @classmethod
    def of(cls, job: Job, database: Database) -> FoundJob:
        """The same job, which was found there."""
        found = object.__new__(cls)
        found.__dict__.update(job.__dict__, _database=database)
        return found

    def explain(self) -> Explanation:
        """Why it does not run, or did not, as its row is now and not when it was found.

        >>> jobs(app).get(result).explain().kind
        'not_due'
        """
        if self._database is None:
            raise PgJobsError("only a job that jobs(app) has found can be explained")
        found = explain(self._database, self.task_id)
        if found is not None:
            return found
        return Explanation("no_row", NO_ROW, {"task_id": self.task_id})

    def steps(self) -> list[JobStep]:
        """The steps that it has done, in their order, as its row is now.

        >>> [step.name for step in jobs(app).get(result).steps()]
        ['charge', 'approved']
        """
        return steps_of(self._where(), self.task_id)

    def waits_for(self) -> JobWait | None:
        """The sleep, or the signal, that it waits for just now; None where it does neither.

        >>> jobs(app).get(result).waits_for().signal
        'approved'
        """
        return wait_of(self._where(), self.task_id)

    def _where(self) -> Database:
        if self._database is None:
            raise PgJobsError("only a job that jobs(app) has found knows its database")
        return self._database

    def __reduce__(self) -> tuple[Any, ...]:
        return Job, tuple(getattr(self, field.name) for field in fields(Job))

"""Find the run of a task that publishes a job, and its relation to the job."""

from __future__ import annotations

from typing import Any, NamedTuple

from celery._state import get_current_task

from ..db.database import Database
from ..job.held_claim import HeldClaim, held_claim
from ..job.progress import progress_of
from ..job.rows import NO_RUN, Fence, NewJob, Run
from .replacement import take_mark


class Origin(NamedTuple):
    """The run of a task that publishes; the first three are None outside of tasks."""

    request: Any
    #: The claim of that run, and the id of its task: who publishes that one retries it.
    held: HeldClaim | None
    task_id: str | None
    #: The claim of the run that has replaced itself by this job and others, the last with its id.
    predecessor: Fence | None

    def note_retry(self, database: Database) -> None:
        """Say where the retry must be recorded, see retries.py."""
        progress_of(self.request).retried_in = database

    def run_of(self, job: NewJob, key: str) -> Run:
        """The claims under which ``job`` is published to the database with this key."""
        request, held, task_id, predecessor = self
        if held is None:
            return Run(predecessor) if predecessor else NO_RUN
        is_again = task_id == job.task_id
        is_child = task_id == job.parent_id
        # Under another URL it may be another database, where the task holds nothing.
        is_here = held.key == key
        return Run(
            holder=held.fence if is_again else predecessor,
            parent=held.fence if is_child and is_here else None,
            is_repeated=(is_child and bool((request.delivery_info or {}).get("redelivered")))
            or (is_again and progress_of(request).was_lost),
            # Where its predecessor has ended already it is inserted as any other.
            is_holder_only=is_again and is_here,
            is_own=is_again or predecessor == held.fence,
        )


def current_request() -> Any:
    """The request of the task that this thread runs; None where it runs none."""
    task = get_current_task()
    return task.request if task else None


def find_origin(headers: dict[str, Any], key: str) -> Origin:
    """The origin of a message for the database with this key; its mark is taken off."""
    request = current_request()
    held = held_claim(request) if request is not None else None
    return Origin(request, held, request.id if held else None, take_mark(headers, key))

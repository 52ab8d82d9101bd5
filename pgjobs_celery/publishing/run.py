"""Find the run of a task that publishes a job, and its relation to the job."""

from __future__ import annotations

from typing import Any

from celery._state import get_current_task

from ..job.held_claim import HeldClaim
from ..job.progress import progress_of
from ..job.rows import NO_RUN, Fence, NewJob, Run


def current_request() -> Any:
    """The request of the task that this thread runs; None where it runs none."""
    task = get_current_task()
    return task.request if task else None


def publishing_run(
    request: Any, held: HeldClaim | None, job: NewJob, predecessor: Fence | None, key: str
) -> Run:
    """The claims under which ``job`` is published to the database with this key.

    ``held`` is the claim of the task that runs, whose request is ``request``. ``predecessor`` is
    the claim of the run that has replaced itself by this job and others, the last with its id.
    """
    if held is None:
        return Run(predecessor) if predecessor else NO_RUN
    is_again = request.id == job.task_id
    is_child = request.id == job.parent_id
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

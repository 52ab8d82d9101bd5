"""The values that rows of jobs are written from and read as."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

#: A priority's rank: 0 runs first, 255 last.
LOWEST_RANK, HIGHEST_RANK = 0, 255
#: Before every place in line, those written by hand included.
FIRST_PLACE = -(2**63)


class NewJob(NamedTuple):
    """A job to be put in line; the columns of its row."""

    task_id: str
    task: str
    queue: str
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    #: The time after which it is not worth running.
    expires_at: datetime | None
    #: The envelope as JSON text; see :mod:`pgjobs_celery.job.envelope`.
    message: str
    body: bytes
    #: Its rank, from 0, which runs first; in a lane 256 more.
    priority: int
    #: When it may run; None for at once.
    eta: datetime | None
    #: The same in seconds from now, where a countdown was given: an ``eta`` made of a countdown
    #: would go by the clock of the machine that made it.
    delay: float | None = None
    #: For how many seconds it may wait in line; None for ever.
    ttl: float | None = None
    #: How often it may start; None for a task that sets no limit.
    max_attempts: int | None = None
    tags: Sequence[str] = ()
    #: As JSON.
    meta: str = "{}"
    #: Its place in its group; None where it is not in a group.
    group_index: int | None = None
    #: Its place in line, if it has one already; None for the end.
    seq: int | None = None
    #: The text that jobs with the same rates, limits and turns have in common; None where
    #: nothing does. See :mod:`pgjobs_celery.job.flow`.
    lane: str | None = None
    #: How many tokens its start takes; None for 1.
    cost: int | None = None


class Fence(NamedTuple):
    """The claim that a write depends on: once it is lost, the write changes nothing."""

    node: UUID
    attempt: int


class Run(NamedTuple):
    """The claims under which a job is published; none where no task publishes it."""

    #: The claim of the job's own run, when that publishes it again, or of the run that it replaces.
    holder: Fence | None = None
    #: The claim of the task that publishes it, its parent, in the same database.
    parent: Fence | None = None
    #: That task has run before, and may have published it then.
    is_repeated: bool = False
    #: The holder's claim is one in this database: where it stands no more the job is another's.
    is_holder_only: bool = False
    #: It is the job of the task that runs: no part of what that does for others.
    is_own: bool = False


#: No task publishes the job.
NO_RUN = Run()


class Bucket(NamedTuple):
    """Part of a claim's search: a queue, a span of ranks and the place in line to start from."""

    queue: str
    lowest: int = LOWEST_RANK
    highest: int = HIGHEST_RANK
    floor: int = FIRST_PLACE
    #: How many jobs to take from it at most; None for as many as the claim takes.
    places: int | None = None
    #: It is the lanes of the queue that are looked at, and not its line; the only bucket then.
    is_laned: bool = False
    #: The queue's rules put each job of its line into a lane.
    is_sorted: bool = False
    #: Gates of its lanes to be made before.
    gates: Sequence[str] = ()


class Slots(NamedTuple):
    """How many more jobs of a queue may run, on all workers together."""

    #: Now, and before the jobs that have ended were counted.
    free: int
    before: int


class Claim(NamedTuple):
    """A job that this process holds for one attempt."""

    id: int
    attempt: int
    max_attempts: int
    queue: str
    priority: int
    seq: int
    redelivered: bool
    message: str
    body: bytes
    #: Seconds until it is not worth running any longer; None for never.
    expires_in: float | None = None


class ClaimKey(NamedTuple):
    """A claim, where no more than the number of its row and the attempt are known."""

    id: int
    attempt: int


class Cancellation(NamedTuple):
    """A request to cancel a running job."""

    id: int
    task_id: str
    reason: str
    #: The signal that ends its task; None if the task is only told.
    signal: str | None

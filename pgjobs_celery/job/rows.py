"""The values that rows of jobs are written from and read as."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

#: A priority's rank: 0 runs first, 255 last.
LOWEST_RANK, HIGHEST_RANK = 0, 255
#: Before every place in line, those that somebody made up included.
FIRST_PLACE = -(2**63)


class NewJob(NamedTuple):
    """A job to be put in line; the columns of its row."""

    task_id: str
    task: str
    queue: str
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    #: When it is not worth running any more.
    expires_at: datetime | None
    #: The envelope as JSON text; see :mod:`pgjobs_celery.job.envelope`.
    message: str
    body: bytes
    #: Its rank: 0 runs first.
    priority: int
    #: When it may run; None for at once.
    eta: datetime | None
    #: The same in seconds from now, where it is meant that way: an ``eta`` that was made of a
    #: countdown goes by the clock of the machine that made it.
    delay: float | None = None
    #: For how many seconds it may wait in line; None for ever.
    ttl: float | None = None
    #: How often it may be begun; None for a task that has no say in it.
    max_attempts: int | None = None
    tags: Sequence[str] = ()
    #: As JSON.
    meta: str = "{}"
    #: Its place in its group; None where it is in none.
    group_index: int | None = None
    #: Its place in line, where it has one already; None for the last.
    seq: int | None = None


class Fence(NamedTuple):
    """The claim that a write stands on: without it, nothing is changed."""

    node: UUID
    attempt: int


class Bucket(NamedTuple):
    """Where one claim looks: a queue, a span of ranks and the place in line to start from."""

    queue: str
    lowest: int = LOWEST_RANK
    highest: int = HIGHEST_RANK
    floor: int = FIRST_PLACE
    #: How many jobs to take from it at most; None for as many as the claim takes.
    places: int | None = None


class Slots(NamedTuple):
    """How many more jobs of a queue may run, on all workers together."""

    #: Now, and before those were counted that had ended.
    free: int
    before: int


class Claim(NamedTuple):
    """A job that is ours for one attempt."""

    id: int
    attempt: int
    max_attempts: int
    queue: str
    priority: int
    seq: int
    redelivered: bool
    message: str
    body: bytes
    #: In how many seconds it is not worth running any more; None for never.
    expires_in: float | None = None


class Cancellation(NamedTuple):
    """Somebody wants a job that runs to be cancelled."""

    id: int
    task_id: str
    reason: str
    #: The signal that ends its task; None where it is only told.
    signal: str | None

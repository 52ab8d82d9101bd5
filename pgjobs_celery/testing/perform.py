"""Run enqueued jobs: one task (:func:`perform_job`), or all waiting ones (:func:`drain_queue`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from celery.canvas import Signature
from celery.local import maybe_evaluate

from ..errors import InvalidOption, PgJobsError
from ..job.checks import is_whole_number
from .capturing.capture import Enqueued, Inbox
from .capturing.receiving import receive_into
from .capturing.results import MemoryBackend
from .capturing.transport import make_pool
from .modes import find_testing, testing
from .running.clock import InboxClock
from .running.draining import Draining, attempt_of, captured_steps
from .running.executing import Performed, execute

if TYPE_CHECKING:
    from ..job.job import Job
    from .running.rows import RowDraining

_clocks: WeakKeyDictionary[Inbox, InboxClock] = WeakKeyDictionary()


def perform_job(
    task: Any,
    args: Iterable[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    attempt: int = 1,
    steps: Mapping[str, Any] | None = None,
    signals: Mapping[str, Any] | None = None,
    **options: Any,
) -> Performed:
    """Run a task once, as a worker would, and return the outcome.

    It is published as by ``apply_async(args, kwargs, **options)``, but to no broker, and run from
    that message: with the arguments that come out of the serializer, and a complete request.
    ``attempt`` is the number of the run, 1 for the first. ``task`` may be a signature, or a
    captured job as well. Only jobs that the task itself publishes are enqueued: outside of a block
    of :func:`testing` they are dropped.

    ``steps`` are what earlier runs of the job have done: names, and what they returned (None for a
    sleep). ``signals`` were sent to it: names, and payloads. Where it sleeps, or waits for another
    signal, the outcome is "suspended". A captured job remembers its steps by itself.

    >>> perform_job(welcome, kwargs={"user_id": 7}).get()
    'welcome, Ann'
    >>> perform_job(fetch, ["/prices"], attempt=3)
    <retried error=Timeout() delay=81.0>
    """
    if not is_whole_number(attempt, 1):
        raise InvalidOption(f"attempt must be a whole number from 1 on, not {attempt!r}")
    if isinstance(task, Enqueued):
        if args or kwargs or options:
            raise InvalidOption("a captured job has its arguments and options already")
        block = find_testing()
        return _perform(block, task, max(attempt, task.retries + 1), block.inbox, steps, signals)
    if isinstance(task, Signature):
        signature = task.clone(args, kwargs)
        task, args, kwargs = signature.type, signature.args, signature.kwargs
        options = {**signature.options, **options}
    task = maybe_evaluate(task)
    if not hasattr(task, "apply_async"):
        raise InvalidOption(f"what is performed is a task, not {task!r}")
    app = task.app
    with nullcontext() if _is_tested(app) else testing(app):
        caught = Inbox()
        pool = make_pool(receive_into(caught, lambda: app.timezone))
        with pool.acquire() as producer:
            options = {"retries": attempt - 1, **options, "add_to_parent": False}
            task.apply_async(list(args or ()), dict(kwargs or {}), producer=producer, **options)
        return _perform(find_testing(app), caught.find()[0], attempt, caught, steps, signals)


def _perform(
    block: testing,
    job: Enqueued,
    attempt: int,
    inbox: Inbox,
    steps: Mapping[str, Any] | None,
    signals: Mapping[str, Any] | None,
) -> Performed:
    """``inbox``: whose jobs' steps are remembered."""
    if steps or signals:
        from .running.stepping import prepare  # loads the database driver, as a PgTask has

        prepare(block.app, inbox.memories, job.task_id, dict(steps or {}), dict(signals or {}))
    clock = _clocks.setdefault(block.inbox, InboxClock())
    found = captured_steps(inbox, clock, job.task_id)
    before = block.inbox.get(job.task_id)
    with _aside(block):
        performed = execute(block.app, attempt_of(job, attempt)._replace(find_steps=found))
    if performed.outcome != "retried":
        return performed
    # This outcome is its own retry, which only a worker would find in line.
    if block.mode == "real":
        from ..control.jobs import jobs  # the other modes need no database driver

        jobs(block.app).filter(id=job.task_id).delete()
    after = block.inbox.get(job.task_id)
    if after is not None and (before is None or before.number != after.number):
        block.inbox.remove(after)
    return performed


@contextmanager
def _aside(block: testing) -> Iterator[None]:
    """In mode real: a job without a row must not leave one for its result."""
    if block.mode != "real":
        yield
        return
    kept, block.app._backend_cache = block.app._backend_cache, Aside(block.app)
    try:
        yield
    finally:
        block.app._backend_cache = kept


class Aside(MemoryBackend):
    """The backend for the result of a job without a row, while others have theirs."""

    stands_in = False


def drain_queue(
    queue: str | None = None,
    *,
    with_scheduled: bool = False,
    with_recursion: bool = False,
    with_safety: bool = True,
    app: Any = None,
) -> Counter[str]:
    """Run the jobs that wait in a queue, or in all; return the number of each outcome.

    They run one after the other, by priority, in the thread of the caller. ``with_scheduled``: also
    jobs that are not due yet. ``with_recursion``: again and again, until none is left, with the
    jobs that they have enqueued themselves. Without ``with_safety`` the first error of a job is
    raised, once the job's outcome is recorded.

    >>> drain_queue("mail", with_recursion=True)
    Counter({'completed': 2, 'retried': 1})

    Raises UnknownTask for a job of a task that the app does not have, and NeverEnds if, with
    recursion, the queue does not become empty.
    """
    block = find_testing(app)
    place = _place_of(block)
    return place.run(
        queue,
        with_scheduled=with_scheduled,
        with_recursion=with_recursion,
        with_safety=with_safety,
    )


def due(queue: str | None = None, *, app: Any = None) -> list[Enqueued] | list[Job]:
    """The jobs that may run now, in the order that one worker would take them."""
    return _place_of(find_testing(app)).due(queue)


def advance(seconds: float | timedelta, *, app: Any = None) -> None:
    """Move the clock on: scheduled and retried jobs become due that much sooner.

    It is the clock of the jobs alone; the program's own is unchanged. In mode "real"
    the rows are rescheduled.
    """
    _place_of(find_testing(app)).advance(seconds)


def steps_of(job: Any, *, app: Any = None) -> dict[str, Any]:
    """The values that a job's steps have returned so far, by their names, in their order.

    A sleep that is over is a step that returned None, and a signal one that returned its payload.
    ``job`` is a handle, a captured job or a task id.

    >>> drain_queue()
    >>> assert list(steps_of(result)) == ["charge", "sleep", "mail"]
    """
    block = find_testing(app)
    task_id = str(getattr(job, "task_id", None) or getattr(job, "id", None) or job)
    from .running.stepping import decode_steps  # loads the database driver, as a PgTask has

    if block.mode != "real":
        return decode_steps(block.app, block.inbox.memories.of(task_id).memories)
    from .running.rows import RowDraining

    return decode_steps(block.app, RowDraining(block.app).memories(task_id))


def _is_tested(app: Any) -> bool:
    try:
        find_testing(app)
    except PgJobsError:
        return False
    return True


def _place_of(block: testing) -> Draining | RowDraining:
    if block.mode == "real":
        from .running.rows import RowDraining  # the other modes need no database driver

        return RowDraining(block.app)
    return Draining(block.app, block.inbox, _clocks.setdefault(block.inbox, InboxClock()))

"""A task that runs in attempts: how it ends, and when it is tried again."""

from __future__ import annotations

import functools
import inspect
import logging
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NoReturn

from celery import Task
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.serialization import get_pickleable_exception

from ..errors import ClaimLost, JobCompleted, OutcomeUnknown
from ..job.backoff import celery_backoff, oban_backoff
from ..job.exceptions import (
    Cancel,
    CancelledByTask,
    Discard,
    LetGo,
    Postponed,
    Snooze,
    Suspended,
    TaskEnd,
    seconds_from_now,
)
from ..job.job import Job
from ..job.options import published_options
from ..job.outcome import error_from
from ..job.progress import progress_of
from ..job.states import State
from ..printable import guarded
from ..results.handover import decide
from ..results.reports import is_too_long_entry
from .coroutines import synchronous
from .plain import is_called_by_celery, is_coroutine
from .running_job import Meta, running_job
from .transaction import TaskTransaction, conclude

logger = guarded(logging.getLogger(__name__))


class AttemptedTask(Task):
    """The running half of :class:`~pgjobs_celery.PgTask`."""

    #: How often a job may run, the first time included. An attempt that was lost with its worker
    #: counts; the last failure discards the job.
    max_attempts: int = 20

    #: Exceptions that end the job without another attempt, as in Celery.
    throws: tuple[type[BaseException], ...] = ()

    #: Acknowledged when it ends: a killed worker costs an attempt.
    acks_late = True

    #: How long :meth:`transaction` tries to learn whether it was committed, in seconds, where the
    #: connection was lost in its COMMIT.
    commit_timeout: float = 60.0

    @property
    def request(self) -> Any:
        """Celery's request, which also knows ``attempt`` (1 in the first run) and
        ``max_attempts``."""
        return self.count_attempts(self._get_request())

    def count_attempts(self, request: Any) -> Any:
        """The request, with the numbers of this attempt and of the last one in it."""
        if "attempt" not in request.__dict__:
            held = running_job(request).held if request.id else None
            published = published_options(request).get("max_attempts")
            if held is None:
                request.attempt = (request.retries or 0) + 1
                request.max_attempts = published or self.max_attempts
            else:
                request.attempt = held.fence.attempt
                # The row counts, unless the publisher did not know of attempts.
                request.max_attempts = held.max_attempts if published else self.max_attempts
        return request

    @property
    def meta(self) -> Meta:
        """The running job's meta: a mapping that reads and writes its row."""
        return running_job(self.request).meta

    def is_cancelled(self) -> bool:
        """True once the running job must stop: it was cancelled, or taken away.

        Cheap enough for a loop: the database is asked twice a second at most.
        """
        return running_job(self.request).is_cancelled()

    async def ais_cancelled(self) -> bool:
        """As :meth:`is_cancelled`, for a coroutine: the event loop goes on meanwhile.

        On the pool for coroutines a cancelled job's coroutine gets a CancelledError besides.
        """
        return await running_job(self.request).ais_cancelled()

    def transaction(self, connection: Any) -> TaskTransaction:
        """A block that is one transaction, and completes the running job in it.

        The task's own rows, its result, and what it publishes (in the block, by links, as the next
        step of its chain) are committed together, or not at all. ``connection`` is what
        :func:`pgjobs_celery.using` takes, in the job's database; an asyncio one is for ``async
        with``. The block begins the transaction and commits it.

        >>> with self.transaction(connection) as tx:
        ...     connection.execute("INSERT INTO ledger (order_id) VALUES (%s)", [order_id])
        ...     tx.complete({"booked": order_id})

        Where another worker has the job by now it raises ClaimLost; an exception in the block fails
        the attempt as ever. Both roll back. What comes after the block cannot change the outcome.
        Raises CannotJoin for a connection that cannot be used so, JobCompleted in a second block,
        and OutcomeUnknown if the connection was lost in the COMMIT and the server is away for
        ``commit_timeout`` seconds: then the job's row decides.
        """
        return TaskTransaction(self, connection)

    def replace(self, sig: Any) -> Any:
        """As Celery's; not in the block of :meth:`transaction`, nor after it."""
        progress = progress_of(self.request)
        progress.require_unfinished("replace() was called")
        if progress.effects is not None and progress.effects.is_open:
            raise JobCompleted(
                "replace() was called in the block of self.transaction(), which completes the job: "
                "publish the other task in the block, or replace this one without it"
            )
        return super().replace(sig)

    def snooze(self, when: float | timedelta | datetime) -> Snooze:
        """``raise self.snooze(30)`` runs the job again in 30 seconds, and costs no attempt."""
        return Snooze(when)

    def cancel(self, reason: str = "") -> Cancel:
        """``raise self.cancel("why")`` ends the job as cancelled."""
        return Cancel(reason)

    def discard(self, reason: str = "") -> Discard:
        """``raise self.discard("why")`` ends the job as failed, whatever attempts are left."""
        return Discard(reason)

    def backoff(self, job: Job) -> float | timedelta:
        """How long a failed job waits for its next attempt, in seconds; override it.

        ``job.attempt`` is the one that failed, 1 for the first. Where the task has Celery's
        ``retry_kwargs`` with a countdown, or ``retry_backoff``, it goes by these; otherwise by
        Oban's rule, see :func:`pgjobs_celery.job.backoff.oban_backoff`.
        """
        countdown = getattr(self, "retry_kwargs", {}).get("countdown")
        if countdown is not None:
            return float(countdown)
        factor = getattr(self, "retry_backoff", False)
        if factor:
            maximum = getattr(self, "retry_backoff_max", 600)
            jitter = getattr(self, "retry_jitter", True)
            return celery_backoff(job.attempt, factor, maximum, jitter)
        return oban_backoff(job.attempt, job.max_attempts)

    def retry(self, *args: Any, max_retries: int | None = None, **kwargs: Any) -> Any:
        """As Celery's: publishes the task again, and counts as an attempt like any failure.

        At its limit it raises ``exc``, or MaxRetriesExceededError; then the job is not tried again.
        """
        request = self.request
        progress_of(request).require_unfinished("retry() was called")
        if max_retries is None and not request.called_directly:
            max_retries = request.max_attempts - 1
        try:
            return super().retry(*args, max_retries=max_retries, **kwargs)
        except (Ignore, Reject, Retry):
            raise
        except Exception:
            progress_of(request).is_at_its_limit = True
            raise

    def next_delay(
        self, request: Any, error: BaseException, *, is_forgiven: bool = False
    ) -> float | None:
        """Seconds until the job runs again after this exception; None if it does not.

        ``is_forgiven``: the run was cut off, and costs no attempt.
        """
        self.count_attempts(request)
        is_last = request.attempt >= request.max_attempts and not is_forgiven
        if is_last or progress_of(request).is_at_its_limit:
            return None
        if not self._is_retried_for(error):
            return None
        try:
            job = self._current_job(request)
            return seconds_from_now(self.backoff(job), f"the backoff of {self.name}")
        except (Exception, SystemExit):  # in the worker's main process it would end the worker
            logger.exception(
                "task %s[%s]: its backoff failed; the default is used", self.name, request.id
            )
            return oban_backoff(request.attempt, request.max_attempts)

    def _is_retried_for(self, error: BaseException) -> bool:
        if isinstance(error, (TaskEnd, self.throws or ())):
            return False
        if isinstance(error, tuple(getattr(self, "dont_autoretry_for", ()))):
            return False
        only = tuple(getattr(self, "autoretry_for", ()))
        return isinstance(error, only) if only else True

    def _current_job(self, request: Any) -> Job:
        """The job that runs, as far as it is known without asking the database."""
        info = request.delivery_info or {}
        header = published_options(request)
        return Job(
            task_id=str(request.id),
            task=self.name,
            queue=str(info.get("routing_key") or ""),
            state=State.EXECUTING,
            attempt=request.attempt,
            max_attempts=request.max_attempts,
            priority=info.get("priority") or 0,
            tags=tuple(header.get("tags") or ()),
            meta=dict(header.get("meta") or {}),
            args=list(request.args or ()),
            kwargs=dict(request.kwargs or {}),
            attempted_by=request.hostname,
            root_id=request.root_id,
            parent_id=request.parent_id,
            group_id=request.group,
        )

    def _run_attempt(
        self, run: Callable[..., Any], args: Any, kwargs: Any, is_coroutine: bool = False
    ) -> Any:
        """Run the task's body, and translate its end into Celery's exceptions."""
        request = self.request
        if request.called_directly and not request.is_eager:
            is_dropped = is_coroutine and is_called_by_celery(args)
            return (synchronous(run) if is_dropped else run)(*args, **kwargs)
        progress = progress_of(request)
        if progress.is_in_body:  # which has called that of its base class
            return run(*args, **kwargs)
        if is_coroutine:
            run = synchronous(run)
        if request.is_eager:
            returned = run(*args, **kwargs)
            return conclude(self, returned) if progress.is_completed else returned
        progress.is_in_body = True
        try:
            try:
                returned = run(*args, **kwargs)
            except TaskEnd as end:
                returned = end
            except (Suspended, Exception) as error:
                if not progress.is_completed:
                    if isinstance(error, Suspended):
                        self._suspend(request, error)
                    raise
                returned = error
            if progress.is_completed:
                return conclude(self, returned)
            if isinstance(returned, TaskEnd):
                self._end(request, returned)
        except (Ignore, Reject, Retry, Discard):  # Celery's own words, and ours
            raise
        except Exception as error:
            self._judge_effects(request, error)
            delay = self.next_delay(request, error)
            if delay is None:
                raise
            self._try_again(request, error, delay)
        return returned

    def _judge_effects(self, request: Any, error: Exception) -> None:
        """End an attempt that failed in its own transaction, where that decides how."""
        effects = progress_of(request).effects
        if effects is None:
            return
        if effects.is_lost and isinstance(error, ClaimLost):
            logger.warning("task %s[%s] ends: %s", self.name, request.id, error)
            raise LetGo(str(error)) from error
        if effects.is_unknown and isinstance(error, OutcomeUnknown):
            # The row decides: nothing changes if it was committed, and no errback must be called.
            delay = self.next_delay(request, error)
            if delay is None:
                delay = oban_backoff(request.attempt, request.max_attempts)
            self._try_again(request, error, delay)

    def _prepare_attempt(self, prepare: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Run the task's ``before_start``, whose end is an end of the attempt as well."""
        progress = progress_of(self.request)
        progress.is_preparing = True
        try:
            self._run_attempt(prepare, args, kwargs)
        finally:
            progress.is_in_body = progress.is_preparing = False

    def _end(self, request: Any, end: TaskEnd) -> NoReturn:
        if isinstance(end, Snooze):
            self._try_again(request, end, end.delay)
        if isinstance(end, Cancel):
            progress_of(request).is_left_to_worker = True
            self.backend.mark_as_revoked(
                request.id, end.reason, request=request, store_result=not self.ignore_result
            )
            raise CancelledByTask(end.reason) from None
        raise end

    def _suspend(self, request: Any, suspended: Suspended) -> NoReturn:
        """The run has come to a wait: see SteppedTask."""
        raise NotImplementedError

    def _postpone_for(self, request: Any, reason: BaseException, delay: float) -> NoReturn:
        """End the run; the job goes on in so many seconds, and this costs no attempt."""
        decide(request.id)
        progress_of(request).is_left_to_worker = True
        raise Postponed(delay, get_pickleable_exception(reason), None) from None

    def _try_again(self, request: Any, error: BaseException, delay: float) -> NoReturn:
        is_snooze = isinstance(error, Snooze)
        if running_job(request).held is None:
            # Another broker: as Celery would.
            retries = request.retries - 1 if is_snooze else request.retries
            raise self._retry_by_message(retries, error, delay)
        decide(request.id)
        progress_of(request).is_left_to_worker = True
        entry = None if is_snooze else error_from(error, _format(error))
        if entry is not None and is_too_long_entry(entry) and running_job(request).record(entry):
            entry = ""
        raise Postponed(delay, get_pickleable_exception(error), entry) from error

    def _retry_by_message(self, retries: int, error: BaseException, delay: float) -> Retry:
        signature = self.signature_from_request(countdown=delay, retries=retries + 1)
        signature.apply_async()
        return Retry(exc=get_pickleable_exception(error), when=delay, sig=signature)


def run_in_attempts(cls: type[AttemptedTask]) -> None:
    """Run the task's body through ``_run_attempt``.

    As Celery's autoretry does, for the same reason: applications override ``__call__``.
    """
    found = inspect.getattr_static(cls, "run")
    if getattr(found, "_is_attempt", False):
        return
    body = found.__func__ if isinstance(found, staticmethod) else found
    is_async = is_coroutine(body)

    @functools.wraps(body)
    def run(self: AttemptedTask, *args: Any, **kwargs: Any) -> Any:
        bound = body if isinstance(found, staticmethod) else functools.partial(body, self)
        return self._run_attempt(bound, args, kwargs, is_async)

    # Celery's autoretry stays out of the way: what it would do is done here.
    cls._orig_run = run
    if isinstance(found, staticmethod):
        # The signature of a function without ``self`` would lose its first parameter.
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        signature = inspect.signature(body)
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[own, *signature.parameters.values()]
        )
    run._is_attempt = run._is_complete = True  # type: ignore[attr-defined]
    cls.run = run


def prepare_in_attempts(cls: type[AttemptedTask]) -> None:
    """Run a ``before_start`` of the task's own through ``_prepare_attempt``."""
    found = inspect.getattr_static(cls, "before_start")
    is_own = found is not inspect.getattr_static(Task, "before_start")
    if not is_own or getattr(found, "_is_attempt", False) or not hasattr(found, "__get__"):
        return

    @functools.wraps(cls.before_start)
    def before_start(self: AttemptedTask, *args: Any, **kwargs: Any) -> None:
        self._prepare_attempt(found.__get__(self, type(self)), args, kwargs)

    before_start._is_attempt = True  # type: ignore[attr-defined]
    cls.before_start = before_start


def _format(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))

"""PgTask, the task base class: attempts, backoff, tags, meta, uniqueness, snooze and cancel.

    app = Celery("proj", broker="pgjobs://...", task_cls="pgjobs_celery:PgTask")

    @app.task(bind=True, max_attempts=5, tags=["mail"])
    def welcome(self, user_id): ...

Works with any broker. On ``pgjobs://`` a failed attempt is scheduled again in the job's own row, by
the batch that writes what becomes of jobs; elsewhere by Celery's ``retry()``.
"""

from __future__ import annotations

import functools
import inspect
import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NoReturn

from celery import Celery, Task
from celery.app.amqp import AMQP
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.serialization import get_pickleable_exception
from kombu import Producer

from .backoff import celery_backoff, oban_backoff
from .ending import Cancel, CancelledByTask, Discard, Postponed, Snooze, TaskEnd, seconds_from_now
from .errors import InvalidOption, UnknownOption
from .job import Job
from .options import (
    HEADER,
    NAMES,
    attempts_from_retries,
    check_max_attempts,
    check_meta,
    check_names,
    merge,
    normalise_tags,
)
from .outcome import error_from
from .publication import publication
from .result import PgResult
from .running import Meta, running_job
from .states import State
from .unique import Unique, as_unique

logger = logging.getLogger(__name__)

#: What a call may say besides: some of it reads like a slip of ours (``eta`` and ``meta``).
CELERYS_OPTIONS = frozenset(
    name
    for takes in (Celery.send_task, AMQP.as_task_v2, Producer.publish)
    for name in inspect.signature(takes).parameters
)


class PgTask(Task):  # type: ignore[misc]
    """A task whose jobs have attempts, tags and meta; every option may stand on the class, in the
    decorator or in the call (``apply_async``, ``.set``).

    Unlike Celery's own, it is acknowledged when it ends (``acks_late``): a job whose worker is
    killed has lost an attempt, and not its life.
    """

    #: How often a job may run, the first time included. An attempt that its worker was lost in
    #: counts; the last failure discards the job.
    max_attempts: int = 20

    #: What a job is about, for people and filters; trimmed and in lower case.
    tags: Sequence[str] = ()

    #: When two jobs are the same, and the second is not published; True for "as long as the first
    #: one's row is kept".
    unique: Unique | Mapping[str, Any] | bool | None = None

    #: Exceptions after which there is no other attempt, as in Celery.
    throws: tuple[type[BaseException], ...] = ()

    #: Acknowledged when it ends: a killed worker costs an attempt.
    acks_late = True

    #: What ``meta`` was in the decorator or class body; ``self.meta`` is the running job's.
    _default_meta: Mapping[str, Any] = {}
    #: What class or decorator said of attempts, before annotations.
    _said: Mapping[str, Any] = {}
    #: The parameters of ``run``, once they were needed.
    _signature: inspect.Signature | None = None
    #: The header of a job of which the call says nothing.
    _header: Mapping[str, Any] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        where = f"task {cls.__dict__.get('name') or f'{cls.__module__}.{cls.__qualname__}'}"
        known = {name for base in cls.__mro__[1:] for name in vars(base)}
        check_names([name for name, value in vars(cls).items() if _is_option(value)], where, known)
        cls._said = _said(cls)

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Celery has bound the task to its app, settings and annotations included."""
        super().on_bound(app)
        try:
            cls.max_attempts = _max_attempts(cls)
            cls.tags = normalise_tags(cls.tags)
            cls.unique = as_unique(cls.unique)
            if "meta" in vars(cls):
                cls._default_meta = vars(cls)["meta"]
                del cls.meta  # the running job's, again
            meta = check_meta(cls._default_meta)
            if not callable(cls.backoff):
                raise InvalidOption(
                    f"backoff must be a function of the task and its job, not {cls.backoff!r}"
                )
        except (InvalidOption, UnknownOption) as error:
            raise type(error)(f"task {cls.name}: {error}") from None
        # What Celery's own retry() goes by.
        cls.max_retries = cls.max_attempts - 1
        cls._header = {"max_attempts": cls.max_attempts}
        if cls.tags:
            cls._header["tags"] = list(cls.tags)
        if meta:
            cls._header["meta"] = meta
        _wrap_run(cls)

    # Publish

    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Any:
        """As Celery's, with the options of this class.

        Raises UnknownOption for a slip of one of their names, and InvalidOption for a value that
        cannot be used; then nothing was published.
        """
        given = {name: options.pop(name) for name in NAMES if name in options}
        if "max_retries" in options:
            retries = options.pop("max_retries")
            given.setdefault("max_attempts", attempts_from_retries(retries))
        stamps = options.get("stamped_headers") or ()
        check_names(options, f"task {self.name}", {*CELERYS_OPTIONS, *stamps})
        headers = options.get("headers") or {}
        header = merge(self._header, given, headers.get(HEADER))
        if "unique" in given or "unique" not in header:
            rule = as_unique(given.get("unique", self.unique), as_unique(self.unique))
            header["unique"] = rule and self._identify(rule, args, kwargs, header)
        options["headers"] = {**headers, HEADER: header}
        publish = functools.partial(
            super().apply_async,
            *(args, kwargs, task_id, producer, link, link_error, shadow),
            **options,
        )
        if not header["unique"]:
            del header["unique"]
            return publish()
        with publication(is_promised=task_id is not None) as sent:
            result = publish()
        return self._handle_on(sent.conflict, result) if sent.conflict else result

    def _identify(self, rule: Unique, args: Any, kwargs: Any, header: Any) -> dict[str, Any]:
        """What makes a job with these arguments unique, for its header."""
        signature = self._signature
        if signature is None:  # asked for once: it takes longer than all the rest
            signature = type(self)._signature = inspect.signature(self.run)
        try:
            bound = signature.bind(*(args or ()), **(kwargs or {}))
        except TypeError:  # without typing Celery publishes them all the same
            arguments: Any = [args or [], kwargs or {}]
        else:
            bound.apply_defaults()
            arguments = dict(bound.arguments)
            for parameter in signature.parameters.values():
                if parameter.kind is parameter.VAR_KEYWORD:
                    arguments.update(arguments.pop(parameter.name))
        return rule.to_header(rule.digest(self.name, arguments, header.get("meta") or {}))

    def _handle_on(self, task_id: str, instead_of: Any) -> PgResult:
        """The handle on the job that is there, also where the parent remembers its children."""
        result = self.AsyncResult(task_id)
        result.conflict = True
        parent = self._get_app().current_worker_task
        if parent and parent.request:
            children = parent.request.children
            children[:] = [result if each.id == instead_of.id else each for each in children]
        return result

    def AsyncResult(self, task_id: str, **kwargs: Any) -> PgResult:  # noqa: N802
        """The handle on the job of this id."""
        kwargs = {"backend": self.backend, "task_name": self.name, "app": self.app, **kwargs}
        return PgResult(task_id, **kwargs)

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Django: ``delay()`` once the transaction is committed, as Celery's DjangoTask has it."""
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Django: ``apply_async()`` once the transaction is committed."""
        from django.db import transaction  # only where there is Django

        transaction.on_commit(functools.partial(self.apply_async, *args, **kwargs))

    # Run

    @property
    def request(self) -> Any:
        """Celery's request, which also knows ``attempt`` (1 in the first run) and
        ``max_attempts``."""
        return self.count_attempts(self._get_request())

    def count_attempts(self, request: Any) -> Any:
        """The request, with the numbers of this attempt and of the last one in it."""
        if "attempt" not in request.__dict__:
            held = running_job(request).held if request.id else None
            published = ((request.headers or {}).get(HEADER) or {}).get("max_attempts")
            if held is None:
                request.attempt = (request.retries or 0) + 1
                request.max_attempts = published or self.max_attempts
            else:
                request.attempt = held.fence.attempt
                # The row knows best, unless whoever published the job knew nothing of it.
                request.max_attempts = held.max_attempts if published else self.max_attempts
        return request

    @property
    def meta(self) -> Meta:
        """What is noted of the running job: a mapping that reads and writes its row."""
        return running_job(self.request).meta

    def is_cancelled(self) -> bool:
        """True once the running job is not to go on: somebody cancelled it, or it was taken away.

        Cheap enough for a loop: the database is asked twice a second at most.
        """
        return running_job(self.request).is_cancelled()

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
        Oban's rule, see :func:`pgjobs_celery.backoff.oban_backoff`.
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
        if max_retries is None and not request.called_directly:
            max_retries = request.max_attempts - 1
        try:
            return super().retry(*args, max_retries=max_retries, **kwargs)
        except (Ignore, Reject, Retry):
            raise
        except Exception:
            request.is_at_its_limit = True
            raise

    def next_delay(self, request: Any, error: BaseException) -> float | None:
        """In how many seconds the job runs again after this exception; None if it does not."""
        self.count_attempts(request)
        if request.attempt >= request.max_attempts or hasattr(request, "is_at_its_limit"):
            return None
        if not self._is_retried_for(error):
            return None
        job = self._current_job(request)
        try:
            return seconds_from_now(self.backoff(job), f"the backoff of {self.name}")
        except Exception:
            logger.exception(
                "task %s[%s]: its backoff failed; the default is used", self.name, job.task_id
            )
            return oban_backoff(job.attempt, job.max_attempts)

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
        header = (request.headers or {}).get(HEADER) or {}
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

    def _run_attempt(self, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run the task's body, and turn how it ends into what the worker understands."""
        request = self.request
        if request.called_directly or request.is_eager or hasattr(request, "is_in_body"):
            # The last: it called the body of the class that it inherits from.
            return run(*args, **kwargs)
        request.is_in_body = True
        try:
            try:
                returned = run(*args, **kwargs)
            except TaskEnd as end:
                returned = end
            if isinstance(returned, TaskEnd):
                self._end(request, returned)
        except (Ignore, Reject, Retry, Discard):  # Celery's own words, and ours
            raise
        except Exception as error:
            delay = self.next_delay(request, error)
            if delay is None:
                raise
            self._try_again(request, error, delay)
        return returned

    def _end(self, request: Any, end: TaskEnd) -> NoReturn:
        if isinstance(end, Snooze):
            self._try_again(request, end, end.delay)
        if isinstance(end, Cancel):
            request.is_left_to_worker = True
            self.backend.mark_as_revoked(
                request.id, end.reason, request=request, store_result=not self.ignore_result
            )
            raise CancelledByTask(end.reason) from None
        raise end

    def _try_again(self, request: Any, error: BaseException, delay: float) -> NoReturn:
        is_snooze = isinstance(error, Snooze)
        if running_job(request).held is None:
            # Another broker: as Celery would.
            retries = request.retries - 1 if is_snooze else request.retries
            raise self._retry_by_message(retries, error, delay)
        request.is_left_to_worker = True
        entry = None if is_snooze else error_from(error, _format(error))
        raise Postponed(delay, get_pickleable_exception(error), entry) from error

    def _retry_by_message(self, retries: int, error: BaseException, delay: float) -> Retry:
        signature = self.signature_from_request(countdown=delay, retries=retries + 1)
        signature.apply_async()
        return Retry(exc=get_pickleable_exception(error), when=delay, sig=signature)


def _is_option(value: Any) -> bool:
    return not callable(value) and not isinstance(value, (property, staticmethod, classmethod))


def _said(cls: type[PgTask]) -> dict[str, Any]:
    """What a class, or a decorator, says of attempts itself."""
    said = {name: vars(cls)[name] for name in ("max_attempts", "max_retries") if name in vars(cls)}
    retries = vars(cls).get("retry_kwargs", {})
    if "max_retries" in retries:
        said.setdefault("max_retries", retries["max_retries"])
    return said


def _max_attempts(cls: type[PgTask]) -> int:
    """What is said of a task's attempts, in our words or (``max_retries``) in Celery's.

    An annotation (``task_annotations``) goes before the task; but not before what Celery's own
    tasks need, ``chord_unlock`` above all, which asks again and again.
    """
    annotated = {name: value for name, value in _said(cls).items() if value != cls._said.get(name)}
    if annotated and not str(cls.name).startswith("celery."):
        return _attempts(annotated)
    for each in cls.__mro__:
        if said := vars(each).get("_said"):
            return _attempts(said)
    return PgTask.max_attempts


def _attempts(said: Mapping[str, Any]) -> int:
    ours = check_max_attempts(said["max_attempts"]) if "max_attempts" in said else None
    theirs = attempts_from_retries(said["max_retries"]) if "max_retries" in said else None
    if ours is not None and theirs is not None and ours != theirs:
        raise InvalidOption(
            f"max_attempts ({ours}, the first run included) and max_retries ({theirs - 1}, "
            "without it) contradict each other; leave one of them out"
        )
    return ours if ours is not None else theirs or PgTask.max_attempts


def _wrap_run(cls: type[PgTask]) -> None:
    """Have the task's body run through :meth:`PgTask._run_attempt`.

    As Celery's autoretry does, and for its reason: ``__call__`` is what applications override.
    """
    found = inspect.getattr_static(cls, "run")
    if getattr(found, "_is_attempt", False):
        return
    body = found.__func__ if isinstance(found, staticmethod) else found

    @functools.wraps(body)
    def run(self: PgTask, *args: Any, **kwargs: Any) -> Any:
        bound = body if isinstance(found, staticmethod) else functools.partial(body, self)
        return self._run_attempt(bound, args, kwargs)

    # Celery's autoretry stays out of the way: what it would do is done here.
    cls._orig_run = run
    if isinstance(found, staticmethod):
        # The signature of what has no ``self`` would lose its first parameter.
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        signature = inspect.signature(body)
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[own, *signature.parameters.values()]
        )
    run._is_attempt = True  # type: ignore[attr-defined]
    cls.run = run


def _format(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))

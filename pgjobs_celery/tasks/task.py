"""PgTask, the task base class: attempts, backoff, tags, meta, uniqueness, snooze and cancel.

    app = Celery("proj", broker="pgjobs://...", task_cls="pgjobs_celery:PgTask")

    @app.task(bind=True, max_attempts=5, tags=["mail"])
    def welcome(self, user_id): ...

Works with any broker. On ``pgjobs://`` a failed attempt is scheduled again in the job's own row, by
the batch that writes outcomes; elsewhere by Celery's ``retry()``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu import Producer

from ..control.app import note_app
from ..errors import InvalidOption, UnknownOption
from ..job.checks import did_you_mean
from ..job.exceptions import Discard
from ..job.idempotency import USUAL_TIME, check_time
from ..job.options import (
    FLOW_NAMES,
    HEADER,
    OPTIONS,
    attempts_from_retries,
    check_durability,
    check_exceptions,
    check_max_attempts,
    check_meta,
    check_names,
    merge,
    normalise_tags,
)
from ..job.unique import Unique, as_unique
from ..publishing.aio import aapply_async, adelay
from ..publishing.batch import SIZE
from ..publishing.declared import declaring
from ..publishing.enqueue_many import OnBatch, enqueue_many
from ..publishing.receipt import receipt
from ..publishing.repeated import collect
from .attempts import prepare_in_attempts, run_in_attempts
from .limited import FLOW_OPTIONS, LimitedTask, read_flow
from .result import PgResult
from .stepping import SteppedTask

#: Celery's options of a call: some look like a misspelt one of ours (``eta`` and ``meta``).
CELERYS_OPTIONS = frozenset(
    name
    for takes in (Celery.send_task, AMQP.as_task_v2, Producer.publish)
    for name in inspect.signature(takes).parameters
)


class PgTask(LimitedTask, SteppedTask):
    """A task whose jobs have attempts, tags and meta; every option may stand on the class, in the
    decorator or in the call (``apply_async``, ``.set``).

    Unlike Celery's own, it is acknowledged when it ends (``acks_late``): a job whose worker is
    killed loses an attempt, and runs again.
    """

    #: Labels of a job, for people and filters; trimmed and in lower case.
    tags: Sequence[str] = ()

    #: When two jobs are equal, and the second is not published; True for "as long as the first
    #: one's row is kept".
    unique: Unique | Mapping[str, Any] | bool | None = None

    #: ``"relaxed"``: ``delay()`` does not wait for the disk, and a crash of the server may lose the
    #: job. None: as the queue has it (``relaxed_queues``), which is ``"full"`` unless that says so.
    durability: str | None = None

    #: For how long an ``idempotency_key`` counts, in seconds or as a timedelta.
    idempotency_for: float | timedelta = USUAL_TIME

    #: The ``meta`` of the decorator or class body; ``self.meta`` is the running job's.
    _default_meta: Mapping[str, Any] = {}
    #: The limits of attempts that class or decorator declare, before annotations.
    _declared: Mapping[str, Any] = {}
    #: The header of a job whose call has no options of ours.
    _header: Mapping[str, Any] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _check_names(cls, cls.__dict__.get("name") or f"{cls.__module__}.{cls.__qualname__}")
        cls._declared = _declared(cls)
        _keep_meta(cls)

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Celery has bound the task to its app, settings and annotations included."""
        super().on_bound(app)
        _check_names(cls, cls.name)
        try:
            _check_retrying(cls)
            cls.max_attempts = _max_attempts(cls)
            cls.tags = normalise_tags(cls.tags)
            cls.unique = as_unique(cls.unique)
            _keep_meta(cls)
            meta = check_meta(cls._default_meta)
            if cls.durability is not None:
                check_durability(cls.durability)
            read_flow(cls)
            check_time(cls.idempotency_for)
            if not callable(cls.backoff):
                raise InvalidOption(
                    f"backoff must be a function of the task and its job, not {cls.backoff!r}"
                )
        except (InvalidOption, UnknownOption) as error:
            raise type(error)(f"task {cls.name}: {error}") from None
        # Celery's own retry() goes by it.
        cls.max_retries = cls.max_attempts - 1
        cls._header = {"max_attempts": cls.max_attempts}
        if cls.tags:
            cls._header["tags"] = list(cls.tags)
        if meta:
            cls._header["meta"] = meta
        if cls.durability is not None:
            cls._header["durability"] = cls.durability
        run_in_attempts(cls)
        prepare_in_attempts(cls)
        note_app(cls.app)

    # Publish

    if TYPE_CHECKING:  # Celery's own, whose handle is Celery's to celery-types

        def delay(self, *args: Any, **kwargs: Any) -> PgResult:
            """Publish with these arguments."""
            raise NotImplementedError

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
    ) -> PgResult:
        """As Celery's, with the options of this class.

        Raises UnknownOption for a misspelt one, and InvalidOption for a value that cannot be used;
        then nothing was published.
        """
        if not producer:
            is_bare = task_id is None and not (link or link_error or shadow)
            producer, handle = collect(self, args, kwargs, options, is_bare=is_bare)
            if handle is not None:
                return handle  # type: ignore[no-any-return]
        header, given = self._take_header(options)
        headers = options.get("headers") or {}
        if "unique" in given or "unique" not in header:
            rule = as_unique(given.get("unique", self.unique), as_unique(self.unique))
            header["unique"] = self._identify(rule, args, kwargs, header) if rule else None
            if rule and rule.countdown and not options.get("eta") and "countdown" not in options:
                options["countdown"] = rule.countdown
        declared = None
        if self._flow is not None or not given.keys().isdisjoint(FLOW_OPTIONS):
            declared = self._declare(given, header, args, kwargs)
        options["headers"] = {**headers, HEADER: header}
        publish: Callable[[], PgResult] = functools.partial(
            super().apply_async,
            *(args, kwargs, task_id, producer, link, link_error, shadow),
            **options,
        )
        if declared is not None:
            publish = functools.partial(declaring, declared, publish)
        if not header["unique"]:
            del header["unique"]
            if "idempotency_key" not in header:
                return publish()
        with receipt(is_promised=task_id is not None) as sent:
            result = publish()
        if sent.conflict:
            return self._handle_on(sent.conflict, result)
        # Where it was collected, its conflict shows when it is written.
        sent.result = result
        return result

    def _take_header(self, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The job's header, and the options of ours that the call gives; removes these from
        ``options``. Raises UnknownOption and InvalidOption."""
        given = {name: options.pop(name) for name in OPTIONS if name in options}
        if "max_retries" in options:
            declared = {"max_retries": options.pop("max_retries"), **given}
            given["max_attempts"] = _attempts(declared)
        stamps = options.get("stamped_headers") or ()
        check_names(options, f"task {self.name}", {*CELERYS_OPTIONS, *stamps})
        headers = options.get("headers") or {}
        header = merge(self._header, given, headers.get(HEADER))
        if "idempotency_key" in header and "idempotency_for" not in header:
            header["idempotency_for"] = check_time(self.idempotency_for)
        return header, given

    def common_options(self, options: Mapping[str, Any]) -> dict[str, Any] | None:
        """Celery's options for jobs that are published with these, where they are the same for all;
        None where they depend on the arguments, or a class of the app publishes in its own way."""
        if type(self).apply_async is not PgTask.apply_async:
            return None
        rest = dict(options)
        header, given = self._take_header(rest)
        if not given.keys().isdisjoint(FLOW_NAMES) or not isinstance(given.get("cost", 1), int):
            return None
        if as_unique(given.get("unique", self.unique), as_unique(self.unique)) or header.get(
            "unique"
        ):
            return None
        return {**rest, "headers": {**(rest.get("headers") or {}), HEADER: header}}

    def _identify(self, rule: Unique, args: Any, kwargs: Any, header: Any) -> dict[str, Any]:
        """The uniqueness of a job with these arguments, for its header."""
        bound = self._bind(args, kwargs)
        arguments: Any = [args or [], kwargs or {}]
        if bound is not None:
            arguments, takes_any = bound
            if not takes_any:
                # A key that no job has would make all jobs equal.
                self._check_keys(rule, arguments)
        return rule.to_header(rule.digest(self.name, arguments, header.get("meta") or {}))

    def _check_keys(self, rule: Unique, arguments: Mapping[str, Any]) -> None:
        for key in rule.keys if "args" in rule.fields else ():
            if key not in arguments:
                raise InvalidOption(
                    f"unique: keys name {key!r}, which is not an argument of {self.name}"
                    f"{did_you_mean(key, arguments)}"
                )

    def _handle_on(self, task_id: str, instead_of: Any) -> PgResult:
        """The handle on the existing job; it replaces the other in the parent's children, too."""
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

    def adelay(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, PgResult]:
        """As ``delay()``, for asyncio programs: await it; it does not block the event loop."""
        return adelay(self, *args, **kwargs)

    def aapply_async(self, *args: Any, **options: Any) -> Coroutine[Any, Any, PgResult]:
        """As ``apply_async()``, for asyncio programs: await it."""
        return aapply_async(self, *args, **options)

    def enqueue_many(
        self,
        iterable: Iterable[Any],
        *,
        size: int = SIZE,
        on_batch: OnBatch | None = None,
        **options: Any,
    ) -> int:
        """Publish a job for each item, ``size`` of them at a time; how many were published.

        See :func:`pgjobs_celery.enqueue_many`.

            >>> welcome.enqueue_many(((user.id,) for user in users), queue="mail")
            100000
        """
        return enqueue_many(self, iterable, size=size, on_batch=on_batch, **options)

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Django: ``delay()`` once the transaction is committed, as Celery's DjangoTask has it."""
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Django: ``apply_async()`` once the transaction is committed."""
        from django.db import transaction  # only with Django

        transaction.on_commit(functools.partial(self.apply_async, *args, **kwargs))


def _is_option(value: Any) -> bool:
    return not callable(value) and not isinstance(value, (property, staticmethod, classmethod))


def _check_names(cls: type[PgTask], name: str) -> None:
    """Raise UnknownOption for a misspelt option of the class itself, annotations included."""
    known = {name for base in cls.__mro__[1:] for name in vars(base)}
    declared = [name for name, value in vars(cls).items() if _is_option(value)]
    check_names(declared, f"task {name}", known)


def _check_retrying(cls: type[PgTask]) -> None:
    """Check options of Celery that would otherwise fail only when a job has failed."""
    throws = cls.throws or ()
    throws = (throws,) if isinstance(throws, type) else check_exceptions("throws", throws)
    # A task's own decision is expected: neither Celery's log nor error trackers report it.
    cls.throws = throws if Discard in throws else (*throws, Discard)
    for name in ("autoretry_for", "dont_autoretry_for"):
        if value := getattr(cls, name, None):
            check_exceptions(name, value)
    retries = getattr(cls, "retry_kwargs", {})
    if not isinstance(retries, Mapping):
        raise InvalidOption(f"retry_kwargs must be a mapping, not {retries!r}")


def _keep_meta(cls: type[PgTask]) -> None:
    """Keep ``self.meta`` for the running job, whatever the class declares as ``meta``."""
    if "meta" in vars(cls):
        cls._default_meta = vars(cls)["meta"]
        del cls.meta


def _declared(cls: type[PgTask]) -> dict[str, Any]:
    """The limits of attempts that a class, or its decorator, declares itself."""
    declared = {
        name: vars(cls)[name] for name in ("max_attempts", "max_retries") if name in vars(cls)
    }
    retries = vars(cls).get("retry_kwargs", {})
    if isinstance(retries, Mapping) and "max_retries" in retries:
        declared.setdefault("max_retries", retries["max_retries"])
    return declared


def _max_attempts(cls: type[PgTask]) -> int:
    """A task's attempts, declared as ``max_attempts`` or as Celery's ``max_retries``.

    An annotation (``task_annotations``) overrides the task; but not the limits that Celery's own
    tasks need, above all ``chord_unlock``, which asks again and again.
    """
    annotated = {
        name: value for name, value in _declared(cls).items() if value != cls._declared.get(name)
    }
    if annotated and not str(cls.name).startswith("celery."):
        return _attempts(annotated)
    for each in cls.__mro__:
        if declared := vars(each).get("_declared"):
            return _attempts(declared)
    return PgTask.max_attempts


def _attempts(declared: Mapping[str, Any]) -> int:
    ours = check_max_attempts(declared["max_attempts"]) if "max_attempts" in declared else None
    theirs = attempts_from_retries(declared["max_retries"]) if "max_retries" in declared else None
    if ours is not None and theirs is not None and ours != theirs:
        raise InvalidOption(
            f"max_attempts ({ours}, the first run included) and max_retries ({theirs - 1}, "
            "without it) contradict each other; leave one of them out"
        )
    return ours if ours is not None else theirs or PgTask.max_attempts

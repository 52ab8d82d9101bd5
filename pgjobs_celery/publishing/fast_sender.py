"""Send many messages of one task, built by Celery's own ``app.amqp``, as ``apply_async()`` does.

But without what that works out each time and is the same for all: settings, defaults, a result that
nobody takes. It is a third of what a message costs. Where the messages differ in nothing but their
arguments most are made after one of them, see :mod:`pgjobs_celery.publishing.template`. Where a
task, an app or a library does anything of its own on the way no such sender exists, and
``apply_async()`` is called for each.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import Any

import celery
from celery import Celery, Task
from celery.app.routes import MapRoute, Router
from celery.utils import uuid

from ..job.flow_options import Arguments, TaskFlow
from ..job.options import HEADER
from ..job.rows import NewJob
from ..printable import guarded
from .declared import declaring
from .laning import Laner, arguments_of, find_laner
from .template import Template, find_template, is_watched

logger = guarded(logging.getLogger(__name__))

#: The releases of Celery whose ``apply_async()`` and ``send_task()`` this was written after.
KNOWN = {(5, 5), (5, 6), (5, 7)}
#: The options that go straight into the message, or say how it is sent.
OPTIONS = frozenset({
    "add_to_parent", "compression", "countdown", "delivery_mode", "eta", "exchange", "headers",
    "ignore_result", "priority", "queue", "retry", "retry_policy", "routing_key", "serializer",
    "soft_time_limit", "time_limit",
})  # fmt: skip


class Sender:
    """Sends a task's messages with the same options."""

    def __init__(self, task: Any, producer: Any, options: Mapping[str, Any]) -> None:
        app = task.app
        self._task = task
        self._producer = producer
        self._header = getattr(task, "__header__", None) if task.typing else None
        options = {**task._get_exec_options(), **options}
        options.setdefault("ignore_result", task.ignore_result)
        for name in ("add_to_parent", "expires"):
            options.pop(name, None)
        self._fields = {
            **{name: options.pop(name, None) for name in ("countdown", "eta")},
            **{name: options.pop(name, None) for name in ("time_limit", "soft_time_limit")},
            "ignore_result": options.pop("ignore_result"),
            "reply_to": app.thread_oid,
            "create_sent_event": app.conf.task_send_sent_event,
        }
        self._parent = parent = app.current_worker_task
        if parent:
            self._fields["root_id"] = parent.request.root_id or parent.request.id
            self._fields["parent_id"] = parent.request.id
        self._router = app.amqp.router
        # Such routes go by the task's name.
        self._is_routed = type(self._router) is Router and all(
            type(route) is MapRoute for route in self._router.routes
        )
        if self._is_routed:
            options = self._router.route(options, task.name, (), {}, task)
        self._options = options
        self._amqp = app.amqp
        self._template: Template | None = None
        self._sent = 0
        self._backend = None if self._fields["ignore_result"] else app.backend
        self._flow: TaskFlow | None = getattr(task, "_flow", None)
        cost = ((options.get("headers") or {}).get(HEADER) or {}).get("cost")
        if cost is not None:
            self._flow = (self._flow or TaskFlow(task.name))._replace(cost=cost)

    def begin(self) -> None:
        """Some more are to be sent: what those before were made after holds no longer."""
        self._template, self._sent = None, 0

    def send(self, args: Any, kwargs: Any, new_id: str = "") -> str:
        """Send one; its id, ``new_id`` if the caller has made one for it just now."""
        task, amqp, options = self._task, self._amqp, self._options
        if self._header is not None:
            self._header(*args, **kwargs)
        task_id = new_id or uuid()
        template = self._find_template()
        if template is not None:
            if self._backend is not None:
                self._backend.on_task_call(self._producer, task_id)
            template.put(task_id, args, kwargs)
            return task_id
        if not self._is_routed:
            options = self._router.route({**options}, task.name, args, kwargs, task)
        message = amqp.create_task_message(
            task_id, task.name, args, kwargs, **self._fields, **options
        )
        if self._backend is not None:
            self._backend.on_task_call(self._producer, task_id)
        publish = partial(amqp.send_task_message, self._producer, task.name, message, **options)
        if self._flow is None:
            publish()
        else:
            declaring(self._flow.declare(self._to_arguments(args, kwargs)), publish)
        return task_id

    def send_for_handle(self, args: Any, kwargs: Any) -> Any:
        """Send one, and return its handle, which the task that runs has among its children."""
        try:
            task_id = self.send(args, kwargs)
        except Exception:
            with self.errors():
                raise
        return self.handle(task_id)

    def handle(self, task_id: str) -> Any:
        """The handle of one that was sent, which the task that runs has among its children."""
        result = self._task.AsyncResult(task_id)
        result.ignored = self._fields["ignore_result"]
        if self._parent:
            self._parent.add_trail(result)
        return result

    @property
    def tries_again(self) -> bool:
        """True where Celery, too, would try again after an error of the connection."""
        given = self._options.get("retry")
        return bool(self._amqp.app.conf.task_publish_retry if given is None else given)

    def _to_arguments(self, args: Any, kwargs: Any) -> Arguments:
        return arguments_of(self._task.app, self._task.name, args, kwargs)

    def _to_laner(self, job: NewJob) -> Laner | None:
        database = self._producer.channel.database
        return find_laner(database, job, self._flow, self._to_arguments)

    def _find_template(self) -> Template | None:
        """The message that the next one is made after; None where it has to be built."""
        if not self._is_routed or is_watched():
            return None
        self._sent += 1
        if self._sent == 2:  # it is built once more than the messages, which one is not worth
            self._template = find_template(
                self._producer,
                self._amqp,
                self._task.name,
                self._fields,
                self._options,
                self._to_laner,
            )
        return self._template

    def errors(self) -> AbstractContextManager[Any]:
        """In this block what is raised of a connection is what ``apply_async()`` raises."""
        block: AbstractContextManager[Any] = self._producer.connection._reraise_as_library_errors()
        return block


def find_sender(task: Any, producer: Any, options: Mapping[str, Any]) -> Sender | None:
    """A sender that does what the task's ``apply_async()`` would; None where there is none."""
    app = task.app
    common: Mapping[str, Any] | None = options
    if hasattr(task, "common_options"):
        common = task.common_options(options)
    elif type(task).apply_async is not Task.apply_async:
        common = None
    if common is None or not is_celerys_own(task) or not common.keys() <= OPTIONS:
        return None
    if common.get("add_to_parent") or task.expires is not None:
        return None
    if task.soft_time_limit and task.time_limit and task.soft_time_limit > task.time_limit:
        return None  # which is an error
    if app.conf.task_protocol != 2 or app.conf.task_inherit_parent_priority:
        return None
    return Sender(task, producer, common)


def is_celerys_own(task: Any) -> bool:
    """True where no library has replaced a part of Celery's way to publish."""
    app = task.app
    if celery.VERSION[:2] not in KNOWN:
        _warn_once(celery.__version__)
        return False
    return (
        type(task).shadow_name is Task.shadow_name
        and getattr(task, "_dump_pydantic_arguments", None) is None
        and type(app).send_task is Celery.send_task
        and "send_task" not in vars(app)
        and not any(
            hasattr(method, "__wrapped__") or method.__module__ != module
            for method, module in (
                (Task.apply_async, "celery.app.task"),
                (Celery.send_task, "celery.app.base"),
            )
        )
    )


@cache
def _warn_once(version: str) -> None:
    """Say, once in a process, why ``enqueue_many()`` takes longer than it could."""
    logger.warning(
        "this release of pgjobs-celery does not know Celery %s: enqueue_many() calls "
        "apply_async() for each task, which is correct and takes longer",
        version,
    )

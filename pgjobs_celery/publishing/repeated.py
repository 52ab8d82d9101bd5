"""Publish a task again and again in a :func:`bulk` block, by one sender.

The first of those with the same options is published by Celery's own ``apply_async()``. For the
others a :class:`Sender` works out once what is the same for all of them: a quarter of the CPU.

Celery asks no part of this package when a plain task is called. So its ``Task.apply_async()`` is
replaced, in a process that has entered such a block, by one that asks whether something collects.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from celery import Task

from ..db.database import Database
from .batch import batches, find_batch
from .fast_producer import Collector, find_collector
from .fast_sender import OPTIONS, Sender, find_sender
from .laning import Rules, known_rules
from .run import current_request

#: The options of a call that may be the same for many.
_REPEATED = OPTIONS - {"add_to_parent", "countdown", "headers"}
#: For how many seconds a sender is used: a block may last, and settings and routes may change.
LIFETIME = 1.0
#: Values that stay what they are.
_PLAIN = (str, int, float, type(None))


class Repeated(NamedTuple):
    """What is known of the calls that are made where, and as, the first of them was."""

    producer: Collector
    #: The run of the task that publishes.
    request: Any
    rules: Rules
    #: By the monotonic clock.
    until: float
    #: Their sender: None before there is a second call, and where they can have none.
    sender: Sender | None = None
    is_first: bool = True


def collect(
    task: Any, args: Any, kwargs: Any, options: Mapping[str, Any], *, is_bare: bool
) -> tuple[Collector | None, Any]:
    """For a call without a producer: one for what is collected here, if anything is, and the handle
    of the job, if it is published by now.

    ``is_bare``: nothing is given to ``apply_async()`` but arguments and these options.
    """
    if "connection" in options or "publisher" in options:
        return None, None
    producer = find_collector(task.app)
    if producer is None or not is_bare:
        return producer, None
    return producer, _send(task, producer, args, kwargs, options)


def _send(
    task: Any, producer: Collector, args: Any, kwargs: Any, options: Mapping[str, Any]
) -> Any:
    """Publish a job, and return its handle.

    None where Celery must publish it: the first of its kind, and any that differs from others by
    more than its arguments.
    """
    database: Database = producer.channel.database
    batch = find_batch(database)
    if batch is None or not _may_be_repeated(args, kwargs, options):
        return None
    key = (task, *((name, type(value), value) for name, value in options.items()))
    here = (producer, current_request(), known_rules(database).current(database))
    known: Repeated | None = batch.repeated.get(key)
    now = time.monotonic()
    if known is None or known[:3] != here or now > known.until:
        batch.repeated[key] = Repeated(*here, now + LIFETIME)
        return None
    if known.is_first:
        is_eager = task.app.conf.task_always_eager
        sender = None if is_eager else find_sender(task, producer, options)
        known = batch.repeated[key] = known._replace(sender=sender, is_first=False)
    return None if known.sender is None else known.sender.send_for_handle(args or (), kwargs or {})


def _may_be_repeated(args: Any, kwargs: Any, options: Mapping[str, Any]) -> bool:
    return (
        isinstance(args, (tuple, list, type(None)))
        and isinstance(kwargs, (dict, type(None)))
        and options.keys() <= _REPEATED
        and all(isinstance(value, _PLAIN) for value in options.values())
    )


def collect_plain_tasks() -> None:
    """Have the plain tasks that are called in a block of :func:`bulk` collected as a PgTask is.

    Nothing where a library has put its own method in the place of Celery's.
    """
    celerys: Any = Task.apply_async
    is_wrapped = hasattr(celerys, "__wrapped__")  # by a library, such as Sentry's
    if is_wrapped or celerys.__module__ != Task.__module__ or hasattr(celerys, "replaces"):
        return

    @functools.wraps(celerys)
    def apply_async(
        self: Any,
        args: Any = None,
        kwargs: Any = None,
        task_id: Any = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: Any = None,
        **options: Any,
    ) -> Any:
        if not producer and batches.find() is not None and not self.app.conf.task_always_eager:
            is_bare = task_id is None and not (link or link_error or shadow)
            producer, handle = collect(self, args, kwargs, options, is_bare=is_bare)
            if handle is not None:
                return handle
        return celerys(self, args, kwargs, task_id, producer, link, link_error, shadow, **options)

    # By this mark a library's method is known, see is_celerys_own().
    del apply_async.__wrapped__
    apply_async.replaces = celerys  # type: ignore[attr-defined]
    Task.apply_async = apply_async

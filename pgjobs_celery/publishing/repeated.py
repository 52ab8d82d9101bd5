"""Publish a task again and again by one sender: in a :func:`bulk` block, and by itself.

The first of those with the same options is published by Celery's own ``apply_async()``. For the
others a :class:`Sender` works out once what is the same for all of them: in a block a quarter of
the CPU is left, and of a call that writes at once a half.

Celery asks no part of this package when a plain task is called. So its ``Task.apply_async()`` is
replaced, in a process that publishes to a broker of ours, by one that asks first.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from celery import Celery, Task
from celery.utils import uuid
from kombu import Producer

from ..db.database import CONNECTION_ERRORS, Database
from .batch import find_batch
from .fast_producer import Collector, Shortcut, find_shortcut, is_alone
from .fast_sender import OPTIONS, Sender, find_sender
from .laning import Rules, known_rules
from .run import current_request
from .template import is_watched

#: The options of a call that may be the same for many.
_REPEATED = OPTIONS - {"add_to_parent", "countdown", "headers"}
#: For how many seconds a sender is used: settings that were changed in place are not noticed.
LIFETIME = 10.0
#: How many kinds of calls that write at once are remembered of an app in a thread.
REMEMBERED = 100
#: Values that stay what they are.
_PLAIN = (str, int, float, type(None))


class Call(NamedTuple):
    """A call of ``apply_async()``, of nothing but arguments and options."""

    task: Any
    args: Any
    kwargs: Any
    options: Mapping[str, Any]


class Place(NamedTuple):
    """The conditions under which a call is made."""

    shortcut: Shortcut
    #: The run of the task that publishes.
    request: Any
    rules: Rules
    #: The app's settings, as far as they were set or changed one by one.
    settings: Mapping[str, Any]
    #: What publishes: a test may have put something else there for a while.
    ways: tuple[Any, ...]


class Repeated(NamedTuple):
    """What is known of the calls that are made where, and as, the first of them was."""

    place: Place
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
    shortcut = find_shortcut(task.app)
    database = shortcut.database if shortcut is not None else None
    if shortcut is None or database is None:
        return None, None
    if is_alone(database):
        if not is_bare or current_request() is not None:
            return None, None  # a run's own calls are few, and its successor would learn it anew
        return None, _write(Call(task, args, kwargs, options), shortcut, database)
    producer = shortcut.collector()
    batch = find_batch(database)
    if producer is None or batch is None or not is_bare:
        return producer, None
    call = Call(task, args, kwargs, options)
    sender = _find_sender(batch.repeated, call, shortcut, database)
    if sender is None:
        return producer, None
    return producer, sender.send_for_handle(args or (), kwargs or {})


def _write(call: Call, shortcut: Shortcut, database: Database) -> Any:
    """Publish a job that is written at once, and return its handle; None where Celery must."""
    if is_watched():
        return None  # or whoever is told would be told twice, where it has to be tried again
    known = shortcut.repeated
    if len(known) > REMEMBERED:
        known.clear()
    try:
        sender = _find_sender(known, call, shortcut, database)
    except CONNECTION_ERRORS:
        return None
    if sender is None:
        return None
    task_id = uuid()
    try:
        sender.send(call.args or (), call.kwargs or {}, task_id)
    except CONNECTION_ERRORS:
        if not sender.tries_again:
            with sender.errors():
                raise
        # Celery tries again as often as the app says. With this id, for it may be there by now.
        return call.task.apply_async(call.args, call.kwargs, task_id, **call.options)
    return sender.handle(task_id)


def _find_sender(
    known: dict[Any, Repeated], call: Call, shortcut: Shortcut, database: Database
) -> Sender | None:
    """The sender for a call.

    None where Celery must publish it: the first of its kind, and any that differs from others by
    more than its arguments.
    """
    if not _may_be_repeated(call):
        return None
    task, options = call.task, call.options
    app = task.app
    key = (
        task,
        task.ignore_result,
        *((name, type(value), value) for name, value in options.items()),
    )
    rules = known_rules(database).current(database)
    place = Place(shortcut, current_request(), rules, app.conf.changes, _ways(app))
    found, now = known.get(key), time.monotonic()
    if found is None or found.place != place or now > found.until:
        settings = dict(place.settings)  # which may be changed in place
        known[key] = Repeated(place._replace(settings=settings), now + LIFETIME)
        return None
    if found.is_first:
        producer = None if app.conf.task_always_eager else shortcut.collector()
        sender = None if producer is None else find_sender(task, producer, options)
        found = known[key] = found._replace(sender=sender, is_first=False)
    return found.sender


def _ways(app: Any) -> tuple[Any, ...]:
    return (
        Task.apply_async,
        Celery.send_task,
        vars(app).get("send_task"),
        app.amqp.send_task_message,
        Producer.publish,
    )


def _may_be_repeated(call: Call) -> bool:
    return (
        isinstance(call.args, (tuple, list, type(None)))
        and isinstance(call.kwargs, (dict, type(None)))
        and call.options.keys() <= _REPEATED
        and all(isinstance(value, _PLAIN) for value in call.options.values())
    )


def shorten_plain_tasks() -> None:
    """Have plain tasks that are called again and again published as a PgTask is.

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
        if not producer:
            is_bare = task_id is None and not (link or link_error or shadow)
            producer, handle = collect(self, args, kwargs, options, is_bare=is_bare)
            if handle is not None:
                return handle
        return celerys(self, args, kwargs, task_id, producer, link, link_error, shadow, **options)

    # By this mark a library's method is known, see is_celerys_own().
    del apply_async.__wrapped__
    apply_async.replaces = celerys  # type: ignore[attr-defined]
    Task.apply_async = apply_async

"""Publish a :class:`PgTask` again and again in a :func:`bulk` block, by one sender.

The first of those with the same options is published by Celery's own ``apply_async()``. For the
others a :class:`Sender` works out once what is the same for all of them: a third of the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..db.database import Database
from .batch import find_batch
from .fast_producer import Collector
from .fast_sender import OPTIONS, Sender, find_sender
from .laning import Rules, known_rules
from .run import current_request

#: The options of a call that may be the same for many.
_REPEATED = OPTIONS - {"add_to_parent", "countdown", "headers"}
#: Values that stay what they are.
_PLAIN = (str, int, float, type(None))


class Repeated(NamedTuple):
    """What is known of the calls that are made where, and as, the first of them was."""

    producer: Collector
    #: The run of the task that publishes.
    request: Any
    rules: Rules
    #: Their sender: None before there is a second call, and where they can have none.
    sender: Sender | None = None
    is_first: bool = True


def send_repeated(
    task: Any, producer: Collector, args: Any, kwargs: Any, options: Mapping[str, Any]
) -> Any:
    """Publish a job that is collected, and return its handle.

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
    if known is None or known[:3] != here:
        batch.repeated[key] = Repeated(*here)
        return None
    if known.is_first:
        is_eager = task.app.conf.task_always_eager
        sender = None if is_eager else find_sender(task, producer, options)
        known = batch.repeated[key] = Repeated(*here, sender, is_first=False)
    return None if known.sender is None else known.sender.send_for_handle(args or (), kwargs or {})


def _may_be_repeated(args: Any, kwargs: Any, options: Mapping[str, Any]) -> bool:
    return (
        isinstance(args, (tuple, list, type(None)))
        and isinstance(kwargs, (dict, type(None)))
        and options.keys() <= _REPEATED
        and all(isinstance(value, _PLAIN) for value in options.values())
    )

"""Make a task's jobs after one that Celery has built: only their ids and arguments differ.

It takes Celery and us four times as long to build a message and a row of it. A template stands for
that only where nobody looks at the messages on their way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from celery import signals
from celery.app.amqp import AMQP
from celery.utils import uuid
from celery.utils.saferepr import saferepr

from ..job.envelope import encode_body
from ..job.rows import NewJob
from .batch import Batch, batches
from .fast_producer import Collector
from .insertion import Insertion
from .laning import Laner, in_lane
from .replacement import MARKING

#: An argument of these types is represented by ``str()``; a text stands between quotes.
_PLAIN = frozenset({int, float, bool, type(None)})


class Template:
    """A job, and the places in it for the id and the arguments of others."""

    def __init__(
        self,
        producer: Collector,
        amqp: AMQP,
        name: str,
        fields: Mapping[str, Any],
        to_laner: Callable[[NewJob], Laner | None],
    ) -> None:
        self._producer = producer
        self._to_laner = to_laner
        self._amqp = amqp
        self._name = name
        levels = amqp.app.conf.get("task_repr_maxlevels")  # of Celery 5.7
        self._levels = {} if levels is None else {"maxlevels": levels}
        #: These stand where others are put in.
        self._own = [uuid(), uuid(), uuid()]
        task_id, args, kwargs = self._own
        self._message = amqp.create_task_message(
            task_id, name, (), {}, argsrepr=args, kwargsrepr=kwargs, **fields
        )
        self._callbacks = self._message.body[2]

    def build(self, options: Mapping[str, Any]) -> bool:
        """Have Celery publish the job with these options, and keep it to ourselves.

        False if others cannot be made after it.
        """
        batch = Batch(is_promised=False)
        scope = batches.enter(batch)
        try:
            self._amqp.send_task_message(self._producer, self._name, self._message, **options)
            steps = batch.steps
        finally:
            batches.leave(scope)
            batch.discard()
        if len(steps) != 1 or not isinstance(steps[0], Insertion):
            return False
        one = steps[0]
        if one.guard or one.receipt or one.idempotency or one.run.is_own:
            return False
        job = one.job
        self._insertion = one._replace(is_fresh=job.eta is None and job.delay is None)
        self._find_lane = self._to_laner(job)
        self._is_root = job.root_id == job.task_id
        self._serializer = options.get("serializer") or self._amqp.app.conf.task_serializer
        places = [f'"{each}"' for each in self._own]
        parts = re.split(f"({'|'.join(places)})", job.message)
        self._texts = parts[::2]
        return job.task_id == self._own[0] and parts[1::2] == places

    def put(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Publish a job with these arguments, and an id that was made for it just now."""
        args, kwargs = args or (), kwargs or {}
        channel, amqp, texts = self._producer.channel, self._amqp, self._texts
        body, _, encoding = self._producer._prepare(
            (args, kwargs, self._callbacks), self._serializer
        )
        shown_args = represent(args, amqp.argsrepr_maxsize, **self._levels)
        shown_kwargs = represent(kwargs, amqp.kwargsrepr_maxsize, **self._levels)
        job = self._insertion.job
        job = job._replace(
            task_id=task_id,
            root_id=task_id if self._is_root else job.root_id,
            message=(
                f'{texts[0]}"{task_id}"{texts[1]}{quoted(shown_args)}'
                f"{texts[2]}{quoted(shown_kwargs)}{texts[3]}"
            ),
            body=encode_body(
                {"body": body, "content-encoding": encoding}, channel.options.max_body_size
            ),
        )
        if self._find_lane is not None:
            job = in_lane(job, *self._find_lane(args, kwargs))
        channel.put(self._insertion._replace(job=job))


def find_template(
    producer: Any,
    amqp: AMQP,
    name: str,
    fields: Mapping[str, Any],
    options: Mapping[str, Any],
    to_laner: Callable[[NewJob], Laner | None],
) -> Template | None:
    """A template for the messages of a task; None where they have to be built one by one."""
    if (
        not isinstance(producer, Collector)
        or not producer.is_known
        or not _is_celerys_own(amqp)
        or fields["countdown"]  # which begins with each message
        or fields["create_sent_event"]
        or options.get("compression")
        or amqp.app.conf.task_compression
        or producer.compression
    ):
        return None
    template = Template(producer, amqp, name, {**fields, **options}, to_laner)
    return template if template.build(options) else None


def is_watched() -> bool:
    """True if somebody is told of each message: he may change it."""
    return bool(
        signals.after_task_publish.receivers
        or signals.task_sent.receivers
        # Ours marks what comes after a task: that is none of these.
        or any(key[0] != MARKING for key, *_ in signals.before_task_publish.receivers or ())
    )


def represent(value: Any, limit: int, **levels: int) -> str:
    """Arguments as Celery shows them: its ``saferepr()``, which takes longer than all the rest."""
    if type(value) is tuple:
        shown = [_represent_plain(each) for each in value]
        if None not in shown:
            text = f"({', '.join(shown)}{',' if len(shown) == 1 else ''})"  # type: ignore[arg-type]
            if len(text) < limit:
                return text
    elif not value and type(value) is dict and len("{}") < limit:
        return "{}"
    return str(saferepr(value, limit, **levels))


def _represent_plain(value: Any) -> str | None:
    kind = type(value)
    if kind in _PLAIN:
        return str(value)
    if kind is str:
        return "'{}'".format(value.replace("'", "\\'"))
    return None


def _is_celerys_own(amqp: AMQP) -> bool:
    """True where no library has replaced a part of how messages are built and sent."""
    build, send = amqp.create_task_message, amqp.send_task_message
    return type(amqp) is AMQP and all(
        getattr(method, "__module__", "") == AMQP.__module__ and not hasattr(method, "__wrapped__")
        for method in (build, send)
    )

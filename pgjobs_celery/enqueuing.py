"""Publish a task for each of many items, of which only a few are in memory at a time.

    enqueue_many(welcome, ((user.id,) for user in users))

Each is published by the task's own ``apply_async()``, or as that would do it, so that all that
Celery, a base class or a library does for a task is done here as well. Works with the tasks of any
app; with another broker they are published one by one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any

from celery.canvas import Signature
from celery.local import maybe_evaluate
from kombu import Producer

from .batch import SIZE, Batch, batches, check_size
from .errors import InvalidOption, NotAllPublished, TransactionFailed
from .publishing import Publisher
from .sending import Sender, find_sender

#: Told after each write how many jobs that were.
OnBatch = Callable[[int], None]


class Collector(Producer):  # type: ignore[misc]
    """Publishes into a batch, without what kombu does for each message and one of these needs not.

    That is to prepare for another try, which is the batch's, and to look whether the queue is
    declared.
    """

    def __init__(self, producer: Producer) -> None:
        super().__init__(
            producer.channel,
            producer.exchange,
            producer.routing_key,
            serializer=producer.serializer,
            auto_declare=producer.auto_declare,
            compression=producer.compression,
            on_return=producer.on_return,
        )
        #: What was declared already, by its identity: to compare queues takes longer than all else.
        self._declared: dict[int, Any] = {}
        self._is_known = _is_known()

    def publish(self, body: Any, **options: Any) -> Any:
        """As kombu's."""
        policy = options.get("retry_policy") or {}
        for entity in options.pop("declare", None) or ():
            if id(entity) not in self._declared:
                self.maybe_declare(entity, retry=bool(options.get("retry")), **policy)
                self._declared[id(entity)] = entity
        # Another exchange has to be asked for its queues, for which it may take another try.
        if options.get("exchange") == "" and self._is_known:
            return self._collect(body, **options)
        return super().publish(body, **options)

    def _collect(
        self,
        body: Any,
        *,
        exchange: str,
        routing_key: str,
        delivery_mode: Any = None,
        mandatory: bool = False,
        immediate: bool = False,
        priority: int | None = 0,
        content_type: str | None = None,
        content_encoding: str | None = None,
        serializer: str | None = None,
        headers: dict[str, Any] | None = None,
        compression: str | None = None,
        retry: bool = False,
        retry_policy: Any = None,
        expiration: float | None = None,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
        **properties: Any,
    ) -> None:
        headers = {} if headers is None else headers
        _, properties["delivery_mode"] = self._delivery_details(exchange, delivery_mode)
        if expiration is not None:
            properties["expiration"] = str(int(expiration * 1000))
        compression = self.compression if compression is None else compression
        body, content_type, content_encoding = self._prepare(
            body, serializer, content_type, content_encoding, compression, headers
        )
        channel = self.channel
        message = channel.prepare_message(
            body, priority, content_type, content_encoding, headers, properties
        )
        channel.basic_publish(
            message, exchange=exchange, routing_key=routing_key, mandatory=mandatory
        )


#: What kombu's ``publish()`` may be told, as far as we know.
_KNOWN = {*inspect.signature(Collector._collect).parameters, "declare"}


def _is_known() -> bool:
    """False where kombu's ``publish()`` is another than the one that this was written after.

    A later kombu's, or that of a library which has put its own in its place, as Sentry's does.
    """
    parameters = inspect.signature(Producer.publish).parameters
    return not hasattr(Producer.publish, "__wrapped__") and parameters.keys() <= _KNOWN


class Many:
    """The items of one call, on their way."""

    def __init__(self, task: Any, options: Mapping[str, Any]) -> None:
        for name in ("args", "kwargs", "task_id"):
            if name in options:
                raise InvalidOption(f"{name} is for one job, not for many: give it in an item")
        self._task = task
        # A task that publishes a million has no children to remember.
        self._options = {"add_to_parent": False, **options}
        self._producer: dict[str, Any] = {}
        self._sender: Sender | None = None
        #: How many jobs were published, and are not collected any more.
        self.published = 0
        #: How many items were begun.
        self.taken = 0

    def publish(self, items: list[Any]) -> int:
        """Publish these, and write them together; how many that were."""
        # Anew each time: the iterable may be in another transaction, or savepoint, by now.
        batch = Batch(max(len(items), 1), is_promised=False)
        outer = batches.find()
        if not self._producer or (outer is not None and outer.value.is_begun_with(batch)):
            self._publish_each(items)
            self.published += len(items)
            return len(items)
        scope = batches.enter(batch)
        try:
            with self._sender.errors() if self._sender else nullcontext():
                self._publish_each(items)
            batch.flush()
        finally:
            batches.leave(scope)
            self.published += batch.written
        return batch.written

    def _publish_each(self, items: list[Any]) -> None:
        publish = self._publish_one if self._sender is None else self._sender.send
        for item in items:
            self.taken += 1
            if isinstance(item, (tuple, list)):
                publish(item, {})
            elif isinstance(item, Signature):
                self._publish_signature(item)
            elif isinstance(item, Mapping):
                publish((), dict(item))
            else:
                raise InvalidOption(
                    f"it must be a tuple or list of arguments, a dict of keyword arguments or a "
                    f"signature, not {item!r:.100}"
                )

    def _publish_one(self, args: Any, kwargs: Any) -> None:
        self._task.apply_async(args, kwargs, **self._options, **self._producer)

    def _publish_signature(self, signature: Signature) -> None:
        own = signature.options
        options = {name: value for name, value in self._options.items() if name not in own}
        if not signature.subtask_type and "producer" not in own:
            options.update(self._producer)
        signature.apply_async(**options)

    @contextmanager
    def over(self, app: Any) -> Any:
        """In this block all are published over one connection to the app's broker."""
        if app.conf.task_always_eager:
            yield
            return
        given = self._options.pop("producer", None)
        with app.producer_or_acquire(given) as producer:
            if isinstance(producer.channel, Publisher):
                # One of somebody's own kind is taken as it is.
                chosen = Collector(producer) if type(producer) is Producer else producer
                self._producer = {"producer": chosen}
                self._sender = find_sender(self._task, chosen, self._options)
            elif given is not None:
                self._options["producer"] = given
            yield


def enqueue_many(
    task: Any,
    iterable: Iterable[Any],
    *,
    size: int = SIZE,
    on_batch: OnBatch | None = None,
    **options: Any,
) -> int:
    """Publish a task for each item; how many were published.

    An item is a tuple or list of arguments, a dict of keyword arguments, or a signature with
    options of its own. ``options`` are those of ``apply_async()``, for all of them. ``size`` items
    at a time are taken from the iterable and written together; ``on_batch`` is told how many.

    A unique job that another one stands for is not counted, and leaves no row: nobody has its id.
    For the same reason a task that runs has none of these among its children. Inside of
    :func:`using` all are part of the caller's transaction, and inside of :func:`bulk` of its block.

    Raises NotAllPublished, which says how many were published before, where the iterable or an item
    raises; the error is its cause.
    """
    check_size(size)
    # What the decorator gives is not the task yet.
    many = Many(maybe_evaluate(task), options)
    iterator = iter(iterable)
    try:
        with many.over(task.app):
            while items := list(islice(iterator, size)):
                count = many.publish(items)
                if on_batch is not None:
                    on_batch(count)
    except TransactionFailed:
        raise  # which has taken along all
    except Exception as error:
        raise NotAllPublished(
            f"item {many.taken} could not be published, {many.published} jobs were before: "
            f"{type(error).__name__}: {error}",
            many.published,
        ) from error
    return many.published

"""Publish a task for each of many items, of which only a few are in memory at a time.

    enqueue_many(welcome, ((user.id,) for user in users))

Each is published by the task's own ``apply_async()``, or as that would do it, so that all that
Celery, a base class or a library does for a task is done here as well. Works with the tasks of any
app; with another broker they are published one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager, nullcontext
from itertools import chain, islice
from typing import Any

from celery.canvas import Signature
from celery.local import Proxy
from kombu import Producer

from ..errors import InvalidOption, NotAllPublished, TransactionFailed
from .batch import SIZE, Batch, batches, check_size
from .fast_producer import Collector
from .fast_sender import Sender, find_sender

#: Told after each write how many jobs that were.
OnBatch = Callable[[int], None]


class Following(Batch):
    """A batch that is written after another one."""

    def __init__(self, size: int, wait: Callable[[], None]) -> None:
        super().__init__(size, is_promised=False)
        self._wait = wait

    def flush(self) -> None:
        self._wait()
        super().flush()


class Writing(threading.Thread):
    """Writes a batch: half of the time that it takes is waiting."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(name="pgjobs-bulk")
        self._batch = batch
        self._before = batch.written
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            Batch.flush(self._batch)
        except BaseException as error:
            self._error = error

    def wait(self) -> int:
        """How many jobs were written. Raises what writing them has raised."""
        if self.ident is not None:
            self.join()
        if self._error is not None:
            raise self._error
        return self._batch.written - self._before


class Many:
    """The items of one call, on their way."""

    def __init__(self, task: Any, on_batch: OnBatch | None, options: Mapping[str, Any]) -> None:
        for name in ("args", "kwargs", "task_id", "idempotency_key"):
            if name in options:
                raise InvalidOption(f"{name} is for one job, not for many: give it in an item")
        self._task = task
        self._on_batch = on_batch
        self._writing: Writing | None = None
        # A task that publishes a million has no children to remember.
        self._options = {"add_to_parent": False, **options}
        self._producer: dict[str, Any] = {}
        self._sender: Sender | None = None
        #: How many jobs were published, and are not collected any more.
        self.published = 0
        #: How many items were begun.
        self.taken = 0

    def publish(self, items: Iterable[Any], size: int) -> None:
        """Publish these; they are written together, and the next ones made meanwhile.

        Each as soon as it is taken: the iterable may be in another transaction with the next one.
        """
        if self._sender is not None:
            self._sender.begin()
        # Anew each time: it may be in another transaction, or savepoint, by now.
        batch = Following(size + 1, self.finish)
        outer = batches.find()
        if not self._producer or (outer is not None and outer.value.is_begun_with(batch)):
            self._publish_each(items)
            return
        scope = batches.enter(batch)
        try:
            batches.suspend(scope)  # it is not for the iterable's own code
            for item in items:
                batches.resume(scope)
                try:
                    self._publish(item)
                except Exception:
                    with self._sender.errors() if self._sender else nullcontext():
                        raise
                finally:
                    batches.suspend(scope)
        except BaseException:
            batch.discard()
            raise
        finally:
            batches.leave(scope)
            # Of one that has grown too large a part is written, or what a commit was to take along.
            if batch.written:
                self._count(batch.written)
        self.finish()
        self._writing = Writing(batch)
        if not batch.is_free:
            self._writing.run()
            self.finish()
        else:
            self._writing.start()

    def finish(self) -> None:
        """Wait until all that was given to be written is."""
        writing, self._writing = self._writing, None
        if writing is not None:
            self._count(writing.wait())

    def _count(self, count: int) -> None:
        self.published += count
        if self._on_batch is not None:
            self._on_batch(count)

    def _publish_each(self, items: Iterable[Any]) -> None:
        count = 0
        try:
            for item in items:
                self._publish(item)
                count += 1
        finally:
            if count:
                self._count(count)

    def _publish(self, item: Any) -> None:
        publish = self._publish_one if self._sender is None else self._sender.send
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
        if self._sender is not None and self._is_alike(signature):
            self._sender.send(signature.args, signature.kwargs)
            return
        options = {name: value for name, value in self._options.items() if name not in own}
        if not signature.subtask_type and "producer" not in own:
            options.update(self._producer)
        signature.apply_async(**options)

    def _is_alike(self, signature: Signature) -> bool:
        """True where it is of nothing but the task's arguments."""
        return (
            type(signature) is Signature
            and not signature.options
            and not signature.subtask_type
            and type(signature.args) is tuple
            and type(signature.kwargs) is dict
            and signature.type is self._task
            # An option of None counts in a call, and not for a signature.
            and None not in self._options.values()
        )

    @contextmanager
    def over(self, app: Any) -> Any:
        """In this block all are published over one connection to the app's broker."""
        if app.conf.task_always_eager:
            yield
            return
        given = self._options.pop("producer", None)
        with app.producer_or_acquire(given) as producer:
            if getattr(producer.channel, "collects_jobs", False):
                # An application's own kind of item is taken as it is.
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
    at a time are taken from the iterable and written together, while the next ones are taken;
    ``on_batch`` is told how many.

    A unique job that another one stands for is not counted, and leaves no row: nothing has its id.
    For the same reason a task that runs has none of these among its children. Inside of
    :func:`using` all are part of the caller's transaction, and inside of :func:`bulk` of its block.

    Raises NotAllPublished, which says how many were published before, where the iterable or an item
    raises; the error is its cause.
    """
    check_size(size)
    if isinstance(task, Proxy):  # what the decorators give
        task = task._get_current_object()
    many = Many(task, on_batch, options)
    iterator = iter(iterable)
    try:
        try:
            with many.over(task.app):
                for first in iterator:
                    many.publish(chain((first,), islice(iterator, size - 1)), size)
        finally:
            # Also where the iterable has raised: the caller must learn what was written before.
            many.finish()
    except TransactionFailed:
        raise  # which has taken along all
    except Exception as error:
        raise NotAllPublished(
            f"of the first {many.taken} items {many.published} jobs were published: "
            f"{type(error).__name__}: {error}",
            many.published,
        ) from error
    return many.published

"""Hooks on the objects that make up a Celery worker, all but those of its pool.

Each replaces an attribute of one instance, and calls the original. The hooks on the pool are in
``pool.py`` and ``pipes.py``, those of requests in ``request.py`` and ``losses.py``. All of them,
each with its reason and its test, are listed in ``docs/explanation/celery-internals.md``.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from celery import bootsteps

from ..broker.message import Message
from ..printable import guarded
from .guard import is_connection_lost, set_aside

logger = guarded(logging.getLogger(__name__))


def guard_messages(consumer: Any) -> None:
    """Have the consumer's handlers survive a bad message."""
    consumer.create_task_handler = GuardedHandler(consumer)


def guard_added_queues(consumer: Any) -> None:
    """Have the consumer survive a bad queue that remote control adds."""
    consumer.add_task_queue = AddTaskQueue(consumer)


def before_strategies(consumer: Any, track: Callable[[], None]) -> None:
    """Call ``track`` before the consumer makes the strategies of its tasks.

    Celery makes them with each connection; tests of an application, when they add tasks.
    """
    update_strategies = consumer.update_strategies

    def track_and_update() -> None:
        track()
        update_strategies()

    consumer.update_strategies = track_and_update


def around_soft_shutdown(
    consumer: Any,
    release: Callable[[Any], None],
    hear_during: Callable[[Callable[[], None]], None],
) -> None:
    """Call ``release`` before a soft shutdown, and let ``hear_during`` wait through its pause.

    Celery does not announce a cold shutdown, and sleeps through a soft one.
    """
    controller = consumer.controller
    pause = controller.wait_for_soft_shutdown

    def release_and_wait() -> None:
        if consumer.app.conf.worker_soft_shutdown_timeout:
            release(consumer)
        hear_during(pause)

    controller.wait_for_soft_shutdown = release_and_wait


def buffer_events(dispatcher: Any, limit: int) -> None:
    """Have the dispatcher keep up to ``limit`` events until it is flushed.

    Celery flushes in each turn of the event loop. Under load that is a few events, and each message
    costs as much as a task.
    """
    dispatcher.on_send_buffered = None
    dispatcher.buffer_limit = limit


class GuardedHandler:
    """Celery's ``create_task_handler`` of a consumer, whose handlers survive a bad message.

    Celery's handler of messages catches what it knows (a task that is not registered, a body that
    cannot be decoded); anything else ends the event loop, and with it the worker. The row would go
    back in line, and end the next one.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        # Celery's handler looks this up when it is made, kombu's consumer when it begins.
        consumer.on_invalid_task = self._on_invalid_task
        consumer.on_decode_error = self._on_decode_error

    def __call__(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """A handler of messages."""
        consumer = self._consumer
        handle = type(consumer).create_task_handler(consumer, *args, **kwargs)
        passed = consumer.connection_errors

        def on_message(message: Any) -> Any:
            try:
                return handle(message)
            except Exception as error:
                if not isinstance(message, Message) or is_connection_lost(error, passed):
                    raise
                set_aside(message, error)
            return None

        return on_message

    def _on_invalid_task(self, body: Any, message: Any, error: Exception) -> Any:
        if isinstance(message, Message) and message.failure is None:
            message.failure = error  # for the row
        return type(self._consumer).on_invalid_task(self._consumer, body, message, error)

    def _on_decode_error(self, message: Any, error: Exception) -> None:
        try:
            type(self._consumer).on_decode_error(self._consumer, message, error)
        except Exception as raised:
            if not isinstance(message, Message) or is_connection_lost(raised):
                raise
            set_aside(message, error)


class GuardGossip(bootsteps.Step):
    """Have a worker survive what it hears from others: Celery's handler takes it as it comes."""

    requires = ("celery.worker.consumer.gossip:Gossip",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        gossip = consumer.gossip

        def on_message(prepare: Any, message: Any) -> None:
            try:
                type(gossip).on_message(gossip, prepare, message)
            except Exception as error:
                if not isinstance(message, Message) or is_connection_lost(error):
                    raise
                drop(message, error)

        def drop(message: Any, error: Exception) -> None:
            logger.error("an event is dropped: %r", error, exc_info=error)

        def get_consumers(channel: Any) -> Any:
            consumers = type(gossip).get_consumers(gossip, channel)
            for each in consumers:
                each.on_decode_error = drop
            return consumers

        gossip.on_message, gossip.get_consumers = on_message, get_consumers


class AddTaskQueue:
    """Celery's ``add_task_queue``, by which remote control adds a queue, that survives a bad one.

    It runs in the event loop, where any error ends the worker.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    def __call__(self, queue: Any, *args: Any, **options: Any) -> None:
        """Consume from the queue; an error about it is logged."""
        consumer = self._consumer
        try:
            type(consumer).add_task_queue(consumer, queue, *args, **options)
        except consumer.connection_errors:
            raise
        except Exception as error:
            logger.error("cannot consume from queue %r: %r", queue, error)
            with contextlib.suppress(Exception):  # nor after the next connection
                consumer.app.amqp.queues.deselect(queue)

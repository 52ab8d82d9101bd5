"""Keep a worker from ending with a message: whatever a delivery raises is that message's end.

Celery's handler of messages catches what it knows (a task that is not registered, a body that
cannot be decoded); anything else ends the event loop, and with it the worker. The row would go back
in line, and end the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import bootsteps

from ..broker.message import Message
from ..db.database import CONNECTION_ERRORS, REFUSALS
from ..job.outcome import discarded, error_from
from ..printable import guarded

logger = guarded(logging.getLogger(__name__))


class GuardedHandler:
    """Celery's ``create_task_handler`` of a consumer, whose handlers survive a bad message."""

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


class GuardGossip(bootsteps.Step):  # type: ignore[misc]
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


def is_connection_lost(error: Exception, others: tuple[type[Exception], ...] = ()) -> bool:
    """True for an error that has nothing to do with the message: another worker may have it."""
    return isinstance(error, (*CONNECTION_ERRORS, *others)) and not isinstance(error, REFUSALS)


def set_aside(message: Message, error: BaseException) -> None:
    """Discard a message of ours, which cannot be dealt with, with the reason; any thread may."""
    claim = message.claim
    what = f"job {claim.id} of queue {claim.queue}" if claim else "a message"
    logger.error("%s is set aside: %r", what, error, exc_info=error)
    if claim is not None and not message.is_settled:
        message.is_settled = True
        outcome = discarded(claim.id, claim.attempt, error_from(error))
        # The process that runs the task may have written what became of it.
        outcome = outcome._replace(is_sole=False, awaited=str(message.headers.get("id")))
        message.channel.node.settle(outcome)
    # Not message.reject(): what Celery has said of it, or will, would be one word too many.
    message.channel.basic_reject(message.delivery_tag)


def withdraw(pool: Any, task_id: str) -> None:
    """Have a pool of processes forget a task that could not be sent: it would wait for it."""
    processes = getattr(pool, "_pool", None)
    for result in list(getattr(processes, "_cache", {}).values()):
        if result.correlation_id == task_id and not hasattr(result, "_payload"):
            result.discard()

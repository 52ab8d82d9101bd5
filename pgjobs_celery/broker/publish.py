"""Put messages where they belong: a Celery task becomes a job, everything else a message."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timezone, tzinfo
from typing import Any

from celery import current_app

from ..control.revokes import PIDBOX, revoke_jobs
from ..db.rows.messages import NewMessage, Routed
from ..db.rows.unique_jobs import Guard
from ..job.envelope import (
    encode_body,
    encode_envelope,
    is_durable,
    is_job,
    job_options,
    rank,
    time_to_live,
    to_job,
)
from ..job.idempotency import digest_arguments
from ..job.options import RELAXED
from ..printable import guarded
from ..publishing.admission import admit
from ..publishing.batch import Batch, batches, find_batch, take_part
from ..publishing.insertion import Insertion, insert
from ..publishing.laning import put_into_lane
from ..publishing.receipt import current_receipt
from ..publishing.repeated import shorten_plain_tasks
from ..publishing.run import find_origin
from .host import Host, HostedChannel
from .topology import NO_ROUTE, NOT_FOUND, refusal

logger = guarded(logging.getLogger(__name__))


class Publisher(HostedChannel):
    """The part of a channel that publishes. Thread-safe."""

    #: ``bulk()`` and ``enqueue_many()`` collect for it, and write in one statement.
    collects_jobs = True

    def __init__(self, transport: Host) -> None:
        super().__init__(transport)
        shorten_plain_tasks()

    def prepare_message(
        self,
        body: Any,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A message as :meth:`basic_publish` takes it."""
        properties = dict(properties or {})
        if priority is not None:
            properties["priority"] = priority
        return {
            "body": body,
            "content-type": content_type,
            "content-encoding": content_encoding,
            "headers": headers or {},
            "properties": properties,
        }

    def basic_publish(
        self,
        message: dict[str, Any] | str,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        **_: Any,
    ) -> None:
        """Put a message where it belongs; it is committed when this returns.

        A Celery task for one queue is a job. Everything else, and a copy for each of several
        queues, is a message. Raises MessageRefused for what cannot be stored, and ChannelError for
        what leads nowhere: a task for an exchange that is not there, and, where that is
        ``mandatory``, whatever no queue gets.
        """
        if isinstance(message, str):
            message = self.prepare_message(message)  # `celery amqp basic.publish`
        if mandatory:
            self._require_route(exchange, routing_key)
        if not is_job(message):
            self._publish_message(message, exchange, routing_key)
            return
        routes = self.database.routes
        queues = routes.route_message(exchange, routing_key) if exchange else [routing_key]
        if len(queues) == 1:
            self.put(self._to_insertion(message, queues[0], exchange, routing_key))
        else:
            self._fan_out(message, queues, exchange, routing_key)

    def _fan_out(
        self, message: dict[str, Any], queues: Sequence[str], exchange: str, routing_key: str
    ) -> None:
        """Give each queue a copy of a task, as a message; where none gets it, the log says so."""
        found = queues or self.database.routes.find_exchange(exchange)
        if not found:
            raise refusal(NOT_FOUND, f"no exchange {exchange!r} to publish to")
        if not queues and found != "fanout":
            logger.warning(
                "task %s[%s] reaches no queue: nothing is bound to exchange %r with key %r",
                message["headers"]["task"], message["headers"]["id"], exchange, routing_key,
            )  # fmt: skip
        new = self._new_message(message, exchange, routing_key)
        take_part(self.database, lambda: self.database.messages.insert_messages(new, queues))

    def _to_insertion(
        self, message: dict[str, Any], queue: str, exchange: str, routing_key: str
    ) -> Insertion:
        """A task for one queue as a job, with the run that publishes it."""
        origin = find_origin(message["headers"], self.database.key)
        options = job_options(message)
        job = to_job(
            message,
            queue,
            options,
            exchange=exchange,
            routing_key=routing_key,
            order=self.options.priority_order,
            max_body_size=self.options.max_body_size,
            timezone=_timezone,
        )
        unique = options.unique
        if origin.task_id == job.task_id:
            unique = None
            origin.note_retry(self.database)
            if job.eta is not None:
                # retry(countdown=...), which Celery has turned into a time by this machine's clock.
                job = job._replace(delay=(job.eta - datetime.now(timezone.utc)).total_seconds())
        job = put_into_lane(self.database, job, options, message)
        run = origin.run_of(job, self.database.key)
        relaxed = (
            job.queue in self.options.relaxed_queues
            if options.durability is None
            else options.durability == RELAXED
        )
        insertion = Insertion(job, run, receipt=current_receipt(), is_relaxed=relaxed)
        if unique is not None:
            guard = Guard(unique.key(job.queue), unique.rule.states, unique.rule.seconds)
            insertion = insertion._replace(guard=guard, rule=unique.rule)
        # A job that goes back in line, or takes over the row of its predecessor, was published.
        if options.idempotency is not None and run.holder is None and not run.is_holder_only:
            insertion = insertion._replace(
                idempotency=options.idempotency,
                arguments=digest_arguments(message["content-type"], job.body),
            )
        return insertion

    def create_publish_batch(self, max_size: int) -> PublishBatch:
        """The batch that kombu's ``Producer.batch()`` publishes through (kombu 5.7)."""
        return PublishBatch(self, max_size)

    def put(self, insertion: Insertion) -> None:
        """Insert a job, or have it collected."""
        batch = None if insertion.run.is_own else find_batch(self.database)
        if batch is None:
            if not self.database.is_in_transaction:  # as the bodies of chords are
                admit(self.database, [insertion])
            insert(self.database, insertion)
        else:
            batch.add(self.database, insertion)

    def _require_route(self, exchange: str, routing_key: str) -> None:
        routes = self.database.routes
        if not (
            routes.route_message(exchange, routing_key)
            if exchange
            else routes.find_queue(routing_key, self.node.id)
        ):
            raise refusal(
                NO_ROUTE, f"no queue gets what exchange {exchange!r} has for {routing_key!r}"
            )

    def _publish_message(self, message: dict[str, Any], exchange: str, routing_key: str) -> None:
        if exchange.endswith(PIDBOX) and revoke_jobs(self.database, message):
            # A worker that hears of it writes REVOKED by itself: not before it is true.
            told = self._new_message(message, exchange, routing_key)
            with self.database.joining():
                self.database.messages.publish_messages(told, exchange, routing_key)
            return
        is_event = exchange == self.node.event_exchange and not is_durable(message)
        if is_event and not self.node.services.post.is_heard(routing_key):
            return
        new = self._new_message(message, exchange, routing_key)
        if is_event:
            self.node.services.send(Routed(new, exchange, routing_key))
        elif exchange:
            self.database.messages.publish_messages(new, exchange, routing_key)
        else:
            self.database.messages.insert_messages(new, [routing_key])

    def _new_message(self, message: dict[str, Any], exchange: str, routing_key: str) -> NewMessage:
        return NewMessage(
            message=encode_envelope(message, exchange, routing_key),
            body=encode_body(message, self.options.max_body_size),
            durable=is_durable(message),
            priority=rank(message["properties"].get("priority"), self.options.priority_order),
            ttl=time_to_live(message),
        )


class PublishBatch:
    """The batch that kombu's ``Producer.batch()`` collects in."""

    def __init__(self, channel: Any, max_size: int) -> None:
        self.channel = channel
        self._batch = Batch(max_size)

    def publish(self, message: Any, **options: Any) -> None:
        """Collect a message, if it is a job's."""
        scope = batches.enter(self._batch)
        try:
            self.channel.basic_publish(message, **options)
        finally:
            batches.leave(scope)

    def flush(self) -> None:
        """Write what was collected, or leave it to a :func:`bulk` around it."""
        self._batch.hand_over()

    def discard(self) -> None:
        """Forget what was collected."""
        self._batch.discard()

    def close(self) -> None:
        """Nothing is held open."""


def _timezone() -> tzinfo:
    """The zone of an eta that names none: the app's."""
    zone: tzinfo = current_app.timezone
    return zone

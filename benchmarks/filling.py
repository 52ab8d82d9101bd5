"""Fill a queue with the messages that delay() sends, as quickly as the broker takes them.

A hundred are published by delay() itself. The others have the same headers, properties and body,
and do without Celery's making of each and kombu's readiness to publish it again.
"""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from kombu import Producer

from benchmarks.app import app, noop

#: How many are published by delay(), evenly spread, so that their results can be read.
SAMPLED = 100

#: How many go to a broker together, where it can take many.
BATCH = 1_000


def fill(count: int) -> dict[str, int]:
    """Publish tasks 0 to ``count``; the ids and indexes of those that were published by delay()."""
    step = max(1, count // SAMPLED)
    sampled = {noop.delay(index).id: index for index in range(0, count, step)}
    others = (index for index in range(count) if index % step)
    if app.conf.broker_url.startswith("pgjobs"):
        from pgjobs_celery import enqueue_many

        enqueue_many(noop, ((index,) for index in others))
    else:
        copy(others)
    return sampled


class Capture(Producer):  # type: ignore[misc]
    """Keeps what Celery asks kombu to publish, and sends nothing."""

    def publish(self, body: Any, **options: Any) -> None:
        self.options = options
        self.body = body


def copy(indexes: Iterator[int]) -> None:
    """Publish a captured message again and again, with an id and an argument of its own."""
    with app.producer_pool.acquire() as pooled:
        channel = pooled.channel
        capture = Capture(channel, auto_declare=False)
        noop.apply_async((0,), producer=capture)
        options, (_, kwargs, embedded) = capture.options, capture.body
        names = ("correlation_id", "reply_to", "delivery_mode")
        properties = {name: options[name] for name in names if options.get(name) is not None}
        for index, publish in published_by(channel, indexes):
            id = str(uuid4())
            headers = {**options["headers"], "id": id, "root_id": id, "argsrepr": f"({index},)"}
            body, content_type, encoding = capture._prepare(
                ([index], kwargs, embedded), "json", None, None, None, headers
            )
            message = channel.prepare_message(
                body, 0, content_type, encoding, headers, {**properties, "correlation_id": id}
            )
            publish(message, exchange="", routing_key=options["routing_key"])


def published_by(channel: Any, indexes: Iterator[int]) -> Iterator[tuple[int, Any]]:
    """Each index with what publishes its message: a batch of the channel's, where it has them."""
    if not getattr(channel, "supports_batch_publish", False):
        for index in indexes:
            yield index, channel.basic_publish
        return
    batch = channel.create_publish_batch(max_size=BATCH)
    for index in indexes:
        yield index, batch.publish
    batch.flush()
    batch.close()

"""Read published messages, and put their jobs into an inbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone, tzinfo
from typing import Any

from kombu.compression import decompress
from kombu.serialization import loads
from kombu.utils.functional import maybe_list

from ...job.envelope import encode_body, is_job, job_options, moment, read_command
from ...job.options import HEADER, JobOptions, check_meta
from ...job.states import State
from ...publishing.declared import declared_lane
from ...publishing.receipt import current_receipt
from . import escapes
from .batches import NO_DATABASE, find_batch
from .capture import Enqueued, Inbox


def receive_into(
    inbox: Inbox, zone: Callable[[], tzinfo], on_job: Callable[[Enqueued], None] | None = None
) -> Callable[..., None]:
    """The transport's callback for messages: it puts jobs into the inbox; revokes cancel them."""

    def receive(
        message: Mapping[str, Any], queues: list[str], exchange: str, routing_key: str
    ) -> None:
        if not is_job(message):
            cancel(inbox, message, exchange)
            return
        escapes.receive(message["headers"]["id"])
        job = read_job(message, queues[0] if queues else "", exchange, routing_key, zone)
        job = replace(job, queues=tuple(queues))
        receipt = current_receipt()

        def insert() -> None:
            taken = inbox.insert(job, receipt)
            if on_job is not None and taken is not None:
                on_job(taken)

        batch = find_batch()
        if batch is None:
            insert()
        else:
            batch.add(NO_DATABASE, insert)

    return receive


def cancel(inbox: Inbox, message: Mapping[str, Any], exchange: str) -> None:
    """Handle a non-job message: a revoke cancels waiting jobs, as it would their rows."""
    if exchange.endswith(".pidbox"):
        command = read_command(message)
        if command.get("method") in ("revoke", "terminate"):
            inbox.cancel(maybe_list((command.get("arguments") or {}).get("task_id")) or ())


def read_job(
    message: Mapping[str, Any],
    queue: str,
    exchange: str,
    routing_key: str,
    zone: Callable[[], tzinfo],
) -> Enqueued:
    """A message as a record, its arguments through the serializer that it was written with.

    Raises what that raises, and MessageRefused for options of a PgTask that cannot be used.
    """
    headers, properties = message["headers"], message["properties"]
    body = encode_body(message, _ANY_SIZE)
    args, kwargs, embed = decode(
        body, message["content-type"], message["content-encoding"], headers.get("compression")
    )
    options: JobOptions = job_options(message)
    header = headers.get(HEADER)
    published_at = datetime.now(timezone.utc)
    eta = moment(headers.get("eta"), zone)
    lane, cost = declared_lane(str(headers["task"]), options)
    return Enqueued(
        task_id=str(headers["id"]),
        task=str(headers["task"]),
        args=list(args),
        kwargs=dict(kwargs),
        queue=queue,
        priority=properties.get("priority") or 0,
        eta=eta,
        expires=moment(headers.get("expires"), zone),
        published_at=published_at,
        state=State.SCHEDULED if eta is not None and eta > published_at else State.AVAILABLE,
        root_id=headers.get("root_id"),
        parent_id=headers.get("parent_id"),
        group_id=headers.get("group"),
        retries=headers.get("retries") or 0,
        tags=options.tags,
        meta=check_meta((header or {}).get("meta") or {}),
        max_attempts=options.max_attempts,
        lane=lane,
        cost=cost,
        unique=options.unique.rule if options.unique else None,
        unique_key=options.unique.key(queue) if options.unique else None,
        idempotency_key=options.idempotency.key if options.idempotency else None,
        chain=tuple(reversed(embed.get("chain") or ())),
        chord=embed.get("chord"),
        callbacks=tuple(embed.get("callbacks") or ()),
        errbacks=tuple(embed.get("errbacks") or ()),
        exchange=exchange,
        routing_key=routing_key,
        headers=dict(headers),
        properties={name: properties[name] for name in properties if name != "delivery_info"},
        content_type=message["content-type"],
        content_encoding=message["content-encoding"],
        body=body,
    )


#: A record has no limit.
_ANY_SIZE = 2**62


def decode(
    body: bytes, content_type: str | None, encoding: str | None, compression: str | None
) -> tuple[Any, Any, dict[str, Any]]:
    """Arguments, and what follows, from a message's body; this process has just written it."""
    if compression:
        body = decompress(body, compression)
    args, kwargs, embed = loads(body, content_type, encoding, force=True)
    return args, kwargs, embed or {}

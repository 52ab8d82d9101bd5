"""A kombu message as a row, and back: what is read is what was published.

The envelope (content type and encoding, headers, properties) is JSON text, the body its bytes.
jsonb would refuse NUL and NaN, and a body may be in any serializer, compressed or signed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any, NamedTuple

from kombu.serialization import loads
from kombu.utils import json as kombu_json

from ..errors import BodyTooLarge, InvalidOption, MessageRefused, UndecodableRow
from .checks import LARGEST_INTEGER
from .options import HEADER, NAMES, JobOptions, read_options
from .properties import kept_properties
from .rows import HIGHEST_RANK, LOWEST_RANK, NewJob
from .usual import MARK, leave_out, restore

#: kombu's delivery mode for messages that need not survive a server crash.
TRANSIENT = 1

#: The longest name or id, in bytes: it goes into an index (2,704 bytes) and a notification (7,999).
LONGEST_NAME = 1000

#: The place in a group of a task without a place.
LAST_INDEX = LARGEST_INTEGER

#: Markers that only kombu's JSON decoder understands.
_KOMBU_TYPE = '"__type__"'


class Envelope(NamedTuple):
    """A message without its body."""

    content_type: str | None
    content_encoding: str | None
    headers: dict[str, Any]
    properties: dict[str, Any]
    exchange: str
    routing_key: str


def is_job(message: Mapping[str, Any]) -> bool:
    """True for a Celery task (message protocol 2): it becomes a row of ``jobs``."""
    headers = message["headers"]
    return bool(headers and headers.get("task") and headers.get("id"))


def is_durable(message: Mapping[str, Any]) -> bool:
    """False where the publisher declared ``transient``: remote control, replies, events."""
    return bool(message["properties"].get("delivery_mode") != TRANSIENT)


def time_to_live(message: Mapping[str, Any]) -> float | None:
    """Seconds the message is worth delivering, from its ``expiration`` (milliseconds, AMQP)."""
    expiration = message["properties"].get("expiration")
    try:
        return None if expiration is None else int(expiration) / 1000
    except (TypeError, ValueError, OverflowError):
        raise MessageRefused(f"expiration must be milliseconds, not {expiration!r}") from None


def rank(priority: Any, order: str) -> int:
    """The place of a priority in line: 0 runs first.

    ``order`` is ``"asc"`` (priority 0 first, as on Redis) or ``"desc"`` (the highest first, as on
    RabbitMQ, whose priorities are one byte).
    """
    try:
        value = min(max(int(priority or 0), LOWEST_RANK), HIGHEST_RANK)
    except (TypeError, ValueError, OverflowError):
        value = 0
    return HIGHEST_RANK - value if order == "desc" else value


def encode_envelope(message: Mapping[str, Any], exchange: str, routing_key: str) -> str:
    """The envelope as JSON text. Raises MessageRefused for a header that JSON cannot hold."""
    envelope = {
        "content-type": message["content-type"],
        "content-encoding": message["content-encoding"],
        "headers": message["headers"] or {},
        "properties": kept_properties(message["properties"]),
    }
    envelope = leave_out(envelope) or envelope
    if exchange:
        envelope["exchange"] = exchange
        envelope["routing-key"] = routing_key
    try:
        return json.dumps(envelope, separators=(",", ":"))
    except (TypeError, ValueError):
        pass
    try:
        return str(kombu_json.dumps(envelope))  # datetime, UUID, Decimal, ...
    except (TypeError, ValueError) as error:
        raise MessageRefused(
            f"a header or property of this message cannot be written as JSON: {error}"
        ) from error


def rename(envelope: str, task_id: str, new_id: str) -> str:
    """The envelope of one job as that of another."""
    loads = kombu_json.loads if _KOMBU_TYPE in envelope else json.loads
    fields = loads(envelope)
    for part, name in (
        ("headers", "id"),
        ("headers", "root_id"),
        ("properties", "correlation_id"),
    ):
        if fields[part].get(name) == task_id:
            fields[part][name] = new_id
    return str(kombu_json.dumps(fields))


def decode_envelope(text: str, queue: str) -> Envelope:
    """The envelope of a row. Raises UndecodableRow."""
    try:
        loads = kombu_json.loads if _KOMBU_TYPE in text else json.loads
        read = loads(text)
        if read.get(MARK) == 1:
            read = restore(read)
        content_type, encoding = read["content-type"], read["content-encoding"]
        headers, properties = read["headers"], read["properties"]
        exchange, routing_key = read.get("exchange", ""), read.get("routing-key", queue)
    except Exception as error:  # kombu may fail on the value behind a marker; too deep a nesting
        raise UndecodableRow(f"its message is not what was published: {error!r}") from error
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        raise UndecodableRow("its message is not what was published: no headers or properties")
    _check_text("content type", content_type)
    _check_text("content encoding", encoding)
    if not isinstance(exchange, str) or not isinstance(routing_key, str):
        raise UndecodableRow("its message is not what was published: exchange or routing key")
    return Envelope(content_type, encoding, headers, properties, exchange, routing_key)


def _check_text(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise UndecodableRow(f"its message is not what was published: {name} {value!r:.100}")


def encode_body(message: Mapping[str, Any], max_size: int) -> bytes:
    """The body's bytes. Raises BodyTooLarge."""
    body = message["body"]
    if isinstance(body, str):
        encoding = message["content-encoding"]
        named = (
            encoding if encoding and encoding.lower() not in ("binary", "ascii-8bit") else "utf-8"
        )
        try:
            encoded = body.encode(named, "surrogatepass")
        except (LookupError, UnicodeEncodeError) as error:
            raise MessageRefused(f"the body cannot be encoded as {named!r}: {error}") from error
    else:
        encoded = bytes(body or b"")
    if len(encoded) > max_size:
        raise BodyTooLarge(
            f"the body of this message has {len(encoded):,} bytes, more than max_body_size "
            f"({max_size:,}): pass a reference to the data, or raise "
            'broker_transport_options["max_body_size"]'
        )
    return encoded


def to_job(
    message: Mapping[str, Any],
    queue: str,
    options: JobOptions,
    *,
    exchange: str,
    routing_key: str,
    order: str,
    max_body_size: int,
    timezone: Callable[[], tzinfo],
) -> NewJob:
    """The row of a task message. ``timezone()`` is for an eta that has none of its own."""
    headers = message["headers"]
    return NewJob(
        task_id=text(headers["id"]),
        task=text(headers["task"]),
        queue=text(queue),
        root_id=_text_or_none(headers.get("root_id")),
        parent_id=_text_or_none(headers.get("parent_id")),
        group_id=_text_or_none(headers.get("group")),
        expires_at=moment(headers.get("expires"), timezone),
        message=encode_envelope(message, exchange, routing_key),
        body=encode_body(message, max_body_size),
        priority=rank(message["properties"].get("priority"), order),
        eta=moment(headers.get("eta"), timezone),
        ttl=time_to_live(message),
        max_attempts=options.max_attempts,
        tags=options.tags,
        meta=options.meta,
        group_index=group_index(headers.get("group"), headers.get("group_index")),
    )


def group_index(group_id: Any, index: Any) -> int | None:
    """The place of a task in its group; None if it is not in a group.

    Celery numbers the tasks of a group; a task added later comes after all of them.
    """
    if not group_id:
        return None
    return index if isinstance(index, int) else LAST_INDEX


def job_options(message: Mapping[str, Any]) -> JobOptions:
    """The job's options that Celery does not know. Raises MessageRefused.

    ``send_task(name, tags=...)`` bypasses the task class: then they are among the properties.
    """
    header, properties = message["headers"].get(HEADER), message["properties"]
    try:
        given = {name: properties[name] for name in NAMES if name in properties}
        if given and (header is None or isinstance(header, Mapping)):
            header = {**(header or {}), **given}
        return read_options(header)
    except InvalidOption as error:
        raise MessageRefused(str(error)) from None


def read_command(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The remote control command in a message; empty if unreadable: the workers will report it."""
    try:
        # This process has just written it.
        command = loads(
            message["body"], message["content-type"], message["content-encoding"], force=True
        )
    except Exception:  # whatever its serializer raises
        return {}
    return command if isinstance(command, Mapping) else {}


def moment(value: Any, timezone: Callable[[], tzinfo]) -> datetime | None:
    """An eta or expiry from a header; None where it is missing or cannot be read.

    Celery's worker refuses a task with an unreadable one, and logs why.
    """
    if value is None:
        return None
    if not isinstance(value, datetime):
        try:
            value = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        except ValueError:
            return None
    at: datetime = value if value.tzinfo else value.replace(tzinfo=timezone())
    return at


def text(value: Any) -> str:
    """A name or id as PostgreSQL can store it. Raises MessageRefused where it cannot."""
    name = str(value)
    if "\x00" in name:
        raise MessageRefused(f"a NUL character cannot stand in a name or id: {name!r}")
    try:
        length = len(name if name.isascii() else name.encode())
    except UnicodeEncodeError:
        raise MessageRefused(f"a name or id must be valid Unicode: {name!r}") from None
    if length > LONGEST_NAME:
        raise MessageRefused(
            f"a name or id may have {LONGEST_NAME:,} bytes, not {length:,}: {name[:40]!r}..."
        )
    return name


def _text_or_none(value: Any) -> str | None:
    return None if value is None else text(value)

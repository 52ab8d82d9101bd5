"""Values of steps and payloads of signals, in the serializer of results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kombu.serialization import dumps, loads, prepare_accept_content


def encode_value(value: Any, serializer: str) -> tuple[bytes, str]:
    """The value as bytes, and their content type; raises kombu's EncodeError."""
    content_type, _, payload = dumps(value, serializer=serializer)
    return payload.encode() if isinstance(payload, str) else bytes(payload), content_type


def decode_value(payload: bytes, content_type: str | None, accept: Iterable[str] | None) -> Any:
    """The value again; raises kombu's errors for one that cannot be, or must not be, read."""
    allowed = None if accept is None else prepare_accept_content(accept)
    return loads(bytes(payload), content_type, "utf-8", accept=allowed)


def serializer_of(conf: Any) -> str:
    """The serializer of an app's results."""
    return conf.result_serializer or "json"


def accepted_by(conf: Any) -> Iterable[str] | None:
    """The content types that an app reads as results."""
    own: Iterable[str] | None = conf.result_accept_content
    every: Iterable[str] | None = conf.accept_content
    return every if own is None else own

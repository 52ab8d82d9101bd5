"""The properties of a message: those that AMQP has, and any that a publisher added.

``apply_async(my_user_id="42")`` makes a property of what Celery does not know, and the worker finds
it in ``request.properties``: so it is on Redis, and software relies on it. AMQP drops it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from kombu.utils import json as kombu_json

from ..printable import guarded
from .options import NAMES

#: The properties that AMQP 0-9-1 has.
PROPERTIES = frozenset({
    "delivery_mode", "priority", "correlation_id", "reply_to", "expiration", "message_id",
    "timestamp", "type", "user_id", "app_id", "cluster_id",
})  # fmt: skip

#: In these, kombu's virtual transports record how they have delivered a message, and we its claim:
#: they do not belong to a message that is published anew.
BOOKKEEPING = frozenset({"body_encoding", "delivery_info", "delivery_tag", "pgjobs_claim"})

logger = guarded(logging.getLogger(__name__))


def kept_properties(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """The properties without those that AMQP does not know and JSON cannot hold.

    These are named in a warning, once for each name: a property that is left out must not keep the
    message from being published, where Celery itself passes such values along.
    """
    if properties.keys() <= PROPERTIES:
        return properties
    return {
        name: value
        for name, value in properties.items()
        if name in PROPERTIES or _can_be_kept(name, value)
    }


def _can_be_kept(name: str, value: Any) -> bool:
    if name in BOOKKEEPING:
        return False
    try:
        # kombu's decoder refuses values that merely look like one of its own types.
        kombu_json.loads(kombu_json.dumps({name: value}))
    except Exception as error:  # an object may raise anything when it is asked for its JSON
        if name not in NAMES:  # options of ours, which stand in columns of their own
            _warn_left_out(name, type(value).__name__, str(error))
        return False
    return True


@cache
def _warn_left_out(name: str, kind: str, reason: str) -> None:
    logger.warning(
        "the message property %r, a %s, is left out, because JSON cannot hold it (%s): pass a "
        "value that JSON can hold, or make it an argument of the task",
        name, kind, reason,
    )  # fmt: skip

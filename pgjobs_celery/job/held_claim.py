"""The claim that a running task stands on, as the task's request carries it."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from .rows import Claim, Fence

#: The message property that tells the process that runs the task which claim it stands on.
CLAIM = "pgjobs_claim"


class HeldClaim(NamedTuple):
    """The claim that a running task stands on, as its request has it."""

    fence: Fence
    #: The key of the database that the row is in.
    key: str
    max_attempts: int
    #: The queue that it was claimed from, where the routing key does not say so.
    queue: str = ""


def carried_claim(node: str, key: str, claim: Claim, routing_key: str) -> tuple[Any, ...]:
    """A claim as the property CLAIM has it. ``node``: in hexadecimal digits."""
    carried = (node, claim.attempt, key, claim.max_attempts)
    return carried if claim.queue == routing_key else (*carried, claim.queue)


def held_claim(request: Any) -> HeldClaim | None:
    """The claim that a task's request stands on; None if it came another way."""
    claim = (getattr(request, "properties", None) or {}).get(CLAIM)
    if not claim:
        return None
    node, attempt, key, max_attempts, *queue = claim
    return HeldClaim(Fence(UUID(node), attempt), key, max_attempts, *queue)

"""Let the tasks by which a task has replaced itself stand for it, wherever they are published.

Celery publishes the first of them, and then says that the task is replaced. The last one has the
task's own id, and is published by the process that ends the one before: another one perhaps, and
before the replacement is announced. Then the row still belongs to a run, whose claim is therefore
written into a header of the last one: from that run, and from no other, it takes the row.

The others have it as well. A task that a run publishes with its own claim replaces the run, and is
no part of its work for others: the exception by which Celery ends it would take that back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from celery import current_task
from celery.app.task import Context

from ..job.held_claim import held_claim
from ..job.rows import Fence

#: The message header; gone when the task is in its row.
HEADER = "pgjobs_succeeds"

#: By this name :func:`mark_steps` is connected to its signal.
MARKING = "pgjobs-succession"

#: The keys under which a signature keeps the signatures that it consists of.
_PARTS = ("tasks", "header", "body")


def mark_steps(body: Any = None, headers: dict[str, Any] | None = None, **_: Any) -> None:
    """A task is being published (``before_task_publish``): mark it, and what comes after it."""
    request = current_task.request if current_task else None
    if request and headers is not None and isinstance(body, tuple) and body[2]:
        claim = _mark(request, (body[2].get("chain"), body[2].get("chord")))
        if claim:
            headers[HEADER] = claim


def mark_body(request: Context | None, body: Any) -> bool:
    """A chord is being published; True if it replaces the task that publishes it."""
    return bool(request and _mark(request, body))


def take_mark(headers: dict[str, Any], key: str) -> Fence | None:
    """The claim of the run that a task replaces, in the database with this key."""
    claim = headers.pop(HEADER, None)
    if not claim or claim[2] != key:
        return None
    return Fence(UUID(claim[0]), claim[1])


def _mark(request: Context, signature: Any) -> list[Any] | None:
    held = held_claim(request)
    if held is None:
        return None
    claim = [held.fence.node.hex, held.fence.attempt, held.key]
    return claim if _walk(signature, request.id, claim) else None


def _walk(signature: Any, task_id: str, claim: list[Any]) -> bool:
    """Mark each signature of this id; True if there is one."""
    if isinstance(signature, (list, tuple)):
        found = [_walk(each, task_id, claim) for each in signature]  # all must be marked
        return any(found)
    if not isinstance(signature, Mapping) or "options" not in signature:
        return False
    options, parts = signature["options"], signature["kwargs"]
    within = [options.get("chain"), options.get("chord")]
    if signature.get("subtask_type"):
        within += [parts.get(name) for name in _PARTS]
    is_found = options.get("task_id") == task_id
    if is_found:
        options["headers"] = {**(options.get("headers") or {}), HEADER: claim}
    return _walk(within, task_id, claim) or is_found

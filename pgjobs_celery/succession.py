"""Let the last task of those by which a task has replaced itself take over its id, and its row.

Celery publishes the first of them, then says that the task is replaced. The last, which has the
task's own id, is published by whoever ends the one before: in another process perhaps, and before
that is said. Then the row still belongs to a run, whose claim is therefore written into a header of
the last one: from that run, and from no other, it takes the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from celery import current_task
from celery.app.task import Context

from .delivery import held_claim
from .job import Fence

#: The message header; gone when the task is in its row.
HEADER = "pgjobs_succeeds"

#: What the signatures that consist of others keep them under.
_PARTS = ("tasks", "header", "body")


def mark_steps(body: Any = None, **_: Any) -> None:
    """A task is being published (``before_task_publish``): mark what is to come after it."""
    request = current_task and current_task.request
    if request and isinstance(body, tuple) and body[2]:
        _mark(request, (body[2].get("chain"), body[2].get("chord")))


def mark_body(request: Context | None, body: Any) -> None:
    """A chord is being published: mark what is, or is in, its body."""
    if request:
        _mark(request, body)


def take_mark(headers: dict[str, Any], key: str) -> Fence | None:
    """The claim from which a task takes over its row, in the database with this key."""
    claim = headers.pop(HEADER, None)
    if not claim or claim[2] != key:
        return None
    return Fence(UUID(claim[0]), claim[1])


def _mark(request: Context, signature: Any) -> None:
    held = held_claim(request)
    if held is not None:
        claim = [held.fence.node.hex, held.fence.attempt, held.key]
        _walk(signature, request.id, claim)


def _walk(signature: Any, task_id: str, claim: list[Any]) -> None:
    if isinstance(signature, (list, tuple)):
        for each in signature:
            _walk(each, task_id, claim)
    elif isinstance(signature, Mapping) and "options" in signature:
        options, kwargs = signature["options"], signature["kwargs"]
        if options.get("task_id") == task_id:
            options["headers"] = {**(options.get("headers") or {}), HEADER: claim}
        if signature.get("subtask_type"):
            for part in _PARTS:
                _walk(kwargs.get(part), task_id, claim)
        _walk(options.get("chain"), task_id, claim)

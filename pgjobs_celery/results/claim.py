"""The claim that a write of a result depends on, and the report of one that is lost."""

from __future__ import annotations

from typing import Any

from celery.utils.log import get_logger

from ..db.database import Database
from ..job.held_claim import held_claim
from ..job.rows import Fence
from ..node.nodes import get_node
from ..printable import guarded
from .handover import lose_claim

logger = guarded(get_logger(__name__))


def fence_of(database: Database, request: Any, task_id: str) -> Fence | None:
    """The claim that the task runs on; None if it came another way, or speaks for another task."""
    held = held_claim(request)
    if held is None or held.key != database.key or request.id != task_id:
        return None
    return held.fence


def report_lost(database: Database, task_id: str, fence: Fence, state: str) -> None:
    if lose_claim(task_id):
        return
    get_node(database).count_lost()
    logger.warning(
        "task %s: attempt %s has ended or is not ours any more; %s was not written",
        task_id, fence.attempt, state,
    )  # fmt: skip

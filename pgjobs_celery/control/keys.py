"""Whether the jobs of a queue have keys at all: only then is there one to pause."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import TYPE_CHECKING, Any

from celery import Celery

from ..config import read_flow_settings
from ..errors import InvalidOption
from ..job.flow import QUEUE, RATE, RUNNING, FlowRow, flow_name
from ..job.flow_options import TaskFlow

if TYPE_CHECKING:
    from ..db.database import Database


def check_keys(database: Database, app: Any, queue: str) -> None:
    """Raise InvalidOption where no job of a queue has a key, with what gives it one.

    The rules in the database tell, or those of ``app``, if given, that no worker has registered
    yet. A task's rule counts for every queue: by itself it does not say where its jobs go.
    """
    flows = [flow_name(kind, QUEUE, queue) for kind in (RATE, RUNNING)]
    if database.rules.has_keys(queue, flows) or (
        isinstance(app, Celery) and declares_keys(app, queue)
    ):
        return
    raise InvalidOption(
        f"queue {queue!r} has no keys, so nothing would be paused: it is not fair, and no rate or"
        f" limit counts by an argument. Run celery -A proj pgjobs queues fair {quote(queue)}"
        " kwargs.tenant_id (with the argument that is the key), then pause; or pause a task, a tag"
        " or the whole queue"
    )


def declares_keys(app: Any, queue: str) -> bool:
    """True if the code of an app gives jobs of this queue a key."""
    rules = read_flow_settings(app.conf).queue_rules.get(queue)
    if rules is not None and rules.fair is not None:
        return True
    rows = [] if rules is None else rules.rows(queue)
    return any(row.by is not None for row in (*rows, *_rows_of_tasks(app)))


def _rows_of_tasks(app: Any) -> Iterator[FlowRow]:
    for task in app.tasks.values():
        flow = getattr(task, "_flow", None)
        if isinstance(flow, TaskFlow):
            yield from flow.rows()

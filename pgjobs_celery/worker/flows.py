"""Register the rules that a worker's code declares, where all workers and publishers read them."""

from __future__ import annotations

import logging
from typing import Any

from ..config import Settings
from ..db.database import CONNECTION_ERRORS, REFUSALS, Database
from ..errors import PgJobsError
from ..job.flow import QUEUE, RATE, RUNNING, TASK, FlowRow, flow_name
from ..job.flow_options import TaskFlow
from ..printable import guarded

logger = guarded(logging.getLogger(__name__))


def register_flows(app: Any, database: Database, settings: Settings) -> None:
    """Have the rules of this app's tasks and queues hold, and no others of theirs.

    A rule that was set by hand stays. A worker whose role may not write rules runs by those that
    others have registered.
    """
    rows, known = declared(app, settings)
    retired = known - {row.flow for row in rows}
    try:
        database.flow.register_flows(rows, sorted(retired), settings.queue_rules)
    except (*CONNECTION_ERRORS, *REFUSALS, PgJobsError) as error:
        logger.warning("the rates and limits of this worker's code are not registered: %s", error)


def declared(app: Any, settings: Settings) -> tuple[list[FlowRow], set[str]]:
    """The rules of an app, and the names of all that its tasks and queues might have."""
    rows: list[FlowRow] = []
    known: set[str] = set()
    for name, task in app.tasks.items():
        flow = getattr(task, "_flow", None)
        if isinstance(flow, TaskFlow):
            rows += flow.rows()
            known |= {flow_name(kind, TASK, name) for kind in (RATE, RUNNING)}
    for name, rules in settings.queue_rules.items():
        rows += rules.rows(name)
        known |= {flow_name(kind, QUEUE, name) for kind in (RATE, RUNNING)}
    return rows, known

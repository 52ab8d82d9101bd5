"""``audit(app)``: each action is recorded once, under the right name, with what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from pgjobs_celery import audit, jobs
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.audit import AuditEntry
from tests.support.rows import put


@pytest.fixture
def app(make_app: Callable[..., Celery], database: Database) -> Celery:
    return make_app(pgjobs_actor="the app")


def entries(app: Any) -> list[AuditEntry]:
    return audit(app).list(None)


def only(app: Any) -> AuditEntry:
    [entry] = entries(app)
    return entry


#: Each action by the name in the audit; the calls before it need not be recorded.
ACTIONS: dict[str, Callable[[Celery], object]] = {
    "cancel_jobs": lambda app: jobs(app).filter(id="waits").cancel("a mistake"),
    "retry_jobs": lambda app: jobs(app).filter(id="late").retry(),
    "delete_jobs": lambda app: jobs(app).filter(id="waits").delete(),
    "reschedule_jobs": lambda app: jobs(app).filter(id="waits").reschedule(countdown=9),
    "prioritize_jobs": lambda app: jobs(app).filter(id="waits").set_priority(7),
    "move_jobs": lambda app: jobs(app).filter(id="waits").move("slow"),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_on_a_job_is_recorded_once(app, database, action):
    put(database, "waits", "other")
    put(database, "late", eta=60)
    assert ACTIONS[action](app)
    entry = only(app)
    assert (entry.action, entry.actor, entry.via) == (action, "the app", "program")
    assert (entry.jobs, entry.queue) == (1, None if action == "move_jobs" else "celery")
    assert entry.task_ids in (["waits"], ["late"])

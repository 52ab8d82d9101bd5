"""A queue that is full says so, with its numbers, the cause and a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from celery import Celery

from pgjobs_celery import queues
from pgjobs_celery.control.explain_queue import QUEUE_KINDS, QueueExplanation
from pgjobs_celery.db.database import Database
from pgjobs_celery.job.flow import FlowRow
from pgjobs_celery.job.rows import Bucket
from tests.support.lanes import look, put_laned, rule
from tests.support.rows import put

NODE = UUID(int=1)


@pytest.fixture
def why(make_app: Callable[..., Celery]) -> Callable[[], QueueExplanation]:
    """Asks of the queue mail."""
    queue = queues(make_app())["mail"]

    def why() -> QueueExplanation:
        found = queue.explain()
        assert found.kind in QUEUE_KINDS
        return found

    return why


def test_of_a_queue_that_has_room(why: Any, database: Database):
    assert (why().kind, why().remedy, why().depth) == ("unbounded", None, None)
    queues_of(database).max_depth(3)
    put(database, "a", queue="mail")
    found = why()
    assert (found.kind, found.depth, found.max_depth, found.remedy) == ("has_room", 1, 3, None)
    assert found.text == (
        "Queue mail has room for 2 more: 1 of its jobs waits, and its max_depth is 3."
    )


def queues_of(database: Database) -> Any:
    from pgjobs_celery.control.queues import Queues

    return Queues(database)["mail"]


@pytest.mark.parametrize(
    ("choice", "wait", "part"),
    [
        ("raise", None, "gets QueueFull."),
        ("wait", 90, "waits for up to 90 s, and gets QueueFull then."),
        ("wait", None, "waits for up to 5 s"),
        ("drop_oldest", None, "has the job cancelled that waits longest."),
    ],
)
def test_of_a_full_one_it_says_what_a_publisher_meets(
    why: Any, database: Database, choice: str, wait: float | None, part: str
):
    queues_of(database).max_depth(2, choice, wait)
    put(database, "a", "b", "c", "d", queue="mail")
    found = why()
    assert (found.kind, found.depth) == ("full", 3)
    assert f"A publisher of one more {part}" in found.text
    assert "more than 2 of its jobs wait, and its max_depth is 2" in found.text


def test_of_a_full_one_it_names_the_cause_and_a_command(why: Any, database: Database):
    queue = queues_of(database)
    queue.max_depth(2)
    put(database, "a", "b", "c", queue="mail")
    assert "No live worker consumes it" in why().text
    assert why().remedy == "celery -A proj worker --queues mail"
    database.nodes.beat_node(NODE, "w@web", ["mail"], 3600.0)
    assert "1 live worker consumes it; 0 of its jobs run" in why().text
    assert why().remedy == "celery -A proj pgjobs queues depth mail 4"
    database.claims.claim_jobs(NODE, "w@web", [Bucket("mail")], 1)
    put(database, "d", queue="mail")
    queue.concurrency(1)
    assert "as many of its jobs run as its limit allows, 1" in why().text
    assert why().remedy == "celery -A proj pgjobs limit mail 2"
    queue.pause()
    assert "It is paused" in why().text
    assert why().remedy == "celery -A proj pgjobs resume mail"


def test_of_jobs_that_wait_for_a_rate_it_names_the_rate(why: Any, database: Database):
    rule(database, FlowRow("rate/queue/mail", 1, 3600.0))
    queues_of(database).max_depth(1)
    database.nodes.beat_node(NODE, "w@web", ["mail"], 3600.0)
    put_laned(database, "rate/queue/mail", "a", "b", "c", queue="mail")
    claims, _ = look(database, queue="mail", node=NODE)
    assert len(claims) == 1
    found = why()
    assert "2 of its jobs wait in lanes of rate/queue/mail: raise that rate" in found.text
    assert found.remedy == "celery -A proj pgjobs flows show rate/queue/mail"

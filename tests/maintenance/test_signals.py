"""What maintenance has done it says by signals."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from celery.utils.dispatch import Signal

from pgjobs_celery import signals
from pgjobs_celery.config import Settings
from pgjobs_celery.job.rows import Bucket
from pgjobs_celery.maintenance.prune import Prune
from pgjobs_celery.maintenance.rescue import Rescue
from tests.support.rows import alive, put


def heard(signal: Signal, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is sent from now on."""
    events: list[dict[str, Any]] = []

    def note(**named: Any) -> None:
        events.append({name: named[name] for name in signal.providing_args})

    signal.connect(note, weak=False)
    return events


@pytest.fixture(autouse=True)
def _leave_nobody_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in signals.__all__:
        monkeypatch.setattr(getattr(signals, name), "receivers", [])


def test_a_rescue_says_whom_it_found_dead_and_what_became_of_the_jobs(
    database, connection, monkeypatch
):
    events = heard(signals.jobs_rescued, monkeypatch)
    node = UUID(int=7)
    alive(database, node)
    put(database, "a", "b")
    database.claims.claim_jobs(node, "n", [Bucket("celery")], 10)
    rescue = Rescue()
    rescue.tell()
    rescue.run(database)
    assert events == []
    connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = '-infinity'")
    connection.execute("UPDATE pgjobs.jobs SET acks_late = false WHERE task_id = 'b'")
    rescue.tell()
    rescue.run(database)
    assert events == [{"nodes": ["node7"], "returned": 1, "discarded": 1}]


def test_pruning_says_how_many(database, connection, monkeypatch):
    events = heard(signals.jobs_pruned, monkeypatch)
    put(database, "a", "b", "c")
    prune = Prune(Settings())
    prune.run(database)
    assert events == []
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'completed', finished_at = '-infinity' WHERE task_id <> 'c'"
    )
    prune.run(database)
    assert events == [{"count": 2}]


def test_a_receiver_that_raises_stops_nothing(database, connection):
    def fail(**_: Any) -> None:
        raise ValueError("x")

    signals.jobs_pruned.connect(fail, weak=False)
    put(database, "a")
    connection.execute("UPDATE pgjobs.jobs SET state = 'completed', finished_at = '-infinity'")
    assert Prune(Settings()).run(database) == {"pruned": 1}

"""The steps of docs/how-to/migrate-from-redis.md: nothing that was published on Redis is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery, chain, chord
from kombu import pools

from ..support.waiting import wait_for
from .conftest import StartWorker
from .rows import Rows

pytestmark = pytest.mark.peer

Publish = Callable[[Celery], list[tuple[Any, Any]]]


@pytest.fixture
def queue() -> str:
    """A queue that no other test uses, on Redis as in the rows."""
    return f"moving-{uuid4().hex[:8]}"


@pytest.fixture
def producer(queue: str) -> Iterator[Callable[[str], Celery]]:
    """A factory of web processes' apps: broker and backend are the same server."""
    apps: list[Celery] = []

    def make(url: str) -> Celery:
        app = Celery("producer", broker=url, backend=url, set_as_current=False)
        app.conf.update(task_default_queue=queue, result_expires=60)
        apps.append(app)
        return app

    yield make
    pools.reset()
    for app in apps:
        app.backend.client.close() if hasattr(app.backend, "client") else app.backend.close()


def publish_all(app: Celery) -> list[tuple[Any, Any]]:
    """A bit of all that may be on its way: each result, and what has to come of it."""

    def task(name: str, *args: Any, **options: Any) -> Any:
        return app.signature(f"tests.e2e.tasks.{name}", args, options=options)

    header = [task("add", 1, 1), task("retry", 2, 0.2), task("add", 2, 2, countdown=2)]
    unchained = task("retry", 1, 0.2)
    unchained.immutable = True  # it takes no result of the step before
    soon = datetime.now(timezone.utc) + timedelta(seconds=2)
    return [
        (chord(header)(task("tsum")), 8),
        (chain(task("add", 1, 1), unchained, task("add", 5))(), 6),
        (task("add", 20, 3).apply_async(eta=soon), 23),
        (task("retry", 3, 0.1).apply_async(), 3),
    ]


def test_both_brokers_are_worked_off_side_by_side(
    worker: StartWorker,
    producer: Callable[[str], Celery],
    rows: Rows,
    queue: str,
    url: str,
    redis_url: str,
) -> None:
    conf = {"task_default_queue": queue, "result_expires": 60}
    # What waits in Redis as the move begins.
    expected = publish_all(producer(redis_url))
    # Step 2: new workers beside the old ones, which get their whole old configuration.
    worker(conf=conf)
    old = worker(
        conf=conf, env={"CELERY_BROKER_URL": redis_url, "CELERY_RESULT_BACKEND": redis_url}
    )
    # Step 4: producers with the new settings.
    expected += publish_all(producer(url))
    for result, value in expected:
        assert result.get(timeout=30) == value
    # Step 6: the queue on Redis is empty, and nothing of it came into a row.
    client = redis.Redis.from_url(redis_url)
    wait_for(lambda: not client.llen(queue))
    client.close()
    assert old.stop() == 0
    rows.wait_count(completed=9)

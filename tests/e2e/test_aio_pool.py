"""celery-aio-pool, as it comes: its pool puts a tracer of its own in the place of Celery's."""

from __future__ import annotations

import pytest

from ..conftest import close_app
from .conftest import StartWorker
from .rows import Rows

pytest.importorskip("celery_aio_pool")


def test_tasks_that_are_coroutines_run(worker: StartWorker, rows: Rows, url: str) -> None:
    from .aio_tasks import add_one, app

    app.conf.update(broker_url=url, result_backend=url)
    pool = {"CELERY_CUSTOM_WORKER_POOL": "celery_aio_pool.pool:AsyncIOPool"}
    worker(app="tests.e2e.aio_tasks", pool="custom", env=pool)
    try:
        results = [add_one.delay(number) for number in range(4)]
        assert [result.get(timeout=10) for result in results] == [1, 2, 3, 4]
        rows.wait_count(completed=4)
    finally:
        close_app(app)

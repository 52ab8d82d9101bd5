"""Bulk within the tasks of a real worker, and what it runs of it."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from pgjobs_celery import bulk, jobs

from ..support.waiting import wait_for
from . import pgtasks
from .conftest import StartWorker, Worker


@pytest.fixture
def url(module_url: str) -> str:
    return module_url


@pytest.fixture(scope="module", autouse=True)
def running(module_worker: StartWorker) -> Worker:
    return module_worker(pool="threads", concurrency=2, app="tests.e2e.pgtasks")


def test_what_is_published_together_wakes_the_worker_and_runs(pgtask_app: Celery):
    with bulk():
        results = [pgtasks.fail.delay(0) for _ in range(50)]
    assert [each.get(timeout=10)["attempt"] for each in results] == [1] * 50


def test_a_task_publishes_in_bulk_and_its_retry_is_its_own(pgtask_app: Celery):
    result = pgtasks.publish_in_bulk.delay(20)
    done = result.get(timeout=10)
    job: Any = jobs(pgtask_app).get(result.id)
    # The first attempt published nothing but its own retry.
    assert (done["attempt"], job.attempt, job.state.value) == (2, 2, "completed")
    # Celery makes a task that was retried its own parent.
    children = jobs(pgtask_app).filter(parent=result.id, task=pgtasks.fail)
    wait_for(lambda: children.filter(state="completed").count() == 20 + 30)
    assert children.count() == 20 + 30
    assert len(done["ids"]) == 20
    # Of which it has the handles, and no others.
    assert {child.id for child in result.children} >= set(done["ids"])
    assert len(result.children) < 50

"""A job counts how often it was snoozed, in each mode as with a worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from pgjobs_celery import PgTask
from pgjobs_celery.testing import all_enqueued, drain_queue, testing

from ..conftest import close_app


@pytest.fixture(params=["manual", "inline", "real"])
def block(request: pytest.FixtureRequest) -> Iterator[testing]:
    """A block in each mode."""
    url = "redis://127.0.0.1:1/0"
    if request.param == "real":
        url = request.getfixturevalue("url")
    app = Celery("proj", broker=url, backend=url, set_as_current=False)
    with testing(app, request.param) as block:
        yield block
    close_app(app)


@pytest.mark.parametrize("meta", [{}, {"snoozed": "often"}, {"snoozed": None}, {"other": 1}])
def test_a_task_that_waits_by_count_ends(block: testing, meta: dict[str, Any]):
    seen = []

    @block.app.task(base=PgTask, bind=True, name="proj.poll", shared=False)
    def poll(self: Any) -> str:
        seen.append(self.meta.get("snoozed", 0))
        times = self.meta.get("snoozed", 0)
        if not isinstance(times, int) or times < 2:
            return self.snooze(60)
        return "given up"

    result = poll.apply_async(meta=meta)
    if block.mode != "inline":
        counts = drain_queue(with_scheduled=True, with_recursion=True)
        assert counts == {"snoozed": 2, "completed": 1}
    assert result.get(timeout=1) == "given up"
    assert seen == [meta.get("snoozed", 0), 1, 2]
    if block.mode == "manual":
        assert block.inbox.get(result.id).meta == {**meta, "snoozed": 2}


def test_what_the_task_notes_stays_beside_the_count(block: testing):
    @block.app.task(base=PgTask, bind=True, name="proj.poll", shared=False)
    def poll(self: Any) -> dict[str, Any]:
        self.meta[f"after{self.meta.get('snoozed', 0)}"] = True
        if self.meta.get("snoozed", 0) < 1:
            return self.snooze(60)
        return dict(self.meta)

    result = poll.delay()
    if block.mode != "inline":
        drain_queue(with_scheduled=True)
        assert all_enqueued(poll)[0].meta["snoozed"] == 1
        drain_queue(with_scheduled=True)
    assert result.get(timeout=1) == {"after0": True, "after1": True, "snoozed": 1}

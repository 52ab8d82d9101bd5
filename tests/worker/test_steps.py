"""Which queues a worker consumes from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import click
import pytest
from celery import Celery
from kombu import Queue

from pgjobs_celery.config import read_settings
from pgjobs_celery.errors import InvalidOption
from pgjobs_celery.worker.steps import choose_queues

QUEUES = {"one": 1, "other": 3}


def consumed(app: Celery) -> list[str]:
    choose_queues(app, read_settings(app.conf), "worker@host")
    return sorted(app.amqp.queues.consume_from)


def test_without_the_setting_it_is_celerys_default(make_app: Callable[..., Celery]):
    assert consumed(make_app()) == ["celery"]


def test_a_worker_consumes_from_the_queues_in_pgjobs_queues(make_app: Callable[..., Celery]):
    assert consumed(make_app(pgjobs_queues=QUEUES)) == ["one", "other"]


def test_what_was_selected_stays(make_app: Callable[..., Celery]):
    app = make_app(pgjobs_queues=QUEUES)
    app.amqp.queues.select(["two"])
    assert consumed(app) == ["two"]


def test_task_queues_say_more(make_app: Callable[..., Celery]):
    app = make_app(pgjobs_queues=QUEUES, task_queues=[Queue("two")])
    assert consumed(app) == ["two"]


def test_queues_that_the_command_line_excludes_are_left_out(make_app: Callable[..., Celery]):
    context = click.Context(click.Command("worker"))
    context.params["exclude_queues"] = ["one"]
    with context.scope():
        assert consumed(make_app(pgjobs_queues=QUEUES)) == ["other"]


def test_a_workers_own_queue_is_kept(make_app: Callable[..., Celery]):
    app = make_app(pgjobs_queues={"one": 1}, worker_direct=True)
    assert consumed(app) == ["one", "worker@host.dq2"]


def test_a_queue_that_may_not_be_made_is_refused(make_app: Callable[..., Celery]):
    app = make_app(pgjobs_queues=QUEUES, task_create_missing_queues=False)
    with pytest.raises(InvalidOption, match="pgjobs_queues has 'one'"):
        consumed(app)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"a": 0}, "whole number from 1, or a dict of rules, not 0; `celery pgjobs pause a`"),
        ({"a": -1}, "whole number from 1"),
        ({"a": 1.5}, "whole number from 1"),
        ({"a": True}, "whole number from 1"),
        ({"a": None}, "whole number from 1"),
        ({"": 1}, "a queue cannot be called ''"),
        ({"a\0": 1}, "a queue cannot be called"),
        ({7: 1}, "a queue cannot be called 7"),
        (["a", "b"], "pgjobs_queues must be a dict"),
        ("a", "pgjobs_queues must be a dict"),
        (10, "pgjobs_queues must be a dict"),
    ],
)
def test_limits_that_cannot_be_are_refused(value: Any, complaint: str):
    with pytest.raises(InvalidOption, match=complaint):
        read_settings({"pgjobs_queues": value})


def test_the_setting_is_none_or_what_it_was_given():
    assert read_settings({}).queues is None
    assert read_settings({"pgjobs_queues": QUEUES}).queues == QUEUES


MAKES_A_POOL = """
import json, sys
from celery import Celery, bootsteps
from celery.concurrency.solo import TaskPool

app = Celery("late", broker=sys.argv[1], backend=sys.argv[1])
imported = []

class Pool(TaskPool):
    # As celery-aio-pool does: until now it may put a tracer of its own in the place of Celery's.
    def __init__(self, *args, **kwargs):
        imported.extend(sorted(sys.modules))
        super().__init__(*args, **kwargs)

worker = app.Worker(pool=Pool, hostname="late@test")
steps = [type(step).__name__ for step in worker.consumer.steps]
print(json.dumps({"imported": imported, "steps": steps}))
"""


def test_celerys_consumer_is_not_imported_before_the_pool_is_made(url: str):
    output = subprocess.run(
        [sys.executable, "-c", MAKES_A_POOL, url], check=True, capture_output=True, text=True
    ).stdout
    told = json.loads(output.splitlines()[-1])
    assert "pgjobs_celery.worker.steps" in told["imported"]
    late = ("celery.worker.consumer", "celery.worker.strategy", "celery.worker.request")
    assert [name for name in told["imported"] if name.startswith(late)] == []
    assert {"Tracking", "EventBatches"} <= set(told["steps"])

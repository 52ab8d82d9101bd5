"""The app of the tests of strategies: tasks whose messages do not simply go to the pool.

Strategies as applications and packages have them: one collects and runs many at once (as
celery-batches does), one acknowledges or refuses what it does not want, one only looks on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from celery import Celery, Task, bootsteps
from celery.app.trace import trace_task_ret
from celery.signals import task_received
from celery.utils.imports import symbol_by_name
from celery.worker.request import create_request_cls
from celery.worker.strategy import default
from kombu import Consumer, Queue

from .tasks import URL, append, wait_for_file

app = Celery("tests.e2e.keepers", broker=URL, backend=URL, set_as_current=False)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)
app.conf.update(json.loads(os.environ.get("PGJOBS_TEST_CONF", "{}")))

Handler = Callable[..., Any]


def run_batch(name: str, jobs: list[tuple[str, list[Any]]]) -> None:
    """In the pool: run the task once for all of them."""
    app.tasks[name].run(jobs)


class Strategy(Task):
    """A task that is given each request, instead of the pool."""

    abstract = True
    #: The task's function is given a batch, and not the arguments that it is called with.
    typing = False

    def Strategy(self, task: Task, app: Celery, consumer: Any) -> Handler:  # noqa: N802 - Celery's
        made = create_request_cls(
            symbol_by_name(task.Request), task, consumer.pool, consumer.hostname,
            consumer.event_dispatcher, app=app,
        )  # fmt: skip

        def handle(
            message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **_: Any
        ) -> None:
            request = made(
                message, on_ack=ack, on_reject=reject, app=app, hostname=consumer.hostname,
                eventer=consumer.event_dispatcher, task=task, body=message.body,
                headers=message.headers, connection_errors=consumer.connection_errors,
            )  # fmt: skip
            task.take(request, consumer)

        return handle

    def take(self, request: Any, consumer: Any) -> None:
        raise NotImplementedError


class Batch(Strategy):
    """Runs once for ``size`` requests."""

    abstract = True
    size = 20

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def take(self, request: Any, consumer: Any) -> None:
        self.waiting.append(request)
        if len(self.waiting) < self.size:
            return
        batch, self.waiting = self.waiting, []

        def acknowledge(*_: Any) -> None:
            for each in batch:
                each.acknowledge()

        jobs = [(each.id, each.args) for each in batch]
        when = "callback" if self.acks_late else "accept_callback"
        consumer.pool.apply_async(run_batch, (self.name, jobs), **{when: acknowledge})


@app.task(base=Batch)
def batch(jobs: list[tuple[str, list[Any]]]) -> None:
    """Early: acknowledged when the batch begins. Each is given its result in the end."""
    (path, release, _), *_ = (args for _, args in jobs)
    append(path, str(len(jobs)))
    wait_for_file(release)
    for id, (_, _, number) in jobs:
        app.backend.mark_as_done(id, 2 * number)


@app.task(base=Batch, acks_late=True)
def batch_late(jobs: list[tuple[str, list[Any]]]) -> None:
    """Acknowledged when the batch has run, and nobody stores a result."""
    (path, release, _), *_ = (args for _, args in jobs)
    append(path, str(len(jobs)))
    wait_for_file(release)


@app.task(base=Batch, size=10_000)
def collect(jobs: list[tuple[str, list[Any]]]) -> None:
    """Never begins: so many do not come."""


class Deciding(Strategy):
    """Does what its argument says, without the pool."""

    abstract = True

    def take(self, request: Any, consumer: Any) -> None:
        what = request.args[0]
        if what == "acknowledge":
            request.acknowledge()
        elif what == "refuse":
            request.reject(requeue=False)
        elif what == "put back once":
            if request.delivery_info["redelivered"]:
                request.acknowledge()
            else:
                request.reject(requeue=True)
        elif what == "acknowledge and run":
            request.acknowledge()
            request.execute_using_pool(consumer.pool)
        elif what == "run later":
            consumer.timer.call_after(0.3, request.execute_using_pool, (consumer.pool,))
        elif what == "acknowledge and run later":
            request.acknowledge()
            consumer.timer.call_after(0.3, request.execute_using_pool, (consumer.pool,))
        elif what == "run here":
            request.execute()
        elif what == "run in the pool by itself":
            consumer.pool.apply_async(
                trace_task_ret,
                args=(request.type, request.id, request.request_dict, request.body,
                      request.content_type, request.content_encoding),
                accept_callback=request.on_accepted, callback=request.on_success,
                error_callback=request.on_failure,
            )  # fmt: skip


@app.task(base=Deciding)
def decide(what: str) -> str:
    return f"{what}: ran"


@app.task(base=Deciding, acks_late=True)
def decide_late(what: str) -> str:
    return f"{what}: ran"


class Onlooker(Task):
    """Looks at each message, and leaves the rest to Celery."""

    abstract = True

    def Strategy(self, task: Task, app: Celery, consumer: Any) -> Handler:  # noqa: N802 - Celery's
        handler: Handler = default(task, app, consumer)
        return handler


@app.task(base=Onlooker)
def hold_watched(started: str, release: str) -> str:
    append(started, "started")
    wait_for_file(release)
    return "released"


@app.task
def plain(value: Any) -> Any:
    return value


@app.task
def acknowledged_on_arrival(value: Any) -> Any:
    return value


@task_received.connect
def acknowledge_on_arrival(request: Any, **_: Any) -> None:
    """Some make all of their tasks at most once that way."""
    if request.name == acknowledged_on_arrival.name:
        request.acknowledge()


class Intake(bootsteps.ConsumerStep):
    """A bootstep that consumes a queue of jobs itself, beside Celery."""

    def get_consumers(self, channel: Any) -> list[Consumer]:
        channel.basic_qos(0, 50, False)
        return [Consumer(channel, [Queue("intake")], on_message=self.note, accept=["json"])]

    def note(self, message: Any) -> None:
        (path, number), _, _ = message.payload
        append(path, str(number))
        if not os.path.exists(f"{path}.keep"):
            message.ack()


app.steps["consumer"].add(Intake)

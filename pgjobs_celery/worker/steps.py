"""The bootsteps that this package adds to a Celery worker: its tasks report to the rows.

Celery's consumer is not imported here. Packages put a tracer of their own in the place of Celery's
when the worker makes its pool (celery-aio-pool), and the consumer takes the one that it finds when
it is imported.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import click
from celery import bootsteps, signals
from celery.utils.nodenames import worker_direct
from kombu.utils.functional import maybe_list

from ..broker.message import Message
from ..broker.qos import RESTORING
from ..config import Settings, read_settings
from ..db.database import CONNECTION_ERRORS, Database
from ..errors import InvalidOption, PgJobsError
from ..job.outcome import FinishedJob
from ..job.states import State
from ..node.nodes import get_node
from ..printable import guard_celery, guarded, one_line
from ..publishing.replacement import MARKING, mark_steps
from ..signals import job_discarded, job_finished
from ..tasks.limited import share_rate_limits
from . import retries as retrying
from .flows import register_flows
from .foreign_chords import watch_chords
from .hooks import (
    GuardGossip,
    around_soft_shutdown,
    before_strategies,
    buffer_events,
    guard_added_queues,
    guard_messages,
)
from .inspection import answer_for_rows
from .leaving import Hearing
from .logs import JobFields, json_formatter, write_json
from .overseer import Overseer
from .pool import WorkerPool
from .probes import Probing
from .strategies import track_tasks

logger = guarded(logging.getLogger(__name__))


#: How many events one message has at most, and how often they are sent, in seconds.
EVENT_BATCH, EVENT_INTERVAL = 500, 0.05


class Tracking(bootsteps.StartStopStep):
    """Make every task's request one that tells the row."""

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._pool = WorkerPool(consumer)
        self._sent: list[Message] = []
        self._is_told = False
        self._consumer = consumer
        # Before any step starts: what they consume with, they are given then.
        guard_messages(consumer)
        if consumer.hub is None:
            # The blocking loop, of pools of greenlets: no signal interrupts what it waits for.
            signals.worker_shutting_down.connect(self._hurry, dispatch_uid="pgjobs-hurry")
        channel_database = getattr(consumer.app.connection_for_read().transport, "database", None)
        self._node = None if channel_database is None else get_node(channel_database)
        self._hearing = None if self._node is None else Hearing(self._node)
        late = track_tasks(consumer.app)
        if (node := self._node) is not None:
            chords = watch_chords(consumer.app, node.database)
            looks = [Overseer(consumer, node).look]
            if chords is not None:
                looks.append(chords.look)
            is_empty = consumer.app.conf.get("worker_disable_prefetch")  # Celery 5.6 and newer
            node.serve_worker(
                self._pool,
                late,
                on_finished=announce_finished,
                oversee=in_turn(looks),
                note_group=None if chords is None else chords.note,
                read_ahead=0.0 if is_empty else None,
            )
        answer_for_rows()
        before_strategies(consumer, self._track_tasks)

    def _track_tasks(self) -> None:
        """Again, for tasks may have been registered since."""
        late = track_tasks(self._consumer.app)
        if (node := self._node) is not None:
            node.acknowledge_late(late)
            register_flows(self._consumer.app, node.database, node.settings)
            node.limits.expire()

    def start(self, consumer: Any) -> None:
        """The pool runs."""
        self._pool.start()
        if self._hearing is not None:
            self._hearing.stop()
        guard_added_queues(consumer)
        if not self._is_told:
            self._is_told = True
            around_soft_shutdown(consumer, self._release, self._pool.hear_during)

    def _release(self, consumer: Any) -> None:
        # Celery calls this in a signal handler: whatever lock the interrupted code holds, another
        # thread can wait for it. One that waits for a claim that was interrupted comes too late
        # for this; what that claim brings goes back when the wait is over.
        thread = threading.Thread(target=self.stop, args=(consumer,), name="pgjobs-release")
        thread.start()
        thread.join(timeout=1.0)
        if consumer.controller.semaphore:
            # Tasks that wait for room in the pool must not begin when another ends.
            consumer.controller.semaphore.clear()

    def stop(self, consumer: Any) -> None:
        """Consuming has ended, and what runs may take long: the rest goes back in line now.

        Celery closes the channel only when the last task has ended.
        """
        channel: Any = getattr(consumer.task_consumer, "channel", None)
        if hasattr(channel, "let_go"):
            if self._hearing is not None:
                self._hearing.start()
            self._sent += channel.let_go()
            # Its bell must not be rung: Celery's own step may find nothing left to cancel.
            channel.transport.queues_changed()
            with contextlib.suppress(*CONNECTION_ERRORS):  # the node goes on trying
                channel.node.flush()

    def _hurry(self, **_: Any) -> None:
        transport: Any = getattr(self._consumer.connection, "transport", None)
        if hasattr(transport, "hurry"):
            transport.hurry()

    def info(self, consumer: Any) -> dict[str, Any]:
        """Our part of ``celery inspect stats``."""
        return {"pgjobs": self._node.describe()} if self._node else {}

    def shutdown(self, consumer: Any) -> None:
        """The pool has ended: what it has not begun, or not ended, goes back as well."""
        if self._hearing is not None:
            self._hearing.stop()
        for request in self._pool.cancelled:
            request.settle_cancelled()
        count = sum(request.is_put_back for request in self._pool.cancelled)
        count += sum(message.channel.give_back([message]) for message in self._sent)
        if count:
            logger.info(RESTORING, count)
        if self._node is not None:
            # Not on worker_shutdown, which Celery does not send when its test worker stops.
            self._node.close()


class EventBatches(bootsteps.StartStopStep):
    """Have the event loop send its tasks' events now and then, and not in each of its turns.

    Celery batches what happens within a turn. Under load that is a few events, and each batch
    costs as much as a task.
    """

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Once for each connection, and so for each dispatcher."""
        dispatcher = consumer.event_dispatcher
        if consumer.hub is not None and dispatcher is not None:
            buffer_events(dispatcher, EVENT_BATCH)
            self._timer = consumer.hub.call_repeatedly(EVENT_INTERVAL, dispatcher.flush)

    def stop(self, consumer: Any) -> None:
        """The connection is lost, or the worker leaves; what is buffered is sent by Celery."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def in_turn(calls: Sequence[Callable[[], None]]) -> Callable[[], None]:
    """One call that makes these, one after the other."""

    def call_each() -> None:
        for call in calls:
            call()

    return call_each


def announce_finished(finished: Sequence[FinishedJob]) -> None:
    """Send the signals of jobs that have come to their end."""
    for job in finished:
        error = json.loads(job.error) if job.error else None
        about = {"task_id": job.task_id, "attempt": job.attempt, "error": error}
        job_finished.send(sender=job.task, state=job.state.value, **about)
        if job.state is State.DISCARDED:
            job_discarded.send(sender=job.task, **about)


def install() -> None:
    """Have every worker that starts in this process track its jobs; called by the transport."""
    retrying.install()
    signals.worker_init.connect(_on_worker_init, dispatch_uid="pgjobs")


def _on_worker_init(sender: Any, **_: Any) -> None:
    app = sender.app
    try:
        database = getattr(app.connection_for_read().transport, "database", None)
        if database is not None:
            guard_celery()
            settings = read_settings(app.conf)
            JobFields.worker = sender.hostname
            if settings.log_json:
                write_json(json_formatter())
            verify(app, database)
            get_node(database).configure(sender.hostname, settings, app.conf.event_exchange)
            choose_queues(app, settings, sender.hostname)
            share_rate_limits(app)
            app.steps["consumer"].update([Tracking, EventBatches, Probing, GuardGossip])
            signals.before_task_publish.connect(mark_steps, dispatch_uid=MARKING)
    except PgJobsError as error:
        # Celery would log any other exception here, and go on without us.
        raise SystemExit(f"{type(error).__name__}: {one_line(str(error))}") from None


def verify(app: Any, database: Database) -> None:
    """Raise what is wrong of ours: what Celery meets itself it shows with a traceback.

    Without a server it waits for one; a backend that is not ours is Celery's matter.
    """
    with contextlib.suppress(*CONNECTION_ERRORS):
        database.verify()
    try:
        _ = app.backend
    except PgJobsError:
        raise
    except Exception:
        logger.debug("the result backend cannot be made", exc_info=True)


def choose_queues(app: Any, settings: Settings, hostname: str) -> None:
    """Have a worker that is not told by ``-Q`` or ``task_queues`` consume ``pgjobs_queues``."""
    queues = app.amqp.queues
    # Of -X Celery keeps no trace but in its own selection: before 5.7 that is one as by -Q, since
    # 5.7 it is the default one. Neither knows pgjobs_queues.
    command = click.get_current_context(silent=True)
    options = command.params if command else {}
    excluded = maybe_list(options.get("exclude_queues")) or ()
    is_selected = queues._consume_from is not None and (options.get("queues") or not excluded)
    if not settings.queues or app.conf.task_queues or is_selected:
        return
    chosen = [name for name in settings.queues if name not in excluded]
    try:
        queues.select(chosen)
        if app.conf.worker_direct:
            queues.select_add(worker_direct(hostname))
    except KeyError as error:
        raise InvalidOption(
            f"pgjobs_queues has {error}, which is not in task_queues; "
            "task_create_missing_queues is off"
        ) from None

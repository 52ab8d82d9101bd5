"""Have ``celery inspect scheduled`` and ``query_task`` list jobs that wait in the database.

Celery holds a task with a countdown in the memory of the worker that has taken it, and asks that.
Here it waits in its row, and no worker has it: so each worker answers for the queues that it
consumes, nearest first and a bounded number.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import timezone
from typing import Any

from kombu.compression import decompress
from kombu.serialization import loads, prepare_accept_content
from kombu.utils.functional import maybe_list

from ..broker.channel import Channel
from ..db.database import CONNECTION_ERRORS
from ..db.rows.waiting import Waiting
from ..errors import UndecodableRow
from ..job.envelope import decode_envelope
from ..printable import guarded

logger = guarded(logging.getLogger(__name__))

#: Celery's priority for a task that waits for its time, that of its timer's entry.
TIMER_PRIORITY = 6


def answer_for_rows() -> None:
    """Have this process's remote control look at the rows as well."""
    # Late, as all of Celery's consumer: see worker.py.
    from celery.worker.control import Panel

    for name, wrap in (("scheduled", _scheduled), ("query_task", _query_task)):
        command = Panel.data[name]
        if not hasattr(command, "asks_rows"):
            wrapped = wrap(command)
            wrapped.asks_rows = True  # type: ignore[attr-defined]
            Panel.data[name] = wrapped
            alias = Panel.meta[name].alias
            if alias:
                Panel.data[alias] = wrapped


def _scheduled(command: Callable[..., Any]) -> Callable[..., Any]:
    def scheduled(state: Any, **options: Any) -> list[dict[str, Any]]:
        """List of currently scheduled ETA/countdown tasks."""
        listed: list[dict[str, Any]] = command(state, **options)
        known = {entry["request"]["id"] for entry in listed}
        for job, info in _waiting(state, lambda jobs, queues: jobs.list_waiting(queues)):
            if job.task_id not in known:
                eta = job.due_at.astimezone(timezone.utc).isoformat()
                listed.append({"eta": eta, "priority": TIMER_PRIORITY, "request": info})
        return listed

    return scheduled


def _query_task(command: Callable[..., Any]) -> Callable[..., Any]:
    def query_task(state: Any, ids: Any, **options: Any) -> dict[str, Any]:
        """Query for task information by id."""
        ids = maybe_list(ids) or []
        found: dict[str, Any] = command(state, ids, **options)
        missing = [str(id) for id in ids if id not in found]
        if missing:
            for job, info in _waiting(
                state, lambda jobs, queues: jobs.find_waiting(missing, queues)
            ):
                found[job.task_id] = ("scheduled", info)
        return found

    return query_task


def _waiting(state: Any, ask: Callable[[Any, list[str]], list[Waiting]]) -> list[Any]:
    """The jobs, each with what Celery says of a request."""
    consumer = state.consumer
    channel = getattr(consumer.task_consumer, "channel", None)
    if not isinstance(channel, Channel):
        return []
    try:
        jobs = ask(channel.database.waiting, channel.queues)
    except CONNECTION_ERRORS as error:
        logger.warning("remote control cannot look for jobs that wait: %s", error)
        return []
    described = ((job, _describe(job, consumer)) for job in jobs)
    return [(job, info) for job, info in described if info is not None]


def _describe(job: Waiting, consumer: Any) -> dict[str, Any] | None:
    """As Celery's ``Request.info()``; None for a row that cannot be read."""
    try:
        envelope = decode_envelope(job.message, job.queue)
        headers, properties = envelope.headers, envelope.properties
        args, kwargs = _arguments(job, envelope, consumer.app)
        return {
            "id": job.task_id,
            "name": headers.get("shadow") or headers.get("task"),
            "args": args,
            "kwargs": kwargs,
            "type": headers.get("task"),
            "hostname": consumer.hostname,
            "time_start": None,
            "acknowledged": False,
            "delivery_info": {
                "exchange": envelope.exchange,
                "routing_key": envelope.routing_key,
                "priority": properties.get("priority"),
                "redelivered": False,
            },
            "worker_pid": None,
        }
    except (UndecodableRow, AttributeError) as error:
        logger.warning("job %s cannot be shown: %s", job.task_id, error)
        return None


def _arguments(job: Waiting, envelope: Any, app: Any) -> tuple[Any, Any]:
    """The arguments; what its publisher wrote of them where they are long, or cannot be read."""
    headers = envelope.headers
    try:
        body = job.body
        if body is not None:
            if headers.get("compression"):
                body = decompress(body, headers["compression"])
            args, kwargs, _ = loads(
                body,
                envelope.content_type,
                envelope.content_encoding,
                accept=prepare_accept_content(app.conf.accept_content),
            )
            json.dumps([args, kwargs])  # the reply must not fail of it
            return args, kwargs
    except Exception as error:
        logger.debug("the arguments of job %s cannot be shown: %s", job.task_id, error)
    return headers.get("argsrepr"), headers.get("kwargsrepr")

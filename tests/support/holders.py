"""Hold a job as a worker's task does, without a worker: what the result backend stands on."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from celery import Celery
from celery.app.task import Context
from celery.app.trace import build_tracer
from kombu.compression import decompress
from kombu.serialization import loads

from pgjobs_celery.job.envelope import decode_envelope
from pgjobs_celery.job.held_claim import CLAIM
from pgjobs_celery.job.rows import Bucket
from pgjobs_celery.results.handover import trace_job
from tests.support.rows import alive


def hold(app: Celery, node: UUID | None = None, name: str = "holder@test") -> Context:
    """Claim the next job of the default queue; its request as the task in the pool sees it."""
    database = app.backend.database
    node = node or uuid4()
    alive(database, node)
    claims, _ = database.claims.claim_jobs(node, name, [Bucket("celery")], 1)
    assert claims, "nothing to claim"
    envelope = decode_envelope(claims[0].message, "celery")
    body = claims[0].body
    if envelope.headers.get("compression"):
        body = decompress(body, envelope.headers["compression"])
    args, kwargs, embed = loads(
        body, envelope.content_type, envelope.content_encoding, accept=app.backend.accept
    )
    return Context({
        **envelope.headers,
        **embed,
        "args": args,
        "kwargs": kwargs,
        "hostname": name,
        "delivery_info": {"exchange": "", "routing_key": "celery", "redelivered": False},
        "properties": {
            **envelope.properties,
            CLAIM: (node.hex, claims[0].attempt, database.key, 20),
        },
    })  # fmt: skip


def execute(app: Celery, request: Context) -> tuple[Any, ...]:
    """Run a held job as the pool does; what the pool returns: (failed, returned, runtime)."""
    task = app.tasks[request.task]
    tracer = build_tracer(task.name, task, app=app)

    def trace(name: str, task_id: str) -> tuple[Any, ...]:
        """Celery's ``trace_task_ret``, for one app."""
        returned, info, runtime, text = tracer(task_id, request.args, request.kwargs, vars(request))
        return (1, returned, runtime) if info else (0, text, runtime)

    outcome: tuple[Any, ...] = trace_job(trace, task.name, request.id)
    return outcome

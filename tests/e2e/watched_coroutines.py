"""Coroutines whose runs Sentry and OpenTelemetry see: each waits among the others."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

from opentelemetry import trace

from pgjobs_celery import adelay

from . import reported, traced
from .coroutine_tasks import add, app

__all__ = ["app"]

tracer = trace.get_tracer(__name__)


@app.task(bind=True)
async def call(self: Any, number: int) -> str:
    """Wait within a span of its own, which it begins in three places, and publish in the middle."""

    async def child(place: str) -> None:
        with tracer.start_as_current_span(f"{place} {number}"):
            await asyncio.sleep(random.random() / 20)

    await asyncio.sleep(random.random() / 20)
    await asyncio.gather(child("gathered"), asyncio.create_task(child("created")))
    with tracer.start_as_current_span(f"publishing {number}"):
        await asyncio.sleep(random.random() / 20)
        return str((await adelay(add, number, 1)).id)


@app.task
async def fail(number: int) -> None:
    await asyncio.sleep(random.random() / 20)
    try:
        await asyncio.gather(_fail(number), asyncio.sleep(0.01))
    finally:
        await asyncio.sleep(0)


async def _fail(number: int) -> None:
    await asyncio.sleep(random.random() / 20)
    raise KeyError(number)


if path := os.environ.get("PGJOBS_TEST_SPANS"):
    trace.set_tracer_provider(traced.instrument(Path(path)))
if path := os.environ.get("PGJOBS_TEST_REPORTS"):
    reported.report(path)

"""Which messages of tasks Celery builds itself, and publishing by nothing but its own code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery


def note_built(app: Celery, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], Any]:
    """The names of the tasks whose messages ``app`` builds from now on, and what notes them."""
    built: list[str] = []
    real = app.amqp.send_task_message

    def send_task_message(producer: Any, name: str, *args: Any, **options: Any) -> Any:
        built.append(name)
        return real(producer, name, *args, **options)

    send_task_message.__module__ = real.__module__
    monkeypatch.setattr(app.amqp, "send_task_message", send_task_message)
    return built, send_task_message


@contextmanager
def celerys_own(app: Celery) -> Iterator[dict[str, Any]]:
    """Options with which ``apply_async()`` publishes by Celery's and kombu's own code."""
    with app.producer_pool.acquire(block=True) as producer:
        yield {"producer": producer}

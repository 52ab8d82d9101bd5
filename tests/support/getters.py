"""Threads that wait for results."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from celery import Celery
from celery.result import AsyncResult

from .waiting import wait_for

#: A poll that no test lives to see: what arrives earlier came by LISTEN.
NEVER = {"poll_interval": 3600}


def new(app: Celery) -> AsyncResult:
    return app.AsyncResult(str(uuid4()))


def is_waiting(app: Celery) -> bool:
    consumer = app.backend.result_consumer
    return bool(consumer._is_reading and not consumer._new)


@contextmanager
def getting(app: Celery, *results: Any, **options: Any) -> Iterator[list[Any]]:
    """Threads that wait for one result each, waiting when the block begins; what they got."""
    got: list[Any] = []
    failed: list[BaseException] = []

    def get(result: Any) -> None:
        try:
            got.append(result.get(**{"timeout": 20, **options}))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=get, args=[result]) for result in results]
    for thread in threads:
        thread.start()
    wait_for(lambda: is_waiting(app), 5)
    yield got
    for thread in threads:
        thread.join(20)
    if failed:
        raise failed[0]

"""Producers: they publish jobs of all kinds, and remember what was acknowledged to them."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
from celery import Celery, chain

from . import tasks

#: How often each kind is published.
KINDS = {
    "early": 5, "late": 5, "waiting": 1, "waiting_late": 1, "retrying": 1, "chained": 1,
    "scheduled": 2, "cancelled": 1,
}  # fmt: skip

CANCEL = (
    "UPDATE pgjobs.jobs SET state = 'cancelled', finished_at = now(), due_at = NULL"
    " WHERE task_id = %s AND claimed_by IS NULL RETURNING 1"
)


class Producer(threading.Thread):
    """Publishes until it is stopped; ``published`` says what kind each acknowledged job is of."""

    kinds: Mapping[str, float] = KINDS

    def __init__(
        self, app: Celery, connect: Callable[[], psycopg.Connection[Any]], seed: int, pause: float
    ) -> None:
        super().__init__()
        self.published: dict[str, str] = {}
        self.failed = 0
        self._app = app
        self._connect = connect
        self._dice = random.Random(seed)
        self._pause = pause
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Publish no more; returns when the last publish has come back."""
        self._stopped.set()
        self.join()

    def run(self) -> None:
        while not self._stopped.wait(self._pause):
            (kind,) = self._dice.choices(list(self.kinds), list(self.kinds.values()))
            try:
                ids = self.publish(kind)
            except Exception:  # whatever it was: nothing was acknowledged
                self.failed += 1
            else:
                self.published.update(dict.fromkeys(ids, kind))

    def publish(self, kind: str) -> list[str]:
        """Publish one of a kind; returns the ids of its jobs."""
        ids: list[str] = getattr(self, f"publish_{kind}")()
        return ids

    def publish_early(self) -> list[str]:
        return [tasks.early.apply_async((self._duration(),)).id]

    def publish_late(self) -> list[str]:
        return [tasks.late.apply_async((self._duration(),)).id]

    def publish_waiting(self) -> list[str]:
        return [tasks.waiting.apply_async((self._duration(),)).id]

    def publish_waiting_late(self) -> list[str]:
        return [tasks.waiting_late.apply_async((self._duration(),)).id]

    def publish_retrying(self) -> list[str]:
        return [tasks.retrying.apply_async().id]

    def publish_scheduled(self) -> list[str]:
        return [tasks.late.apply_async(countdown=self._dice.uniform(0.5, 3)).id]

    def publish_chained(self) -> list[str]:
        result = chain(tasks.step.si(), tasks.step.si(), tasks.step.si()).apply_async()
        ids = []
        while result is not None:
            ids.append(result.id)
            result = result.parent
        return ids

    def publish_cancelled(self) -> list[str]:
        task_id = str(uuid4())
        # Soon enough for one whose publishing or cancelling breaks off to be over when the run is.
        tasks.early.apply_async(task_id=task_id, countdown=20)
        with self._connect() as connection:
            return [task_id] if connection.execute(CANCEL, (task_id,)).fetchall() else []

    def _duration(self) -> float:
        return self._dice.choice([0.0, 0.0, 0.0, 0.0, 0.0, 0.01, 0.05, 0.2])


@contextmanager
def publishing(
    kind: type[Producer],
    app: Celery,
    connect: Callable[[], psycopg.Connection[Any]],
    seed: int,
    beside: Sequence[Any] = (),
) -> Iterator[list[Producer]]:
    """Two producers of a kind for the length of the block, and whatever else begins and stops."""
    producers = [kind(app, connect, seed * 100 + number, pause=0.01) for number in range(2)]
    for each in (*producers, *beside):
        each.start()
    try:
        yield producers
    finally:
        for each in (*producers, *beside):
            each.stop()

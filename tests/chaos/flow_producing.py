"""Publish jobs with rules, and have pauses and weights come and go meanwhile."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg

from pgjobs_celery import flows, queues

from ..support.waiting import wait_for
from . import flow
from .producing import Producer

#: How many jobs wait at most: what the rates let through until the end.
MOST_WAITING = 400
WAITING = "SELECT count(*) FROM (SELECT FROM pgjobs.jobs WHERE finished_at IS NULL LIMIT 1000) AS w"


class FlowProducer(Producer):
    """Publishes until it is stopped, and no more than workers will be able to run."""

    kinds = {"late": 12, "early": 5, "scheduled": 1, "burst": 0.2}
    _next_look = 0.0
    _is_full = False

    def publish(self, kind: str) -> list[str]:
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + 0.5
            with suppress(psycopg.OperationalError), self._connect() as connection:
                ((count,),) = connection.execute(WAITING).fetchall()
                self._is_full = count >= MOST_WAITING
        return [] if self._is_full else super().publish(kind)

    def publish_late(self) -> list[str]:
        return [self._publish(self._late())]

    def publish_early(self) -> list[str]:
        task = self._dice.choice(
            [flow.common_early, flow.paced_early, flow.single_early, flow.free_early]
        )
        return [self._publish(task)]

    def publish_scheduled(self) -> list[str]:
        return [self._publish(self._late(), countdown=self._dice.uniform(0.2, 2))]

    def publish_burst(self) -> list[str]:
        """One key floods."""
        key = self._dice.choice(flow.KEYS)
        return [self._publish(flow.free, "fair", key) for _ in range(40)]

    def _late(self) -> Any:
        return self._dice.choice(
            [flow.common, flow.paced, flow.costly, flow.single, flow.both, flow.local, flow.again,
             flow.free, flow.free, flow.free]
        )  # fmt: skip

    def _publish(self, task: Any, queue: str = "", key: str = "", **options: Any) -> str:
        values: dict[str, Any] = {
            "key": key or self._dice.choice(flow.KEYS),
            "seconds": self._duration(),
        }
        if task is flow.costly:
            values["cost"] = self._dice.randint(1, 4)
        queue = queue or self._dice.choice(flow.QUEUES)
        rank = self._dice.choice([0, 0, 0, 3, 200])
        return str(task.apply_async(kwargs=values, queue=queue, priority=rank, **options).id)


class Pauser(threading.Thread):
    """Pauses and resumes queues, tasks, tags and keys, and sets weights, until it is stopped."""

    def __init__(self, seed: int, most: Callable[[], float]) -> None:
        super().__init__()
        self._dice = random.Random(seed)
        self._most = most
        self._stopped = threading.Event()
        self.done: Counter[str] = Counter()
        #: The queues that surely were paused, from when to when.
        self.paused: list[tuple[str, float, float]] = []

    def stop(self) -> None:
        """Resume everything, and end."""
        self._stopped.set()
        self.join()
        wait_for(self._resume_all, 60)

    def run(self) -> None:
        while not self._stopped.wait(self._dice.uniform(0.1, 1.0)):
            how = self._dice.choice(["queue", "task", "tag", "key", "weight"])
            with suppress(Exception):  # the server is away
                getattr(self, f"change_{how}")()
                self.done[how] += 1

    def change_queue(self) -> None:
        queue, control = self._dice.choice(flow.QUEUES), queues(flow.app)
        control.pause(queue, until=60)
        begun = time.time()
        self._stopped.wait(self._most())
        # Before it is asked for: it may be done although the answer is lost.
        self.paused.append((queue, begun, time.time()))
        control.resume(queue)

    def change_task(self) -> None:
        self._change(task=self._dice.choice([flow.paced, flow.single, flow.free_early, flow.both]))

    def change_tag(self) -> None:
        self._change(tag="tagged")

    def change_key(self) -> None:
        queue = self._dice.choice(["fair", "keyed"])
        self._change(key=self._dice.choice(flow.KEYS), queue=queue)

    def change_weight(self) -> None:
        weight = self._dice.choice([None, 0.5, 2, 3])
        queues(flow.app)["fair"].weight(self._dice.choice(flow.KEYS), weight)

    def _change(self, **what: Any) -> None:
        """Half of them end by themselves."""
        control = flows(flow.app)
        if self._dice.random() < 0.5:
            control.pause(**what, until=self._most())
        else:
            control.pause(**what)
            self._stopped.wait(self._most())
            control.resume(**what)

    def _resume_all(self) -> bool:
        with suppress(psycopg.OperationalError):
            control = flows(flow.app)
            for pause in control.pauses():
                where = {"queue": pause.queue} if pause.queue else {}
                control.resume(**{pause.kind: pause.name}, **where)
            for queue in flow.QUEUES:
                queues(flow.app).resume(queue)
            return not control.pauses()
        return False

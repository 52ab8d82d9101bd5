"""Break things: workers, their children, and what they talk to, on a seeded schedule."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import cycle

import psutil

from ..e2e.conftest import StartWorker, Worker
from ..e2e.hostile import MESSAGES
from .systems import System

#: How long a worker may be silent in these runs; the default of 13 s would make them long.
LEASE = float(os.environ.get("PGJOBS_CHAOS_LEASE", "3"))
#: A time limit that no task exceeds, unless its process is held up for longer than these faults do
#: it. What it ends runs again where it is acknowledged late.
LIMIT = LEASE + 3.0
CONF = {
    "pgjobs_lease": LEASE,
    "pgjobs_heartbeat_interval": LEASE / 6,
    "task_time_limit": LIMIT,
    "task_acks_on_failure_or_timeout": False,
}
#: Of a worker that is told to leave softly: it waits until the limits of all that runs are over.
SOFT = {"worker_soft_shutdown_timeout": LIMIT + 1.0}
#: What the pool ``custom`` is. Others are forked by a process that has no such setting.
CUSTOM = {"CELERY_CUSTOM_WORKER_POOL": "pgjobs_celery.worker.aio:TaskPool"}

#: How often each fault comes in a long round. What is not named comes once.
OFTEN = {"kill a child": 3, "kill a worker": 2, "deploy": 2, "cut all connections": 2}


class Chaos:
    """Two workers at a time, and what can be done to them and to their system."""

    app = "tests.chaos.tasks"
    queues: Sequence[str] = ()

    def __init__(
        self, system: System, start: StartWorker, env: dict[str, str], dice: random.Random
    ) -> None:
        self._system, self._start, self._env, self._dice = system, start, env, dice
        self._pools = cycle(["prefork", "threads", "custom", "prefork", "solo"])
        self._workers: list[Worker] = []
        #: Those that leave softly.
        self._soft: set[Worker] = set()
        self.done: Counter[str] = Counter()
        #: The ids of hostile messages.
        self.hostile: set[str] = set()
        #: When which worker was killed with all that belongs to it.
        self.killed: dict[str, float] = {}
        self._add(soft=True)
        self._add(soft=False)

    @property
    def faults(self) -> dict[str, Callable[[], None]]:
        """What can be done now."""
        return {
            "kill a child": self.kill_child,
            "kill a worker": self.kill_worker,
            "kill a worker but not its children": self.kill_parent,
            "stop a worker for longer than its lease": self.stop_worker,
            "stop a main process in the middle": self.stop_main,
            "deploy": self.deploy,
            "soft shutdown with limits": self.deploy_softly,
            "deploy in a hurry": self.deploy_in_a_hurry,
            "hostile messages": self.send_hostile,
            **self._system.faults,
        }

    def schedule(self, *, long: bool) -> Iterator[str]:
        """Rounds without end in which every fault has its turn."""
        while True:
            names = [name for name in self.faults for _ in range(OFTEN.get(name, 1) if long else 1)]
            self._dice.shuffle(names)
            yield from names

    def inflict(self, name: str) -> None:
        """Do it, if it still can be done."""
        if fault := self.faults.get(name):
            self.done[name] += 1
            fault()

    def kill_child(self) -> None:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if children := self._choose().children():
                os.kill(self._dice.choice(children), signal.SIGKILL)

    def kill_worker(self) -> None:
        worker = self._replace()
        worker.kill()
        self.killed[worker.name] = time.time()

    def kill_parent(self) -> None:
        worker = self._replace()
        worker.send(signal.SIGKILL)
        self.killed[worker.name] = time.time()

    def stop_worker(self) -> None:
        worker = self._choose()
        # Half of the times with its children, as when a machine is suspended.
        send = os.killpg if self._dice.random() < 0.5 else os.kill
        with suppress(ProcessLookupError):
            send(worker.pid, signal.SIGSTOP)
            time.sleep(LEASE + 1.5)  # the fault itself
            send(worker.pid, signal.SIGCONT)

    def stop_main(self) -> None:
        """Its children go on: for less than its lease, or until their time limits are over."""
        worker = self._choose()
        worker.send(signal.SIGSTOP)
        time.sleep(self._dice.choice([LEASE / 2, LIMIT + 1.0]))  # the fault itself
        worker.send(signal.SIGCONT)

    def deploy(self) -> None:
        self._replace().send(signal.SIGTERM)

    def deploy_in_a_hurry(self) -> None:
        """Told to leave at once, while it had been told to leave."""
        worker = self._replace(soft=False)
        worker.send(signal.SIGTERM)
        time.sleep(self._dice.uniform(0, 0.3))
        worker.send(signal.SIGQUIT)

    def send_hostile(self) -> None:
        """All that is known to have ended a worker, or some of it."""
        messages = list(MESSAGES.values())
        for message in self._dice.sample(messages, k=self._dice.randint(10, len(messages))):
            with suppress(Exception):  # the database may be away: then they do not come
                self.hostile.add(message.publish(self._system.url, "tests.chaos.tasks.late"))

    def deploy_softly(self) -> None:
        """Told to leave, and to wait for what runs until its limits are over."""
        self._replace(soft=True).send(signal.SIGQUIT)

    def _choose(self) -> Worker:
        return self._dice.choice(self._workers)

    def _replace(self, *, soft: bool | None = None) -> Worker:
        """One that is to go; another like it takes its place."""
        worker = self._choose()
        while soft is not None and soft != (worker in self._soft):
            worker = self._choose()
        self._workers.remove(worker)
        self._add(soft=worker in self._soft)
        return worker

    def _add(self, *, soft: bool) -> None:
        pool = "prefork" if soft else next(self._pools)
        worker = self._start(
            pool=pool,
            concurrency=6,
            conf={**CONF, **(SOFT if soft else {}), **self._system.conf},
            env={**self._env, **(CUSTOM if pool == "custom" else {})},
            app=self.app,
            queues=self.queues,
            wait=False,
        )
        self._workers.append(worker)
        if soft:
            self._soft.add(worker)

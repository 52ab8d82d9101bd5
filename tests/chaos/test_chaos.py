"""Break everything, on a seeded schedule, while thousands of jobs run; then ask the oracle.

PGJOBS_CHAOS_SECONDS and PGJOBS_CHAOS_SEED make it longer and repeat it (``make chaos``).
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from celery import Celery, chain

from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.embedded import EmbeddedServer

from ..conftest import close_app
from ..e2e.conftest import StartWorker, Worker, running_workers
from ..waiting import wait_for
from . import tasks

SECONDS = float(os.environ.get("PGJOBS_CHAOS_SECONDS", "8"))
SEED = int(os.environ.get("PGJOBS_CHAOS_SEED", "1"))

#: How long the rest may take when the faults are over: the producers publish three times what the
#: workers' pools can run, for some jobs take 0.3 s.
DRAIN = max(120.0, 8 * SECONDS)

LEASE = 3.0
CONF = {"pgjobs_lease": LEASE, "pgjobs_heartbeat_interval": 0.5}

#: How often each fault is chosen.
FAULTS = {
    "kill a child": 3,
    "kill a worker": 3,
    "stop a worker for longer than its lease": 1,
    "cut all connections": 3,
    "crash the database": 1,
    "deploy": 2,
}

TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'pgjobs-celery'"
)


class Producer(threading.Thread):
    """Publishes jobs of all kinds until it is stopped; ``published`` is what was acknowledged."""

    def __init__(self, app: Celery, conninfo: str, seed: int) -> None:
        super().__init__()
        self.published: dict[str, str] = {}
        self.failed = 0
        self._random = random.Random(seed)
        self._app = app
        self._conninfo = conninfo
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        kinds = {"early": 6, "late": 6, "retrying": 1, "chained": 1, "scheduled": 2, "cancelled": 1}
        while not self._stopped.wait(0.004):
            kind = self._random.choices(list(kinds), list(kinds.values()))[0]
            try:
                for task_id in getattr(self, f"publish_{kind}")():
                    self.published[task_id] = kind
            except Exception:  # whatever it was, nothing was acknowledged
                self.failed += 1

    def duration(self) -> float:
        return self._random.choice([0.0, 0.0, 0.0, 0.01, 0.05, 0.3])

    def publish_early(self) -> list[str]:
        return [tasks.early.apply_async((self.duration(),)).id]

    def publish_late(self) -> list[str]:
        return [tasks.late.apply_async((self.duration(),)).id]

    def publish_retrying(self) -> list[str]:
        return [tasks.retrying.apply_async().id]

    def publish_scheduled(self) -> list[str]:
        return [tasks.late.apply_async(countdown=self._random.uniform(0.5, 3)).id]

    def publish_chained(self) -> list[str]:
        result = chain(tasks.step.si(), tasks.step.si(), tasks.step.si()).apply_async()
        ids = []
        while result is not None:
            ids.append(result.id)
            result = result.parent
        return ids

    def publish_cancelled(self) -> list[str]:
        task_id = str(uuid4())
        tasks.early.apply_async(task_id=task_id, countdown=60)
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            done = connection.execute(
                "UPDATE pgjobs.jobs SET state = 'cancelled', finished_at = now(), due_at = NULL "
                "WHERE task_id = %s AND claimed_by IS NULL RETURNING 1",
                (task_id,),
            ).fetchall()
        return [task_id] if done else []


class Chaos:
    """Two workers, and what can be done to them and to their database."""

    def __init__(self, start: StartWorker, server: EmbeddedServer, url: str, env: dict[str, str]):
        self._server, self._conninfo, self._start, self._env = server, parse_url(url), start, env
        self.done: Counter[str] = Counter()
        self.workers: list[Worker] = []
        for pool in ("prefork", "threads"):
            self.add(pool)

    def add(self, pool: str) -> None:
        self.workers.append(
            self._start(
                pool=pool,
                concurrency=3,
                conf=CONF,
                env=self._env,
                app="tests.chaos.tasks",
                wait=False,
            )
        )

    def replace(self, worker: Worker) -> None:
        self.workers.remove(worker)
        self.add("prefork" if len(self.workers) % 2 else "threads")

    def inflict(self, fault: str, dice: random.Random) -> None:
        self.done[fault] += 1
        worker = dice.choice(self.workers)
        if fault == "kill a child":
            children = worker.children() if worker.process.poll() is None else []
            if children:
                os.kill(dice.choice(children), signal.SIGKILL)
        elif fault == "kill a worker":
            worker.kill()
            self.replace(worker)
        elif fault == "stop a worker for longer than its lease":
            worker.send(signal.SIGSTOP)
            time.sleep(LEASE + 1.5)  # the fault itself
            worker.send(signal.SIGCONT)
        elif fault == "cut all connections":
            with psycopg.connect(self._conninfo, autocommit=True) as connection:
                connection.execute(TERMINATE)
        elif fault == "crash the database":
            self._server.restart("immediate")
        elif fault == "deploy":
            worker.send(signal.SIGTERM)
            self.replace(worker)


@pytest.fixture
def chaos_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of its own: it is going to crash."""
    with EmbeddedServer(settings={"max_connections": 200}) as server:
        yield server


@pytest.mark.skipif("PGJOBS_CHAOS_SECONDS" not in os.environ, reason="takes minutes: make chaos")
@pytest.mark.timeout(SECONDS + DRAIN + 120)
def test_nothing_is_lost_and_nothing_repeats_by_accident(
    chaos_server: EmbeddedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pgjobs_celery.db import migrations

    url = chaos_server.url
    with migrations.session(parse_url(url)) as connection:
        migrations.migrate(connection, "pgjobs")
    oracle = tmp_path / "oracle"
    oracle.touch()
    tasks.app.conf.update(broker_url=url, result_backend=url)
    dice = random.Random(SEED)
    with running_workers(url, tmp_path) as start:
        chaos = Chaos(start, chaos_server, url, {"PGJOBS_CHAOS_ORACLE": str(oracle)})
        producers = [Producer(tasks.app, parse_url(url), SEED * 100 + n) for n in range(2)]
        for producer in producers:
            producer.start()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(dice.uniform(0.5, 2.0))  # the schedule of the faults
            chaos.inflict(dice.choices(list(FAULTS), list(FAULTS.values()))[0], dice)
        for producer in producers:
            producer.stop()
        published = {k: v for producer in producers for k, v in producer.published.items()}

        def unfinished() -> int:
            with psycopg.connect(parse_url(url)) as connection:
                row = connection.execute(
                    "SELECT count(*) FROM pgjobs.jobs WHERE finished_at IS NULL"
                ).fetchone()
                return int(row[0]) if row else 0

        wait_for(lambda: unfinished() == 0, DRAIN, lambda: f"{unfinished()} jobs left")
    close_app(tasks.app)
    check(url, oracle, published, chaos, sum(producer.failed for producer in producers), capsys)


def check(
    url: str, oracle: Path, published: dict[str, str], chaos: Chaos, failed: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    runs = Counter(json.loads(line)["id"] for line in oracle.read_text().splitlines())
    with psycopg.connect(parse_url(url)) as connection:
        rows: dict[str, Any] = {
            row[0]: row[1:]
            for row in connection.execute("SELECT task_id, state, attempt, task FROM pgjobs.jobs")
        }
    by_kind = Counter(published.values())
    states = Counter((published[i], rows[i][0]) for i in published if i in rows)
    repeated = Counter(published[i] for i in published if runs[i] > 1)
    with capsys.disabled():
        print(f"\nseed {SEED}, {SECONDS:.0f} s: faults {dict(chaos.done)}")
        print(f"  published {dict(by_kind)}; {failed} publishes failed")
        print(f"  ended { ({f'{k} {s}': n for (k, s), n in sorted(states.items())}) }")
        print(f"  ran more than once {dict(repeated)}; {sum(runs.values())} runs in all")
    assert sum(chaos.done.values()) >= 3
    assert [i for i in published if i not in rows] == [], "lost"
    assert [i for i, row in rows.items() if row[0] == "executing"] == []
    assert [i for i, k in published.items() if k == "cancelled" and runs[i]] == []
    assert [i for i, k in published.items() if k == "early" and runs[i] > 1] == [], "ran twice"
    never = [i for i, k in published.items() if k in ("late", "scheduled") and not runs[i]]
    assert never == []
    assert [i for i, row in rows.items() if row[0] == "completed" and not runs[i]] == []
    for kind in ("late", "scheduled", "retrying", "chained"):
        ended = {s for (k, s) in states if k == kind}
        assert ended <= {"completed"}, f"{kind}: {states}"

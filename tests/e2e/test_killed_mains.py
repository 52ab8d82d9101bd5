"""A worker's main process is killed just when it writes what its tasks have come to.

The row tells the truth afterwards: what arrived counts, what did not runs again (late ack) or is
discarded (early ack), and whatever it is, it agrees with what has run.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import Celery, chain

from pgjobs_celery.db.dsn import parse_url

from ..support.networks import TO_CLIENT, TO_SERVER, Network
from ..support.waiting import wait_for
from . import stalls
from .conftest import StartWorker, Worker, producing
from .rows import Rows, assert_finished, errors

#: Of a dead worker others hear soon; and nothing but the end of a task makes it look for jobs.
CONF = {
    "pgjobs_lease": 1.5,
    "pgjobs_heartbeat_interval": 0.3,
    "broker_transport_options": {"poll_interval": 300.0},
}
EARLY = ("early", "ignored")

#: The chain's next step is for the worker that follows: the one that is killed must not claim it.
NEXT = "next"

#: Somebody writes outcomes, or waits to.
WAITS = """
    SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ '"pgjobs".jobs'
"""


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    """The workers' app, here as the producer."""
    with producing(stalls.app, url) as app:
        yield app


class Scene:
    """One task of each kind, and of a chain, and what they have done."""

    def __init__(self, rows: Rows, folder: Path) -> None:
        self.rows = rows
        self._path, self._release = folder / "events", folder / "release"
        self._path.touch()

    def begin(self) -> None:
        given = (str(self._path), str(self._release))
        self._results: dict[str, Any] = {
            kind.name.rpartition(".")[2]: kind.delay(*given) for kind in stalls.KINDS
        }
        self._next = chain(
            stalls.first_step.si(*given),
            stalls.next_step.s(path=str(self._path)).set(queue=NEXT),
        ).apply_async()
        self._results["first_step"] = self._next.parent
        self._wait_for("begin")

    def end(self) -> None:
        """Each of them comes to its end; there is only to be written what that was."""
        self._release.touch()
        self._wait_for("end")

    def completed(self) -> int:
        return self.rows.count().get("completed", 0)

    def verify(self) -> Counter[str]:
        """What the rows say is what has happened; how many ended how."""
        rows = {
            name: self.rows.wait(result.id, timeout=30) for name, result in self._results.items()
        }
        assert_finished(self.rows.wait(self._next.id, timeout=20))
        assert self._next.get(timeout=5) == "first_step"
        events = self._events()
        assert events["next step"] == 1
        for name, row in rows.items():
            assert row["attempt"] == events[f"begin {name}"], name
            lost = row["attempt"] - (row["state"] == "completed")
            assert errors(row) == [(n + 1, "WorkerLostError") for n in range(lost)], name
            if name in EARLY:
                assert_finished(row, "discarded" if lost else "completed")
            else:
                assert_finished(row, attempt=row["attempt"])
        return Counter(
            "lost" if row["attempt"] > 1 or row["state"] == "discarded" else "written"
            for row in rows.values()
        )

    def _wait_for(self, event: str) -> None:
        wait_for(
            lambda: all(self._events()[f"{event} {name}"] for name in self._results),
            message=self._events,
        )

    def _events(self) -> Counter[str]:
        return Counter(self._path.read_text().splitlines())


@contextmanager
def before(network: Network, url: str, scene: Scene) -> Iterator[None]:
    """Nothing of it arrives any more."""
    network.answers = False
    network.swallow(lost=(TO_SERVER,))
    scene.end()
    yield


@contextmanager
def within(network: Network, url: str, scene: Scene) -> Iterator[None]:
    """The server has it, and waits for rows that somebody has locked."""
    with psycopg.connect(parse_url(url)) as holder:
        holder.execute("SELECT FROM pgjobs.jobs FOR UPDATE")
        scene.end()
        wait_for(lambda: scene.rows.select(WAITS))
        yield


@contextmanager
def after(network: Network, url: str, scene: Scene) -> Iterator[None]:
    """It is committed, and the worker does not hear that it is."""
    with within(network, url, scene):
        # Only now: a worker that still waited for another answer would not have sent it.
        network.answers = False
        network.swallow(lost=(TO_CLIENT,))
    wait_for(scene.completed)
    yield


Moment = Callable[[Network, str, Scene], Any]


@pytest.mark.parametrize("moment", [before, within, after], ids=lambda moment: moment.__name__)
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_row_tells_the_truth_of_what_its_worker_was_killed_in_writing(
    pool: str,
    moment: Moment,
    worker: StartWorker,
    app: Celery,
    rows: Rows,
    url: str,
    tmp_path: Path,
) -> None:
    scene = Scene(rows, tmp_path)
    with Network(url) as network:
        started: Worker = worker(
            pool=pool, broker=network.url, concurrency=8, app="tests.e2e.stalls", conf=CONF
        )
        scene.begin()
        with moment(network, url, scene):
            # Its children live on, and write what they can.
            started.send(signal.SIGKILL)
            started.process.wait()
        network.answers = True
        network.cut()
        worker(pool=pool, concurrency=8, app="tests.e2e.stalls", conf=CONF, queues=["celery", NEXT])
        ends = scene.verify()
    if moment is before and pool == "threads":
        assert ends == {"lost": 6}
    assert ends["lost" if moment is before else "written"] > 0

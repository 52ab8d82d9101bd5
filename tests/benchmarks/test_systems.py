"""Each system that is here does the work: a few tasks, published, run once each, and settled."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import amqp
import pytest

from benchmarks.errors import Unavailable, WrongOutcome
from benchmarks.hits import Tally, record
from benchmarks.measures.backlog import SIZES, Backlog
from benchmarks.measures.base import ON_POSTGRESQL, QUEUES, Measure, Scale, prepared
from benchmarks.measures.bulk import Bulk
from benchmarks.measures.drain import Drain
from benchmarks.measures.enqueue import Enqueue
from benchmarks.measures.network import ADDED, Network
from benchmarks.measures.price import COUNTED, Price
from benchmarks.processes import run_producer
from benchmarks.systems import SYSTEMS, System
from benchmarks.workers import PREFORK, THREADS

pytestmark = pytest.mark.e2e

#: One private Redis and one RabbitMQ stand for their sisters, whose settings are looked at below.
SISTERS = {"pgjobs-relaxed", "redis-aof-no", "redis-aof-everysec", "rabbitmq", "rabbitmq-confirms"}
#: Each runs a worker; ``redis`` and ``arq`` do not: they would flush two databases of the server.
HERE = [name for name in SYSTEMS if name not in {"redis", "arq", *SISTERS}]

#: Enough tasks for a worker's CPU to be seen, which is counted in hundredths of a second.
FEW = dataclasses.replace(
    Scale.quick(),
    tasks=200,
    enqueued=30,
    published=50,
    remote=5,
    shrink=100,
    first=20,
    patience=100,
)


@contextlib.contextmanager
def started(name: str) -> Iterator[System]:
    system = SYSTEMS[name]()
    try:
        try:
            system.start()
        except Unavailable as error:
            pytest.skip(str(error))
        yield system
    finally:
        system.stop()


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch, server_url: str) -> None:
    """The tests' own PostgreSQL."""
    monkeypatch.setenv("PGJOBS_BENCH_DSN", server_url)


def measured(measure: Measure, name: str) -> dict[str, float]:
    with started(name) as system, prepared(system, FEW) as run:
        return measure.run(run)


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("name", HERE)
def test_each_system_runs_each_task_once(name: str, request: pytest.FixtureRequest):
    if name.startswith("rabbitmq"):
        request.getfixturevalue("rabbitmq_url")
    values = measured(Drain(THREADS, results=False), name)
    assert values["rate"] > 0
    assert values["worker"] >= 0  # in ticks of 10 ms, of which so few tasks may take none
    assert ("server" in values) == (name != "free")


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize(
    "name", ["pgjobs-relaxed", "free", "procrastinate", "pgqueuer", "chancy", "oban"]
)
def test_each_task_that_is_published_is_there_when_the_call_returns(name: str):
    assert measured(Enqueue(), name)["rate"] > 0


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("name", sorted(QUEUES))
def test_two_processes_publish_to_a_queue_at_a_time(name: str):
    values = measured(Bulk(), name)
    assert values["many"] > 0
    assert values["many2"] > 0


@pytest.mark.parametrize("policy", ["no", "everysec", "always"])
def test_each_private_redis_syncs_as_its_name_says(policy: str):
    with started(f"redis-aof-{policy}") as system:
        assert f"appendfsync {policy}" in system.version()


def test_a_quorum_queue_is_one(rabbitmq_url: str):
    with started("rabbitmq-quorum") as system, prepared(system, FEW) as run:
        run_producer(run.environment(results=False), "enqueue", "1")
        with pytest.raises(amqp.exceptions.PreconditionFailed, match="x-queue-type"):
            system._channel.queue_declare(run.queue, durable=True, auto_delete=False)
        system._channel = system._connection.channel()


def test_the_ceiling_keeps_celerys_window_in_a_prefork_pool_with_results():
    assert measured(Drain(PREFORK, results=True), "free")["rate"] > 0


@pytest.mark.usefixtures("servers")
def test_a_backlog_is_not_worked_off():
    backlog = Backlog()
    backlog.sizes = SIZES[1:2]
    assert set(measured(backlog, "pgjobs")) == {f"rate{SIZES[1]}"}


@pytest.mark.usefixtures("servers")
def test_a_network_makes_calls_slower():
    values = measured(Network(), "pgjobs")
    near, far = ADDED[0], ADDED[-1]
    assert values[f"echo{far}"] >= far
    assert values[f"call{far}"] >= far
    assert values[f"call{near}"] < values[f"call{far}"]


@pytest.mark.usefixtures("servers")
def test_the_price_of_a_job_is_counted_by_the_server():
    values = measured(Price(), "pgjobs")
    keys = {f"{key}_{half}" for key in COUNTED for half in ("publish", "work")}
    assert set(values) - {"flushes_publish", "flushes_work"} == {
        *(key for key in keys if not key.startswith("flushes")),
        "waiting",
        "kept",
    }
    assert values["wal_publish"] > 100
    assert values["transactions_publish"] >= 1
    assert values["rows_publish"] >= 1
    assert values["kept"] > 100


def test_a_run_counts_a_task_that_ran_twice(tmp_path):
    for index in (0, 1, 1):
        record(str(tmp_path), index)
    with pytest.raises(WrongOutcome, match="1 ran more than once"):
        Tally(tmp_path).verify(2)
    with pytest.raises(WrongOutcome, match="1 ran more than once"):
        Tally(tmp_path).verify_distinct()


def test_every_postgresql_system_has_a_database_of_its_own():
    names = [SYSTEMS[name].database for name in ON_POSTGRESQL]  # type: ignore[attr-defined]
    assert len(set(names)) == len(names)
    assert all(name.startswith("pgjobs_bench") for name in names)

"""The measures, in the order of the report."""

from benchmarks.measures.backlog import Backlog, HugeBacklog
from benchmarks.measures.base import BROKERS, QUEUES, Measure, Metric, Scale
from benchmarks.measures.bulk import Bulk
from benchmarks.measures.chord import Chord
from benchmarks.measures.drain import Drain
from benchmarks.measures.enqueue import Enqueue
from benchmarks.measures.eta import Eta
from benchmarks.measures.events import Events
from benchmarks.measures.exact import Exactness
from benchmarks.measures.flow import Flow
from benchmarks.measures.growth import Bodies, IdleWorkers, ManyQueues
from benchmarks.measures.idle import Idle
from benchmarks.measures.latency import Latency
from benchmarks.measures.network import Network
from benchmarks.measures.price import Price
from benchmarks.measures.transaction import Transaction
from benchmarks.measures.unique import Uniqueness
from benchmarks.measures.waiting import Waiting
from benchmarks.workers import PREFORK, SOLO, THREADS, Pool

__all__ = ["MEASURES", "Measure", "Metric", "Scale"]

MEASURES: tuple[Measure, ...] = (
    Enqueue(),
    Bulk(),
    Transaction("noop", "a Celery task"),
    Transaction("pgtask", "a PgTask"),
    Drain(PREFORK, results=False, beside=BROKERS - {"rabbitmq-confirms"}),
    Drain(THREADS, results=False, beside=frozenset({"free", "sqla", "pgmq"}) | QUEUES),
    Drain(SOLO, results=False),
    Drain(PREFORK, results=True, beside=frozenset({"free", "sqla", "pgmq"})),
    Drain(THREADS, results=True),
    Drain(SOLO, results=True),
    Events(PREFORK, is_heard=False),
    Events(PREFORK, is_heard=True),
    Events(THREADS, is_heard=False),
    Events(THREADS, is_heard=True),
    Latency(),
    Network(),
    Backlog(),
    HugeBacklog(),
    ManyQueues(),
    IdleWorkers(),
    Bodies(),
    Price(),
    Chord(),
    Eta(),
    Idle(),
    Uniqueness(),
    Flow(),
    Exactness(keys=1_000, limit=10),
    Exactness(keys=100, limit=100),
    *(
        Waiting(Pool(pool, concurrency), tasks, seconds)
        for tasks, seconds, concurrency in (
            (2_000, 5.0, 2_000),
            (10_000, 1.0, 2_000),
            (5_000, 0.0, 100),
        )
        for pool in ("custom", "gevent", "threads")
    ),
)

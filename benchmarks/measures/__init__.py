"""The measures, in the order of the report."""

from benchmarks.measures.base import Measure, Metric, Scale
from benchmarks.measures.bulk import Bulk
from benchmarks.measures.chord import Chord
from benchmarks.measures.drain import Drain
from benchmarks.measures.enqueue import Enqueue
from benchmarks.measures.eta import Eta
from benchmarks.measures.events import Events
from benchmarks.measures.idle import Idle
from benchmarks.measures.latency import Latency
from benchmarks.measures.transaction import Transaction
from benchmarks.measures.unique import Uniqueness
from benchmarks.workers import PREFORK, SOLO, THREADS

__all__ = ["MEASURES", "Measure", "Metric", "Scale"]

MEASURES: tuple[Measure, ...] = (
    Enqueue(),
    Bulk(),
    Transaction("noop", "a Celery task"),
    Transaction("pgtask", "a PgTask"),
    Drain(PREFORK, results=False, durable=True),
    Drain(THREADS, results=False),
    Drain(SOLO, results=False),
    Drain(PREFORK, results=True),
    Drain(THREADS, results=True),
    Drain(SOLO, results=True),
    Events(PREFORK, is_heard=False),
    Events(PREFORK, is_heard=True),
    Events(THREADS, is_heard=False),
    Events(THREADS, is_heard=True),
    Latency(),
    Chord(),
    Eta(),
    Idle(),
    Uniqueness(),
)

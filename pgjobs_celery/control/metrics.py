"""What a scrape shows, read from the database: a few small tables, whatever the jobs are.

:data:`METRICS` names all of it; :func:`read_metrics` reads it. Prometheus, OpenTelemetry and JSON
are made of that.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..db.deadline import answered_by
from ..job.pauses import KINDS, kinds_of
from ..maintenance.history import OTHER, RUNTIMES, WAITS
from ..scopes.steady import monotonic

if TYPE_CHECKING:
    from uuid import UUID

    from ..db.database import Database
    from ..db.rows.metrics import Key, Line, Server, Waiting, WorkerRow

#: How many parked jobs are counted.
PARKED = 10_000
#: How many jobs of a lane are counted.
WAITING_DEPTH = 100
#: How many jobs that sleep or wait are counted, and how many signals.
WAITS_DEPTH = 10_000
#: How long the database may take for all of it, in seconds.
ANSWER_SECONDS = 10.0


class Metric(NamedTuple):
    """A name that a scrape may show."""

    #: counter, gauge or histogram. The samples of a counter end in ``_total``.
    kind: str
    labels: tuple[str, ...]
    help: str


_TASK = ("name", "queue_name")
_QUEUE = ("queue_name",)
_WORKER = ("hostname",)
_FLOW = ("flow",)

#: Every metric. Those of ``celery_`` bear the names that celery-exporter gives them.
METRICS: dict[str, Metric] = {
    "celery_task_received": Metric(
        "counter", _TASK, "Attempts that have ended, in whatever way but by being revoked."
    ),
    "celery_task_started": Metric(
        "counter", _TASK, "The same: an attempt begins when a worker receives it."
    ),
    "celery_task_succeeded": Metric("counter", _TASK, "Jobs that have completed."),
    "celery_task_failed": Metric(
        "counter", (*_TASK, "exception"), "Jobs that have failed for good: they were discarded."
    ),
    "celery_task_retried": Metric(
        "counter", _TASK, "Attempts that have failed and were followed by another."
    ),
    "celery_task_revoked": Metric("counter", _TASK, "Jobs that were cancelled, expired or purged."),
    "pgjobs_task_snoozed": Metric("counter", _TASK, "Attempts that ended with Snooze."),
    "pgjobs_task_rescued": Metric(
        "counter", _TASK, "Attempts whose worker died, and whose jobs went back in line."
    ),
    "celery_task_runtime": Metric(
        "histogram", _TASK, "Seconds that the last attempts of completed jobs took."
    ),
    "celery_task_queue_wait_time": Metric(
        "histogram",
        _TASK,
        "Seconds from the time when a job was due to when its last attempt was claimed.",
    ),
    "celery_queue_length": Metric("gauge", _QUEUE, "Jobs that may be claimed now."),
    "pgjobs_jobs": Metric("gauge", (*_QUEUE, "state"), "Jobs that have not ended, by state."),
    "pgjobs_oldest_ready_seconds": Metric(
        "gauge", _QUEUE, "For how long the oldest job has been due that may be claimed."
    ),
    "pgjobs_jobs_waiting": Metric(
        "gauge",
        (*_TASK, "for"),
        "Jobs that sleep (for=sleep) or wait for a signal (for=signal), counted up to 10,000.",
    ),
    "pgjobs_signals_kept": Metric(
        "gauge", (), "Signals that no job has taken, counted up to 10,000."
    ),
    "pgjobs_signals_sent": Metric("counter", (), "Signals that were sent."),
    "pgjobs_steps_done": Metric(
        "counter", (), "Steps, sleeps and waits of jobs that were remembered."
    ),
    "pgjobs_queue_paused": Metric("gauge", _QUEUE, "1 while the queue is paused."),
    "pgjobs_queue_limit": Metric(
        "gauge", _QUEUE, "How many of its jobs may run at once; only of queues with a limit."
    ),
    "pgjobs_queue_max_depth": Metric(
        "gauge", _QUEUE, "How many of its jobs may wait; only of queues with a maximum depth."
    ),
    "pgjobs_pauses": Metric("gauge", ("kind",), "Pauses that hold, of tasks, tags and keys."),
    "pgjobs_flow_limit": Metric(
        "gauge", _FLOW, "How many starts in its period, or jobs at once, a rule allows of each key."
    ),
    "pgjobs_flow_used": Metric("gauge", _FLOW, "How many of those its busiest key has used."),
    "pgjobs_flow_keys": Metric("gauge", _FLOW, "Keys of a rule that are in use."),
    "pgjobs_flow_waiting": Metric(
        "gauge", _FLOW, "Jobs that wait in lanes of a rule, counted up to 100 in each of 1,000."
    ),
    "pgjobs_flow_waiting_keys": Metric("gauge", _FLOW, "Keys of a rule for which jobs wait."),
    "pgjobs_paused_jobs": Metric(
        "gauge", ("kind",), "Jobs that are parked for pauses of tasks, tags and keys, up to 10,000."
    ),
    "pgjobs_throttled": Metric(
        "counter",
        (*_QUEUE, "reason"),
        "Looks of workers at a queue that left jobs waiting for a token, or for a job to end.",
    ),
    "celery_worker_up": Metric("gauge", _WORKER, "1 while the worker is within its lease."),
    "celery_worker_tasks_active": Metric("gauge", _WORKER, "Jobs that the worker holds."),
    "celery_active_worker_count": Metric("gauge", _QUEUE, "Live workers that consume the queue."),
    "celery_active_consumer_count": Metric(
        "gauge", _QUEUE, "The same: a worker consumes a queue once."
    ),
    "celery_active_process_count": Metric(
        "gauge", _QUEUE, "How many tasks these workers can run at once, of whatever queue."
    ),
    "pgjobs_worker_lost_claims": Metric(
        "counter",
        _WORKER,
        "Attempts that the worker brought to an end when others had taken the jobs already.",
    ),
    "pgjobs_schedule_entries": Metric(
        "gauge", ("app", "state"), "Entries of beat, by state: active or paused."
    ),
    "pgjobs_schedule_late_seconds": Metric(
        "gauge", ("app",), "For how long the entry that is due first has been due."
    ),
    "pgjobs_table_live_rows": Metric("gauge", (), "Rows of jobs, as the statistics have it."),
    "pgjobs_table_dead_rows": Metric("gauge", (), "Dead rows of jobs that VACUUM has to remove."),
    "pgjobs_table_bytes": Metric("gauge", (), "Size of jobs with its indexes."),
    "pgjobs_oldest_xmin_age": Metric(
        "gauge", (), "Age in transactions of the oldest snapshot, which holds up VACUUM."
    ),
    "pgjobs_oldest_transaction_seconds": Metric(
        "gauge", (), "Age of the oldest open transaction in the database."
    ),
    "pgjobs_notify_queue_usage_ratio": Metric(
        "gauge", (), "How full the server's queue of notifications is, from 0 to 1."
    ),
    "pgjobs_connections": Metric("gauge", (), "Connections of clients to the server."),
    "pgjobs_max_connections": Metric("gauge", (), "How many there may be."),
    "pgjobs_fold_age_seconds": Metric(
        "gauge", (), "When the counters were brought up to date: so many seconds ago."
    ),
    "pgjobs_count_age_seconds": Metric(
        "gauge", (), "When the jobs in line were counted: so many seconds ago."
    ),
    "pgjobs_scrape_seconds": Metric("gauge", (), "How long this scrape took to read."),
}

#: The counters by the kind that they are kept under.
_COUNTERS = {
    "received": ("celery_task_received", "celery_task_started"),
    "succeeded": ("celery_task_succeeded",),
    "failed": ("celery_task_failed",),
    "retried": ("celery_task_retried",),
    "revoked": ("celery_task_revoked",),
    "snoozed": ("pgjobs_task_snoozed",),
    "rescued": ("pgjobs_task_rescued",),
}
_HISTOGRAMS = {
    "runtime": ("celery_task_runtime", RUNTIMES),
    "wait": ("celery_task_queue_wait_time", WAITS),
}

Labels = tuple[str, ...]


@dataclass
class Histogram:
    """How many observations are in each bucket, the last for those above all bounds."""

    bounds: Sequence[float]
    counts: list[int] = field(default_factory=list)
    #: The sum of what was observed, in seconds.
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)


@dataclass
class Reading:
    """The samples of each metric, by their labels."""

    values: dict[str, dict[Labels, float]] = field(
        default_factory=lambda: {
            name: {} for name, metric in METRICS.items() if metric.kind != "histogram"
        }
    )
    histograms: dict[str, dict[Labels, Histogram]] = field(
        default_factory=lambda: {name: {} for name, _ in _HISTOGRAMS.values()}
    )

    def put(self, name: str, value: float | None, *labels: str) -> None:
        """Show a value; None is none."""
        if value is not None:
            self.values[name][labels] = value


def read_metrics(database: Database, limit: int) -> Reading:
    """Read all metrics; ``limit``: how many queues are shown apart.

    Raises :class:`~pgjobs_celery.db.deadline.OutOfTime` after ANSWER_SECONDS, and what any
    statement does without a server.
    """
    began, rows, reading = time.perf_counter(), database.metrics, Reading()
    with answered_by(monotonic() + ANSWER_SECONDS):
        add_totals(reading, rows.list_totals())
        lines = rows.list_lines()
        workers = rows.list_workers()
        lateness = rows.list_lateness()
        server = rows.look_at_server()
        waits, kept = rows.count_waits(WAITS_DEPTH), rows.count_signals(WAITS_DEPTH)
        add_flows(reading, database, limit)
    queues = shown_queues(lines, limit)
    add_lines(reading, lines, queues)
    add_workers(reading, workers, lines, queues)
    add_waits(reading, waits, queues)
    reading.put("pgjobs_signals_kept", kept)
    for app, entries, paused, late in lateness:
        reading.put("pgjobs_schedule_entries", entries - paused, app, "active")
        reading.put("pgjobs_schedule_entries", paused, app, "paused")
        reading.put("pgjobs_schedule_late_seconds", late, app)
    add_server(reading, server)
    reading.put("pgjobs_scrape_seconds", time.perf_counter() - began)
    return reading


def add_totals(reading: Reading, totals: Iterable[tuple[Key, dict[int, int], float]]) -> None:
    """Show the counters and histograms of tasks."""
    for key, counts, seconds in totals:
        labels: Labels = (key.task, key.queue)
        if key.kind in _HISTOGRAMS:
            name, bounds = _HISTOGRAMS[key.kind]
            histogram = reading.histograms[name].setdefault(labels, Histogram(bounds))
            for bucket, count in counts.items():
                histogram.counts[min(bucket, len(bounds))] += count
            histogram.sum += seconds
        if key.kind == "throttled":
            reading.put("pgjobs_throttled", sum(counts.values()), key.queue, key.exception)
        for name in _COUNTERS.get(key.kind, ()):
            if name == "celery_task_failed":
                labels = (*labels, key.exception)
            values = reading.values[name]
            values[labels] = values.get(labels, 0) + sum(counts.values())


def shown_queues(lines: Sequence[Line], limit: int) -> set[str]:
    """The queues that are shown by their names."""
    return set(sorted({line.queue for line in lines})[:limit])


def add_lines(reading: Reading, lines: Sequence[Line], queues: set[str]) -> None:
    """Show what is in the queues; those that are not among ``queues`` together."""
    length, oldest = (
        reading.values["celery_queue_length"],
        reading.values["pgjobs_oldest_ready_seconds"],
    )
    states = reading.values["pgjobs_jobs"]
    for line in lines:
        queue = line.queue if line.queue in queues else OTHER
        labels = (queue,)
        length.setdefault(labels, 0)
        oldest.setdefault(labels, 0.0)
        if line.state is not None:
            states[queue, line.state] = states.get((queue, line.state), 0) + line.jobs
        if line.state == "available":
            length[labels] += line.jobs
            oldest[labels] = max(oldest[labels], line.oldest)
        if line.queue in queues:
            reading.put("pgjobs_queue_paused", int(line.is_paused), queue)
            reading.put("pgjobs_queue_limit", line.concurrency, queue)


def add_workers(
    reading: Reading, workers: Iterable[WorkerRow], lines: Iterable[Line], queues: set[str]
) -> None:
    """Show the workers; of two with the same name, what they are together."""
    held: dict[UUID | None, int] = defaultdict(int)
    for line in lines:
        held[line.node] += line.jobs
    up, active = reading.values["celery_worker_up"], reading.values["celery_worker_tasks_active"]
    lost = reading.values["pgjobs_worker_lost_claims"]
    consumers: dict[Labels, float] = {(queue,): 0 for queue in queues}
    slots = consumers.copy()
    for worker in workers:
        labels = (worker.name,)
        up[labels] = max(up.get(labels, 0), int(worker.is_alive))
        active[labels] = active.get(labels, 0) + held[worker.node]
        lost[labels] = lost.get(labels, 0) + worker.lost_claims
        for queue in worker.queues if worker.is_alive else ():
            if (queue,) in consumers:
                consumers[queue,] += 1
                slots[queue,] += worker.slots
    for name in ("celery_active_worker_count", "celery_active_consumer_count"):
        reading.values[name].update(consumers)
    reading.values["celery_active_process_count"].update(slots)


def add_flows(reading: Reading, database: Database, limit: int) -> None:
    """Show the rules, up to ``limit``: a sample for each, and none for a key."""
    for queue in database.limits.list_queues()[:limit]:
        reading.put("pgjobs_queue_max_depth", queue.max_depth, queue.name)
    kinds = Counter(pause.kind for pause in database.rules.list_pauses())
    for kind in KINDS:
        reading.put("pgjobs_pauses", kinds[kind], kind)
        reading.put("pgjobs_paused_jobs", 0, kind)
    paused = reading.values["pgjobs_paused_jobs"]
    for lane, jobs in database.rules.count_parked(PARKED).items() if kinds else ():
        for kind in kinds_of(lane):
            paused[kind,] += jobs
    rules = database.rules.list_rules(limit=limit)
    if not rules:
        return
    names = {rule.flow for rule in rules}
    for rule in rules:
        reading.put("pgjobs_flow_limit", rule.amount, rule.flow)
        for name in ("used", "keys", "waiting", "waiting_keys"):
            reading.put(f"pgjobs_flow_{name}", 0, rule.flow)
    for gate in database.rules.look_at_gates(names):
        reading.put("pgjobs_flow_used", gate.used, gate.flow)
        reading.put("pgjobs_flow_keys", gate.gates, gate.flow)
    for line in database.rules.count_waiting(names, depth=WAITING_DEPTH):
        for name, more in (("waiting", line.jobs), ("waiting_keys", 1)):
            values = reading.values[f"pgjobs_flow_{name}"]
            values[line.flow,] += more


def add_waits(reading: Reading, waits: Iterable[Waiting], queues: set[str]) -> None:
    """Show the jobs that sleep or wait; of queues that are not shown apart, together."""
    values = reading.values["pgjobs_jobs_waiting"]
    for wait in waits:
        queue = wait.queue if wait.queue in queues else OTHER
        labels = (wait.task, queue, "signal" if wait.is_for_signal else "sleep")
        values[labels] = values.get(labels, 0) + wait.jobs


def add_server(reading: Reading, server: Server) -> None:
    """Show the server and the table."""
    for name, value in {
        "pgjobs_table_live_rows": server.live_rows,
        "pgjobs_table_dead_rows": server.dead_rows,
        "pgjobs_table_bytes": server.bytes,
        "pgjobs_oldest_xmin_age": server.xmin_age,
        "pgjobs_oldest_transaction_seconds": server.transaction_age,
        "pgjobs_notify_queue_usage_ratio": server.notify_usage,
        "pgjobs_connections": server.connections,
        "pgjobs_max_connections": server.max_connections,
        "pgjobs_fold_age_seconds": server.fold_age,
        "pgjobs_count_age_seconds": server.count_age,
        "pgjobs_steps_done": server.steps,
        "pgjobs_signals_sent": server.signals,
    }.items():
        reading.put(name, value)


def as_data(reading: Reading) -> dict[str, Any]:
    """All samples for machines: under each metric a list of labels and values, in seconds."""
    data: dict[str, Any] = {}
    for name, metric in METRICS.items():
        samples: list[dict[str, Any]] = []
        for labels, value in reading.values.get(name, {}).items():
            samples.append({**dict(zip(metric.labels, labels, strict=True)), "value": value})
        for labels, histogram in reading.histograms.get(name, {}).items():
            samples.append(
                {
                    **dict(zip(metric.labels, labels, strict=True)),
                    "bounds": list(histogram.bounds),
                    "counts": histogram.counts,
                    "sum": histogram.sum,
                }
            )
        data[name] = samples
    return data

"""Which of the readings the README's chart shows, as plain values."""

import statistics
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.measures.chord import Chord
from benchmarks.measures.drain import Drain
from benchmarks.measures.enqueue import Enqueue
from benchmarks.measures.latency import Latency
from benchmarks.workers import PREFORK, SOLO, THREADS

SUBJECT = "pgjobs"

#: What the bars of a group stand for, from top to bottom.
LEGEND = {"pgjobs": "pgjobs-celery (PostgreSQL)", "redis": "Redis", "rabbitmq": "RabbitMQ"}

#: The systems that are set up to commit to disk, as pgjobs always does.
DURABLE = {"redis": "redis-aof-always", "rabbitmq": "rabbitmq-confirms"}


#: Celery has no chords with rpc:// results.
NO_CHORDS = {"rabbitmq": "no chords with rpc:// results"}


@dataclass(frozen=True)
class Group:
    """The bars of one metric: the medians of LEGEND's systems; None where a system has none."""

    label: str
    values: dict[str, float | None]
    #: Systems that cannot do it, and why; shown in place of a bar.
    absent: dict[str, str] = field(default_factory=dict)

    def ratio(self, peer: str) -> float | None:
        """The subject's median divided by the peer's."""
        ours, theirs = self.values[SUBJECT], self.values[peer]
        return ours / theirs if ours is not None and theirs else None


@dataclass(frozen=True)
class Panel:
    """Groups that share a scale."""

    title: str
    digits: int
    groups: list[Group]


#: The measures that the chart shows.
CHARTED = {
    *(
        Drain(pool, results=each).title
        for pool in (PREFORK, THREADS, SOLO)
        for each in (False, True)
    ),
    *(Enqueue.title, Latency.title, Chord.title),
}


def read_panels(data: dict[str, Any]) -> list[Panel]:
    """The chart's panels from what ``--json`` has written."""

    def group(label: str, measure: str, metric: str, others: dict[str, str] | None = None) -> Group:
        readings = data["readings"].get(measure, {}).get(metric, {})
        found = {name: readings.get((others or {}).get(name, name)) for name in LEGEND}
        return Group(
            label, {name: statistics.median(v) if v else None for name, v in found.items()}
        )

    return [
        Panel(
            "Tasks per second from a full queue",
            0,
            [
                group(f"{pool}, results {what}", Drain(pool, results=results).title, "rate")
                for results, what in ((False, "ignored"), (True, "stored"))
                for pool in (PREFORK, THREADS, SOLO)
            ],
        ),
        Panel(
            "delay() per second, one by one",
            0,
            [
                group("as each is by default", Enqueue.title, "rate"),
                group("all committed to disk", Enqueue.title, "rate", DURABLE),
            ],
        ),
        Panel(
            "Latency, median, ms (less is better)",
            1,
            [
                group("delay() to start", Latency.title, "start50"),
                group("delay().get()", Latency.title, "trip50"),
            ],
        ),
        Panel(
            "A chord of 1,000 tasks, s (less is better)",
            1,
            [replace(group("publish to result", Chord.title, "chord"), absent=NO_CHORDS)],
        ),
    ]


def find_gaps(panels: list[Panel]) -> list[str]:
    """The bars that a whole run of the harness has, and these readings have not."""
    return [
        f"{panel.title}: {group.label}, {name}"
        for panel in panels
        for group in panel.groups
        for name, value in group.values.items()
        if value is None and name not in group.absent
    ]

"""Write the tables of benchmarks/README.md: ``python -m benchmarks.table``.

They come from the newest readings. What stands between the two marks there is replaced; a test
compares it with the readings. Rows that the readings do not have are left out.
"""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measures.backlog import SIZES, Backlog
from benchmarks.measures.chord import Chord
from benchmarks.measures.drain import Drain
from benchmarks.measures.enqueue import Enqueue
from benchmarks.measures.eta import Eta
from benchmarks.measures.growth import BODIES, QUEUES, WORKERS, Bodies, IdleWorkers, ManyQueues
from benchmarks.measures.idle import Idle
from benchmarks.measures.latency import Latency
from benchmarks.measures.network import ADDED, Network
from benchmarks.measures.price import Price
from benchmarks.panels import DURABLE, LEGEND, SUBJECT
from benchmarks.processes import ROOT
from benchmarks.report import markdown_row
from benchmarks.systems import SYSTEMS
from benchmarks.workers import PREFORK, SOLO, THREADS, Pool

RESULTS = ROOT / "benchmarks" / "results"
BEGIN = "<!-- begin: written by python -m benchmarks.table -->"
END = "<!-- end: written by python -m benchmarks.table -->"

#: The columns of the first table, and the ceiling where it was measured.
COLUMNS = {"pgjobs": "PostgreSQL", "redis": "Redis", "rabbitmq": "RabbitMQ", "free": "Celery alone"}

#: The plots that write_plots() makes, and what they show.
PLOTS = {
    "drain": "Tasks per second from a full queue, every system",
    "latency": "How many tasks have started, and how many results are back, after so many ms",
    "backlog": "Tasks per second with so many tasks waiting",
    "growth": "Tasks per second from many queues and with long bodies; a start beside idle workers",
    "network": "What delay() takes when the network takes longer",
    "cpu": "CPU seconds for 1,000 tasks: the worker's and the server's",
}


def drain(pool: Pool, results: bool = False) -> str:
    return Drain(pool, results=results).title


@dataclass(frozen=True)
class Row:
    """A line of the first table: one measure, one metric or several beside each other."""

    label: str
    measure: str
    metrics: tuple[str, ...]
    digits: int = 0
    #: Systems that stand in for those of a column.
    instead: Mapping[str, str] = field(default_factory=dict)


ROWS = (
    *(
        Row(f"drain{what}, {pool}, tasks/s", drain(pool, results), ("rate",))
        for results, what in ((False, ""), (True, " with results"))
        for pool in (PREFORK, THREADS, SOLO)
    ),
    Row("`delay()` one by one, per second", Enqueue.title, ("rate",)),
    Row("the same, committed to disk there too", Enqueue.title, ("rate",), instead=DURABLE),
    Row("`delay()` to start, idle worker, p50 / p95, ms", Latency.title, ("start50", "start95"), 1),
    Row("`delay().get()`, p50 / p95, ms", Latency.title, ("trip50", "trip95"), 1),
    Row("`delay()` to start, p99, ms", Latency.title, ("start99",), 1),
    Row("`delay().get()`, p99, ms", Latency.title, ("trip99",), 1),
    Row("`delay()` with 0 / 1 / 5 ms more per round trip, ms", Network.title,
        tuple(f"call{ms}" for ms in ADDED), 1),
    Row("tasks/s with " + " / ".join(f"{size:,}" for size in SIZES) + f" waiting, {THREADS}",
        Backlog.title, tuple(f"rate{size}" for size in SIZES)),
    Row("tasks/s from " + " / ".join(f"{count:,}" for count in QUEUES) + f" queues, {THREADS}",
        ManyQueues.title, tuple(f"rate{count}" for count in QUEUES)),
    Row(f"tasks/s with an argument of 1 kB / 10 kB / 100 kB / 1 MB, {THREADS}",
        Bodies.title, tuple(f"rate{size}" for size in BODIES)),
    Row("the same by `delay()`, per second",
        Bodies.title, tuple(f"delay{size}" for size in BODIES)),
    Row("a start beside " + " / ".join(map(str, WORKERS)) + f" idle workers, {THREADS}, p50, ms",
        IdleWorkers.title, tuple(f"start{count}" for count in WORKERS), 1),
    Row("a chord of 1,000 tasks, from publishing to its body's result, s",
        Chord.title, ("chord",), 1),
    Row("1,000 due tasks behind 20,000 due in an hour, s", Eta.title, ("seconds",), 2),
    Row("worker CPU, prefork, s per 1,000 tasks", drain(PREFORK), ("worker",), 2),
    Row("server CPU, prefork, s per 1,000 tasks", drain(PREFORK), ("server",), 2),
    Row("an idle worker: connections", Idle.title, ("connections",)),
    Row("an idle worker: commands or transactions per second", Idle.title, ("commands",), 1),
)  # fmt: skip

#: The columns of the second table, which has a row for each system: label, measure, metric, digits.
BESIDE = (
    ("`delay()` per second", Enqueue.title, "rate", 0),
    ("producer CPU, µs", Enqueue.title, "cpu", 0),
    ("drain, prefork -c 2", drain(PREFORK), "rate", 0),
    ("worker + server CPU, s per 1,000", drain(PREFORK), "worker+server", 2),
    ("drain, 10 at a time in one process", drain(THREADS), "rate", 0),
    ("worker + server CPU, s per 1,000", drain(THREADS), "worker+server", 2),
)

#: The same for what keeps its jobs in PostgreSQL.
PRICES = (
    ("WAL to publish, bytes", Price.title, "wal_publish", 0),
    ("WAL to work, bytes", Price.title, "wal_work", 0),
    ("flushes to publish", Price.title, "flushes_publish", 2),
    ("to work", Price.title, "flushes_work", 2),
    ("transactions to publish", Price.title, "transactions_publish", 2),
    ("to work", Price.title, "transactions_work", 2),
    ("kept on disk, bytes", Price.title, "kept", 0),
)


class Readings:
    """What ``--json`` has written, read by median."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def median(self, measure: str, metric: str, system: str) -> float | None:
        """The median of the rounds; of ``a+b`` the sum of both medians, without those not there."""
        if "+" in metric:
            parts = [self.median(measure, each, system) for each in metric.split("+")]
            there = [part for part in parts if part is not None]
            return sum(there) if there else None
        values = self.data["readings"].get(measure, {}).get(metric, {}).get(system)
        return statistics.median(values) if values else None

    def text(self, row: Row, column: str) -> str:
        """A cell: numbers, ``never`` where it was too slow, ``-`` where it cannot."""
        system = row.instead.get(column, column)
        values = [self.median(row.measure, metric, system) for metric in row.metrics]
        there = [f"{value:,.{row.digits}f}" for value in values if value is not None]
        if there:
            return " / ".join(there)
        slow = any(
            failure["is_unfinished"]
            and (failure["measure"], failure["system"]) == (row.measure, system)
            for failure in self.data["failures"]
        )
        return "never" if slow else "-"

    def ratio(self, row: Row, peer: str) -> str:
        ours = self.median(row.measure, row.metrics[0], SUBJECT)
        theirs = self.median(row.measure, row.metrics[0], row.instead.get(peer, peer))
        return f"{ours / theirs:.1f}x" if ours is not None and theirs else ""


def render(data: dict[str, Any], name: str, plots: list[str]) -> str:
    """All that stands between the marks; ``name`` is the file that the readings are in."""
    readings = Readings(data)
    lines = [conditions(data, name), "", *first_table(readings)]
    for title, columns in (("Every system", BESIDE), ("The price for the database", PRICES)):
        if table := system_table(readings, columns):
            lines += ["", f"### {title}", "", *table]
    for plot in plots:
        lines += [
            "",
            "<picture>",
            f'  <source media="(prefers-color-scheme: dark)" srcset="results/{plot}-dark.svg">',
            f'  <img src="results/{plot}-light.svg" alt="{PLOTS[plot]}">',
            "</picture>",
        ]
    return "\n".join(lines)


def conditions(data: dict[str, Any], name: str) -> str:
    """How the numbers were taken: a note in the readings, or machine, versions and noise."""
    machine = data["machine"]
    rounds = "one round" if data["rounds"] == 1 else f"{data['rounds']} interleaved rounds"
    facts = [machine["machine"], f"fdatasync {machine['fdatasync']}", machine["python"]]
    text = (
        f"Medians of {rounds} on {machine['date'][:10]}: {', '.join(facts)}, {machine['packages']}."
    )
    servers = dict.fromkeys(data["servers"].values())
    text += f" {'; '.join(servers)}."
    noisy = len(data.get("disturbances", []))
    if noisy:
        text += f" {noisy} runs were disturbed by others, each time that they were tried."
    failed = dict.fromkeys(
        f"`{each['system']}` ({each['measure']})"
        for each in data["failures"]
        if not each["is_unfinished"]
    )
    if failed:
        text += f" Failed in a round, which is not counted: {', '.join(failed)}."
    note = f" {data['note']}" if "note" in data else ""
    return f"{text}{note} [All readings](results/{name})."


def first_table(readings: Readings) -> list[str]:
    has_ceiling = readings.median(drain(PREFORK), "rate", "free") is not None
    columns = [name for name in COLUMNS if name != "free" or has_ceiling]
    peers = [name for name in LEGEND if name != SUBJECT]
    heads = ["", *(COLUMNS[name] for name in columns), *(f"vs {COLUMNS[name]}" for name in peers)]
    lines = [markdown_row(heads), markdown_row(["---", *("---:" for _ in heads[1:])])]
    for row in ROWS:
        if readings.median(row.measure, row.metrics[0], SUBJECT) is not None:
            cells = [readings.text(row, name) for name in columns]
            ratios = [readings.ratio(row, peer) for peer in peers]
            lines.append(markdown_row([row.label, *cells, *ratios]))
    return lines


def system_table(readings: Readings, columns: tuple[tuple[str, str, str, int], ...]) -> list[str]:
    """A row for each system that has one of the numbers; empty if only the first table's have."""
    rows = []
    for system in SYSTEMS:
        values = [readings.median(measure, metric, system) for _, measure, metric, _ in columns]
        if any(value is not None for value in values):
            digits = [each[3] for each in columns]
            cells = [
                "-" if value is None else f"{value:,.{places}f}"
                for value, places in zip(values, digits, strict=True)
            ]
            rows.append(markdown_row([f"`{system}`", *cells]))
    heads = ["", *(label for label, *_ in columns)]
    head = [markdown_row(heads), markdown_row(["---", *("---:" for _ in heads[1:])])]
    return head + rows if len(rows) > 0 else []


def newest(folder: Path = RESULTS) -> Path:
    """The newest readings: files are named after their day."""
    return max(folder.glob("*.json"))


def section(path: Path) -> str:
    """What belongs between the marks of the README beside the folder of these readings."""
    data = json.loads(path.read_text(encoding="utf-8"))
    plots = [name for name in PLOTS if (path.parent / f"{name}-light.svg").exists()]
    return render(data, path.name, plots)


def write_table(path: Path, readme: Path) -> None:
    """Put the tables of these readings between the marks of the README."""
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{section(path)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    write_table(newest(), ROOT / "benchmarks" / "README.md")

"""What it costs to publish in the caller's own transaction."""

import statistics

from benchmarks.errors import WrongOutcome
from benchmarks.measures.base import Measure, Metric, Run
from benchmarks.processes import run_producer


class Transaction(Measure):
    """delay() within ``using()``, held against Celery's message building and an INSERT."""

    name = "transaction"
    title = "Transaction: delay() within using(), over a psycopg connection"
    metrics = (
        Metric("delay", "delay(), many in a transaction, µs", "less"),
        Metric("insert", "message building and a bare INSERT, µs", "less"),
        Metric("ratio", "the first, as a multiple of the second", "less", 2),
        Metric("delay_each", "delay(), each in a transaction of its own, µs", "less"),
        Metric("insert_each", "message building and a bare INSERT, µs", "less"),
        Metric("ratio_each", "the first, as a multiple of the second", "less", 2),
        Metric("build", "message building alone, µs", "less"),
        Metric("delay_cpu", "CPU of delay(), µs", "less"),
        Metric("insert_cpu", "CPU of message building and a bare INSERT, µs", "less"),
    )
    systems = frozenset({"pgjobs"})

    def run(self, run: Run) -> dict[str, float]:
        count = str(run.scale.enqueued)
        sent = run_producer(run.environment(results=False), "transaction", count)
        found = run.system.rows()
        if found != sent["rows"]:
            raise WrongOutcome(f"{sent['rows']} rows expected, {found} found")
        seconds, cpu, block = sent["seconds"], sent["cpu"], sent["block"]
        values = {name: micros(seconds[name], block) for name in seconds}
        for name in ("delay", "insert"):
            values[f"{name}_cpu"] = micros(cpu[name], block)
        for each in ("", "_each"):
            pairs = zip(seconds[f"delay{each}"], seconds[f"insert{each}"], strict=True)
            values[f"ratio{each}"] = statistics.median(ours / bare for ours, bare in pairs)
        return values


def micros(blocks: list[float], block: int) -> float:
    """The median of the blocks, which took turns, for each of its calls."""
    return statistics.median(blocks) / block * 1e6

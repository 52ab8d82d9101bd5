"""What it costs to publish in the caller's own transaction."""

import statistics

from benchmarks.errors import WrongOutcome
from benchmarks.measures.base import Measure, Metric, Run
from benchmarks.processes import run_producer


class Transaction(Measure):
    """delay() within ``using()``, held against Celery's message building and an INSERT."""

    name = "transaction"
    metrics = (
        Metric("delay", "delay(), many in a transaction, µs", "less"),
        Metric("insert", "message building and a bare INSERT, µs", "less"),
        Metric("ratio", "the first, as a multiple of the second", "less", 2),
        Metric("ratio_cpu", "the same of their CPU, the server's included", "less", 2),
        Metric("ratio_sent_cpu", "with kombu's publishing in the second as well, CPU", "less", 2),
        Metric("delay_each", "delay(), each in a transaction of its own, µs", "less"),
        Metric("insert_each", "message building and a bare INSERT, µs", "less"),
        Metric("ratio_each", "the first, as a multiple of the second", "less", 2),
        Metric("ratio_each_cpu", "the same of their CPU, the server's included", "less", 2),
        Metric("build", "message building alone, µs", "less"),
    )
    systems = frozenset({"pgjobs"})

    def __init__(self, kind: str, title: str) -> None:
        self.title = f"Transaction: delay() of {title} within using(), over a psycopg connection"
        self._kind = kind

    def run(self, run: Run) -> dict[str, float]:
        count = str(run.scale.enqueued)
        sent = run_producer(run.environment(results=False), "transaction", self._kind, count)
        found = run.system.rows()
        if found != sent["rows"]:
            raise WrongOutcome(f"{sent['rows']} rows expected, {found} found")
        seconds, cpu, block = sent["seconds"], sent["cpu"], sent["block"]
        values = {name: statistics.median(each) / block * 1e6 for name, each in seconds.items()}
        for each in ("", "_each"):
            values[f"ratio{each}"] = ratio(seconds, f"delay{each}", f"insert{each}")
            values[f"ratio{each}_cpu"] = ratio(cpu, f"delay{each}", f"insert{each}")
        values["ratio_sent_cpu"] = ratio(cpu, "delay", "sent")
        return values


def ratio(blocks: dict[str, list[float]], ours: str, bare: str) -> float:
    """The median of the quotients of blocks that stood side by side."""
    pairs = zip(blocks[ours], blocks[bare], strict=True)
    return statistics.median(one / other for one, other in pairs)

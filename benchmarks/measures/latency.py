"""How long one task takes on an idle worker: until it starts, and until its result is back."""

import statistics

from benchmarks.hits import Tally
from benchmarks.measures.base import PEERS, Measure, Metric, Run
from benchmarks.processes import run_producer
from benchmarks.workers import PREFORK, running_worker

PERCENTILES = (50, 95, 99)


class Latency(Measure):
    """One producer, one task at a time, 5 to 20 ms of thought between them."""

    name = "latency"
    title = f"Latency on an idle worker, {PREFORK}"
    metrics = (
        *(Metric(f"start{p}", f"delay() to start, p{p}, ms", "less", 2) for p in PERCENTILES),
        *(Metric(f"trip{p}", f"delay().get(), p{p}, ms", "less", 2) for p in PERCENTILES),
    )
    systems = PEERS
    is_core = True

    def run(self, run: Run) -> dict[str, float]:
        environment = run.environment(results=True)
        with running_worker(environment, PREFORK, run.folder) as worker:
            measured = run_producer(environment, "latency", str(run.scale.samples))
            run.reply_to = measured["reply_to"]
            worker.stop()
        tally = Tally(run.folder)
        tally.verify(measured["total"])
        started = tally.starts()
        delays = [started[index] - sent for index, sent in measured["sent"]]
        return {**percentiles("start", delays), **percentiles("trip", measured["trips"])}


def percentiles(prefix: str, seconds: list[float]) -> dict[str, float]:
    """All percentiles in milliseconds: the table shows three of them, the plot the whole."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"{prefix}{p}": cut * 1000 for p, cut in enumerate(cuts, start=1)}

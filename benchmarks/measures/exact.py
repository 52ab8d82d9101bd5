"""Whether rates are kept, by ten workers and a thousand keys, and how much of them is used."""

import contextlib
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence

import psycopg

from benchmarks.errors import Unfinished
from benchmarks.measures.base import Measure, Metric, Run
from benchmarks.processes import run_producer
from benchmarks.sliding import most_within
from benchmarks.workers import Pool, running_worker

#: The period of the rate, and how many of them are measured, in seconds.
PERIOD, PERIODS = 10, 4
#: How many workers claim.
WORKERS = 10

#: By the server's clock, which is that of the rates.
STARTS = """
    SELECT args -> 1, extract(epoch FROM attempted_at)::float8 FROM pgjobs.job_details
    WHERE attempted_at IS NOT NULL ORDER BY attempted_at
    """


class Exactness(Measure):
    """Give every key more work than its rate allows, and look at when each job began."""

    name = "exact"
    metrics = (
        Metric("most", f"most starts of a key in any {PERIOD} s", "less"),
        Metric("over", "keys that were over their rate", "less"),
        Metric("used", "starts, as a share of what the rate allows", "more", 3),
        Metric("rate", "starts per second, all keys", "more"),
        Metric("server", "server CPU, s per 1,000 starts", "less", 3),
    )
    systems = frozenset({"pgjobs"})

    def __init__(self, keys: int, limit: int) -> None:
        self.keys = keys
        self.limit = limit
        self.title = (
            f"Exactness: {WORKERS} workers, {keys:,} keys, {limit} starts per {PERIOD} s and key"
        )

    def run(self, run: Run) -> dict[str, float]:
        environment = run.environment(results=False)
        environment["BENCH_RATE"] = f"{self.limit}/{PERIOD}s"
        # Half as much again as can begin: each key has work until the end.
        count = self.keys * self.limit * (PERIODS + 2) * 3 // 2
        run_producer(environment, "keys", "limited", str(count), f"--keys={self.keys}")
        run.system.settle()
        with contextlib.ExitStack() as stack:
            workers = []
            for number in range(WORKERS):
                folder = run.folder / f"worker{number}"
                folder.mkdir()
                worker = running_worker(environment, Pool("threads", 4), folder)
                workers.append(stack.enter_context(worker))
            before = run.system.server_cpu()
            # The first period begins with all tokens at once; it is not counted.
            time.sleep(PERIOD * (PERIODS + 1))
            after = run.system.server_cpu()
            for worker in workers:
                worker.ensure_alive()
                worker.stop()
        starts = read_starts(run)
        most = {key: most_within(times, PERIOD) for key, times in starts.items()}
        ended = max(times[-1] for times in starts.values())
        begun = ended - PERIOD * PERIODS
        counted = sum(len(times) - bisect_left(times, begun) for times in starts.values())
        values = {
            "most": max(most.values()),
            "over": sum(number > self.limit for number in most.values()),
            "used": counted / (self.keys * self.limit * PERIODS),
            "rate": counted / (PERIOD * PERIODS),
        }
        if before is not None and after is not None:
            values["server"] = (after - before) / sum(map(len, starts.values())) * 1000
        return values


def read_starts(run: Run) -> Mapping[int, Sequence[float]]:
    """When the jobs of each key began, in order."""
    starts: defaultdict[int, list[float]] = defaultdict(list)
    with psycopg.connect(run.system.conninfo) as connection:
        for key, at in connection.execute(STARTS):
            starts[key].append(at)
    if not starts:
        raise Unfinished("not one job has begun")
    return starts

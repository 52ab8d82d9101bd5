"""How fast a worker empties a full queue of no-op tasks, until the broker is settled too."""

import json
import time

from benchmarks.errors import Unfinished, WrongOutcome
from benchmarks.hits import Tally
from benchmarks.measures.base import PEERS, Measure, Metric, Run, wait_for_messages
from benchmarks.measures.costs import Costs
from benchmarks.processes import peak_rss, run_producer
from benchmarks.workers import Pool, Worker, running_worker

#: How often the harness looks, in seconds.
POLL = 0.02


class Drain(Measure):
    """Publish all, start a worker, and time from the first start to a settled broker."""

    name = "drain"
    metrics = (
        Metric("rate", "tasks per second", "more"),
        Metric("worker", "worker CPU, s per 1,000 tasks", "less", 3),
        Metric("server", "server CPU, s per 1,000 tasks", "less", 3),
        Metric("rss", "worker's peak RSS, MB", "less"),
        Metric("connections", "connections of the worker", "less"),
        Metric("others", "CPU used by other processes, % of the machine", "less"),
    )

    #: What the worker is told besides.
    flags: tuple[str, ...] = ()

    is_core = True

    def __init__(
        self, pool: Pool, results: bool, beside: frozenset[str] = frozenset({"free"})
    ) -> None:
        self.pool = pool
        self.results = results
        self.title = f"Drain: {pool}, results {'stored' if results else 'ignored'}"
        self.systems = PEERS | beside

    def run(self, run: Run) -> dict[str, float]:
        count = run.scale.tasks
        environment = run.environment(self.results)
        sent = run_producer(environment, "fill", str(count))
        run.reply_to = sent["reply_to"]
        found = wait_for_messages(run, count)
        if found != count:
            raise WrongOutcome(f"{count} tasks published, {found} are in the broker")
        run.system.settle()
        tally = Tally(run.folder)
        with running_worker(environment, self.pool, run.folder, flags=self.flags) as worker:
            before = Costs(run, worker)
            settled_at = self.wait_until_settled(run, worker, tally)
            after = Costs(run, worker)
            values = {
                "rate": count / (settled_at - min(tally.starts().values())),
                "worker": (after.worker - before.worker) / count * 1000,
                "rss": peak_rss(worker.processes()) / 1e6,
                "connections": run.system.connections(worker),
                "others": after.others_since(before),
            }
            if before.server is not None and after.server is not None:
                values["server"] = (after.server - before.server) / count * 1000
            if self.results and run.system.results_are_shared:
                check_results(environment, sent["sampled"])
            worker.stop()
        tally.verify(count)
        left = run.system.unsettled(run.queue)
        if left:
            raise WrongOutcome(f"{left} messages came back when the worker stopped")
        return values

    def wait_until_settled(self, run: Run, worker: Worker, tally: Tally) -> float:
        """When all tasks ran, the broker is empty and, if stored, all results are there."""
        count = run.scale.tasks
        deadline = time.monotonic() + run.scale.patience
        while time.monotonic() < deadline:
            started = tally.count()
            if started >= count and self.is_settled(run):
                return time.time()
            worker.ensure_alive()
            time.sleep(POLL)
        raise Unfinished(f"{started:,} of {count:,} tasks in {run.scale.patience:.0f} s")

    def is_settled(self, run: Run) -> bool:
        """Whether the broker holds nothing and each result that is to be stored is there."""
        if run.system.unsettled(run.queue):
            return False
        return not self.results or run.system.stored_results(run.reply_to) >= run.scale.tasks


def check_results(environment: dict[str, str], sampled: dict[str, int]) -> None:
    """Read a sample of the results through Celery and raise WrongOutcome unless all are right."""
    right = run_producer(environment, "check", stdin=json.dumps(sampled))["right"]
    if right != len(sampled):
        raise WrongOutcome(f"{len(sampled) - right} of {len(sampled)} sampled results are wrong")

"""How long due tasks wait behind many that are not due, and what the worker holds meanwhile."""

import time

from benchmarks.errors import Unfinished
from benchmarks.hits import Tally
from benchmarks.measures.base import PEERS, Measure, Metric, Run, wait_for_messages
from benchmarks.processes import peak_rss, run_producer
from benchmarks.workers import PREFORK, running_worker

POLL = 0.02


class Eta(Measure):
    """Tasks due in an hour are published first, tasks due now behind them; then a worker starts."""

    name = "eta"
    title = f"ETA: tasks due now behind twenty times as many due in an hour, {PREFORK}"
    metrics = (
        Metric(
            "seconds", "seconds from the worker's readiness until all due tasks started", "less", 2
        ),
        Metric("rss", "worker's peak RSS by then, MB", "less"),
    )
    systems = PEERS

    def run(self, run: Run) -> dict[str, float]:
        later, now = run.scale.later, run.scale.now
        environment = run.environment(results=False)
        run.reply_to = run_producer(environment, "eta", str(later), str(now))["reply_to"]
        wait_for_messages(run, later + now)
        tally = Tally(run.folder)
        with running_worker(environment, PREFORK, run.folder) as worker:
            deadline = worker.ready_at + run.scale.patience
            while (started := tally.count()) < now:
                if time.time() > deadline:
                    limit = run.scale.patience
                    raise Unfinished(f"{started:,} of {now:,} due tasks started in {limit:.0f} s")
                worker.ensure_alive()
                time.sleep(POLL)
            rss = peak_rss(worker.processes())
            tally.verify(now)
            seconds = max(tally.starts().values()) - worker.ready_at
        return {"seconds": seconds, "rss": rss / 1e6}

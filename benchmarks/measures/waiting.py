"""Tasks that wait, as for an HTTP service: how many at once, how soon, and in how much memory."""

import time

from benchmarks.errors import Unfinished
from benchmarks.hits import Tally
from benchmarks.measures.base import Measure, Metric, Run
from benchmarks.measures.costs import Costs
from benchmarks.processes import peak_rss, run_producer
from benchmarks.workers import Pool, running_worker

#: How often the harness looks, in seconds.
POLL = 0.05

#: The task of each pool: a coroutine, or a function that blocks its thread or greenlet.
TASKS = {"custom": "anap", "gevent": "nap", "threads": "nap"}
NAMES = {"custom": "coroutines", "gevent": "greenlets", "threads": "threads"}


#: Queues that are not Celery, and whose jobs are coroutines.
COROUTINES = frozenset({"arq", "procrastinate", "oban"})


class Waiting(Measure):
    """Publish all, start a worker, and time from its first task to the end of the last."""

    name = "waiting"
    metrics = (
        Metric("seconds", "seconds from the first start to the last end", "less", 2),
        Metric("memory", "kB of RSS for each that waits", "less", 1),
        Metric("worker", "worker CPU, s per 1,000 tasks", "less", 3),
    )
    systems = frozenset({"pgjobs", "redis"})

    def __init__(self, pool: Pool, tasks: int, seconds: float) -> None:
        self.pool = pool
        self.tasks = tasks
        self.seconds = seconds
        what = f"wait {seconds:g} s" if seconds else "do nothing"
        self.title = f"{NAMES[pool.name]} -c {pool.concurrency}: {tasks:,} tasks that {what}"
        if pool.name == "custom":
            self.systems = frozenset({"pgjobs"}) | COROUTINES

    def run(self, run: Run) -> dict[str, float]:
        environment = run.environment(False)
        self.publish(environment)
        run.system.settle()
        tally = Tally(run.folder)
        environment["BENCH_CONCURRENCY"] = str(self.pool.concurrency)
        environment["BENCH_NAP"] = str(self.seconds)
        environment["CELERY_CUSTOM_WORKER_POOL"] = "pgjobs_celery.worker.aio:TaskPool"
        with running_worker(environment, self.pool, run.folder) as worker:
            idle, before = peak_rss(worker.processes()), Costs(run, worker)
            deadline = time.monotonic() + run.scale.patience
            while run.system.unsettled(run.queue) or tally.count() < self.tasks:
                worker.ensure_alive()
                if time.monotonic() > deadline:
                    raise Unfinished(f"{tally.count():,} of {self.tasks:,} tasks have begun")
                time.sleep(POLL)
            ended, after = time.time(), Costs(run, worker)
            most = min(self.tasks, self.pool.concurrency or 1)
            values = {
                "seconds": ended - min(tally.starts().values()),
                "worker": (after.worker - before.worker) / self.tasks * 1000,
                "memory": (peak_rss(worker.processes()) - idle) / 1000 / most,
            }
            worker.stop()
        tally.verify(self.tasks)
        return values

    def publish(self, environment: dict[str, str]) -> None:
        """Put the tasks into the queue."""
        if "BENCH_PROGRAM" in environment:
            run_producer(environment, "fill", str(self.tasks))
            return
        task = TASKS[self.pool.name]
        run_producer(environment, "naps", str(self.tasks), str(self.seconds), f"--task={task}")

"""What may grow beside a backlog: the queues of a worker, idle workers, the bodies of tasks."""

import contextlib
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.hits import Tally
from benchmarks.measures.backlog import first_tasks
from benchmarks.measures.base import PEERS, Measure, Metric, Run
from benchmarks.processes import run_producer
from benchmarks.workers import THREADS, Worker, running_worker

#: How many queues a worker consumes from.
QUEUES = (1, 10, 100, 1_000)
#: How many workers wait.
WORKERS = (1, 10, 25)
#: Bytes of a task's argument.
BODIES = (1_000, 10_000, 100_000, 1_000_000)

#: How many bytes are published for one rate, at most.
VOLUME = 64_000_000
#: How many workers are started at a time.
TOGETHER = 8
#: Seconds for workers to come to rest after they have started.
SETTLE = 10
#: Seconds in which they are watched.
WATCHED = 10


class ManyQueues(Measure):
    """The rate of tasks that lie in so many queues, all of one worker."""

    name = "queues"
    title = f"Queues: a worker consumes from so many, {THREADS}, results ignored"
    metrics = tuple(
        Metric(f"rate{count}", f"{count:,} queues: tasks per second", "more") for count in QUEUES
    )
    systems = PEERS

    def run(self, run: Run) -> dict[str, float]:
        return {f"rate{count}": self.rate(run, count) for count in QUEUES}

    def rate(self, run: Run, count: int) -> float:
        names = [f"{run.queue}-{number}" for number in range(count)]
        folder = run.folder / str(count)
        folder.mkdir()
        environment = run.system.environment(run.queue, str(folder), results=False)
        try:
            run_producer(environment, "spread", str(run.scale.first), ",".join(names))
            run.system.settle()
            flags = ["-Q", ",".join(names)]
            return first_tasks(environment, folder, run.scale.first, run.scale.patience, flags)
        finally:
            for name in names:
                run.system.clean(name)


class Bodies(Measure):
    """Tasks with an argument of so many bytes: published one by one, and taken from the queue."""

    name = "bodies"
    title = f"Bodies: tasks with a long argument, {THREADS}, results ignored"
    metrics = tuple(
        Metric(f"{key}{size}", f"{size:,} bytes: {label} per second", "more")
        for key, label in (("delay", "delay()"), ("rate", "tasks"))
        for size in BODIES
    )
    systems = PEERS

    def run(self, run: Run) -> dict[str, float]:
        values: dict[str, float] = {}
        for size in BODIES:
            count = min(run.scale.first, VOLUME // size)
            run.system.clean(run.queue)
            folder = run.folder / str(size)
            folder.mkdir()
            environment = run.system.environment(run.queue, str(folder), results=False)
            sent = run_producer(environment, "bodies", str(count), str(size))
            values[f"delay{size}"] = sent["rate"]
            run.system.settle()
            values[f"rate{size}"] = first_tasks(environment, folder, count, run.scale.patience)
        return values


class IdleWorkers(Measure):
    """So many workers wait for one queue, with Celery's defaults: all hear of each other."""

    name = "workers"
    title = f"Idle workers: so many wait for one queue, {THREADS}"
    metrics = (
        *(Metric(f"start{count}", f"{count}: delay() to start, p50, ms", "less", 2)
          for count in WORKERS),
        *(Metric(f"worker{count}", f"{count}: CPU of each, % of one core", "less", 2)
          for count in WORKERS),
        *(Metric(f"server{count}", f"{count}: server CPU, % of one core", "less", 1)
          for count in WORKERS),
    )  # fmt: skip
    systems = PEERS

    def run(self, run: Run) -> dict[str, float]:
        values: dict[str, float] = {}
        most = run.system.most_workers()
        for count in WORKERS:
            if most is not None and count > most:
                break
            run.system.clean(run.queue)
            folder = run.folder / str(count)
            folder.mkdir()
            environment = run.system.environment(run.queue, str(folder), results=False)

            def start(number: int) -> Worker:
                own = folder / str(number)  # noqa: B023
                own.mkdir()
                return opened.enter_context(running_worker(environment, THREADS, own))  # noqa: B023

            with contextlib.ExitStack() as opened, ThreadPoolExecutor(TOGETHER) as starting:
                workers = list(starting.map(start, range(count)))
                time.sleep(SETTLE)
                before = [each.cpu_seconds() for each in workers]
                server = run.system.server_cpu()
                time.sleep(WATCHED)
                spent = [each.cpu_seconds() for each in workers]
                used = statistics.fmean(
                    after - then for after, then in zip(spent, before, strict=True)
                )
                values[f"worker{count}"] = used / WATCHED * 100
                after = run.system.server_cpu()
                if server is not None and after is not None:
                    values[f"server{count}"] = (after - server) / WATCHED * 100
                sent = run_producer(environment, "thoughtful", str(run.scale.samples))["sent"]
                tally = Tally(folder)
                tally.wait(run.scale.samples, run.scale.patience, workers)
                started = tally.starts()
                values[f"start{count}"] = 1000 * statistics.median(
                    started[index] - at for index, at in sent
                )
        return values

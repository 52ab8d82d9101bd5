"""How fast a worker takes tasks from a queue that is short, long, or longer than any should be."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import WrongOutcome
from benchmarks.hits import Tally
from benchmarks.measures.base import PEERS, QUEUES, Measure, Metric, Run, wait_for_messages
from benchmarks.processes import run_producer
from benchmarks.workers import THREADS, running_worker

#: What the first table has waiting, and the second.
SIZES = (1_000, 10_000, 100_000)
HUGE = 1_000_000


class Backlog(Measure):
    """The rate of the first tasks, while all the others wait behind them."""

    name = "backlog"
    title = f"Backlog: the first tasks of a queue, {THREADS}, results ignored"
    metrics = tuple(
        Metric(f"rate{size}", f"{size:,} waiting: tasks per second", "more") for size in SIZES
    )
    systems = PEERS
    is_core = True

    sizes: tuple[int, ...] = SIZES

    def run(self, run: Run) -> dict[str, float]:
        return {f"rate{size}": self.rate(run, size // run.scale.shrink) for size in self.sizes}

    def rate(self, run: Run, size: int) -> float:
        run.system.clean(run.queue)
        folder = run.folder / str(size)
        folder.mkdir()
        environment = run.system.environment(run.queue, str(folder), results=False)
        run_producer(environment, "fill", str(size))
        found = wait_for_messages(run, size)
        if found != size:
            raise WrongOutcome(f"{size} tasks published, {found} are in the broker")
        run.system.settle()
        first = min(size, run.scale.first)
        return first_tasks(environment, folder, first, run.scale.patience)


class HugeBacklog(Backlog):
    """The same with a million, once."""

    title = f"{Backlog.title}, a million waiting"
    metrics = (Metric(f"rate{HUGE}", f"{HUGE:,} waiting: tasks per second", "more"),)
    # kombu's other two would take an hour to publish that many.
    systems = PEERS | QUEUES
    is_core = False
    most_rounds = 1
    sizes = (HUGE,)


def first_tasks(
    environment: dict[str, str],
    folder: Path,
    first: int,
    patience: float,
    flags: Sequence[str] = (),
) -> float:
    """Tasks per second from the first start to that of the last of these; the worker is killed."""
    tally = Tally(folder)
    with running_worker(environment, THREADS, folder, flags=flags) as worker:
        tally.wait(first, patience, [worker])
    tally.verify_distinct()
    at = sorted(tally.starts().values())
    return (first - 1) / (at[first - 1] - at[0])

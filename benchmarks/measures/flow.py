"""What flow control costs: the same tasks without it, with a rate, and by a thousand keys."""

import json
from statistics import mean

from benchmarks.errors import Unfinished
from benchmarks.hits import Tally
from benchmarks.measures.base import Measure, Metric, Run
from benchmarks.measures.costs import Costs
from benchmarks.measures.drain import Drain
from benchmarks.processes import run_producer
from benchmarks.workers import THREADS, running_worker

#: Which task each kind runs; the rates are higher than any worker.
KINDS = {"plain": "plain", "rate": "rated", "fair": "plain", "keyed": "keyed"}
#: The kinds as the table's rows call them.
LABELS = {
    "plain": "without flow control",
    "rate": "a rate that does not limit",
    "fair": "fair by 1,000 keys",
    "keyed": "a rate for each of 1,000 keys",
}


class Flow(Measure):
    """Drains of the same number of tasks, one kind after the other."""

    name = "flow"
    title = f"Flow control: drain by {THREADS}, results ignored, 1,000 keys"
    metrics = (
        Metric("plain", f"{LABELS['plain']}, tasks per second", "more"),
        *(
            Metric(kind, f"{label}, as a share of that", "more", 2)
            for kind, label in LABELS.items()
            if kind != "plain"
        ),
        *(
            Metric(f"{kind}_server", f"{label}, server CPU, s per 1,000 tasks", "less", 3)
            for kind, label in LABELS.items()
        ),
    )
    systems = frozenset({"pgjobs"})

    def run(self, run: Run) -> dict[str, float]:
        drains: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
        # What the others are compared with comes first and last: a machine that becomes slower, or
        # less busy, meanwhile would pass for the price of flow control.
        for number, kind in enumerate([*KINDS, "plain"]):
            drains[kind].append(self._drain(run, kind, f"{run.queue}-{number}"))
        values: dict[str, float] = {}
        for kind, found in drains.items():
            rates, servers = zip(*found, strict=True)
            values[kind] = mean(rates) / values.get("plain", 1)
            values[f"{kind}_server"] = mean(servers)
        return values

    def _drain(self, run: Run, kind: str, queue: str) -> tuple[float, float]:
        folder = run.folder / queue
        folder.mkdir()
        part = Run(run.system, run.scale, queue, folder)
        environment = part.environment(results=False)
        if kind == "fair":
            settings = json.loads(environment.get("BENCH_SETTINGS", "{}"))
            settings["pgjobs_queues"] = {part.queue: {"fair": "args.1"}}
            environment["BENCH_SETTINGS"] = json.dumps(settings)
        count = run.scale.tasks
        run_producer(environment, "keys", KINDS[kind], str(count))
        run.system.settle()
        tally = Tally(folder)
        with running_worker(environment, THREADS, folder) as worker:
            before = Costs(part, worker)
            settled_at = Drain(THREADS, results=False).wait_until_settled(part, worker, tally)
            after = Costs(part, worker)
            worker.stop()
        tally.verify(count)
        if before.server is None or after.server is None:
            raise Unfinished("the server's processes are not to be seen from here")
        spent = (after.server - before.server) / count * 1000
        return count / (settled_at - min(tally.starts().values())), spent

"""What a worker costs that has nothing to do."""

import time

from benchmarks.measures.base import PEERS, Measure, Metric, Run
from benchmarks.measures.costs import Costs
from benchmarks.workers import PREFORK, running_worker

#: Seconds for the worker's start-up work to die down before the clock starts, and for PostgreSQL's
#: backends to report it: an idle one waits up to 10 s with what it has counted.
SETTLE = 12


class Idle(Measure):
    """A ready worker on an empty queue, watched for some seconds."""

    name = "idle"
    title = f"Idle worker, {PREFORK}"
    metrics = (
        Metric("worker", "worker CPU, % of one core", "less", 2),
        Metric("server", "server CPU, % of one core", "less", 2),
        Metric("commands", "commands (Redis) or transactions (PostgreSQL) per second", "less", 1),
        Metric("connections", "connections of the worker", "less"),
    )
    systems = PEERS

    def run(self, run: Run) -> dict[str, float]:
        system = run.system
        with running_worker(run.environment(results=False), PREFORK, run.folder) as worker:
            time.sleep(SETTLE)
            before, commands = Costs(run, worker), system.commands()
            time.sleep(run.scale.idle_seconds)
            after, commands_after = Costs(run, worker), system.commands()
            worker.ensure_alive()
            seconds = after.at - before.at
            values = {
                "worker": (after.worker - before.worker) / seconds * 100,
                "connections": system.connections(worker),
            }
            if before.server is not None and after.server is not None:
                values["server"] = (after.server - before.server) / seconds * 100
            if commands is not None and commands_after is not None:
                values["commands"] = (commands_after - commands) / seconds
            worker.stop()
        return values

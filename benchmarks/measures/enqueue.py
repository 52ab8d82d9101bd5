"""How fast one process publishes with delay(), and what it costs that process."""

from benchmarks.errors import WrongOutcome
from benchmarks.measures.base import Measure, Metric, Run, wait_for_messages
from benchmarks.processes import run_producer
from benchmarks.systems import SYSTEMS

#: Published first and not timed: connections, declarations, imports on first use.
WARM_UP = 50


class Enqueue(Measure):
    """delay() one by one with no worker running and results ignored."""

    name = "enqueue"
    title = "Enqueue: delay() one by one"
    metrics = (
        Metric("rate", "delay() per second", "more"),
        Metric("cpu", "producer CPU, µs per task", "less"),
        Metric("server", "server CPU, µs per task", "less"),
    )
    systems = frozenset(SYSTEMS)
    is_core = True

    def run(self, run: Run) -> dict[str, float]:
        count = run.scale.enqueued
        server = run.system.server_cpu()
        sent = run_producer(
            run.environment(results=False), "enqueue", str(count), f"--warm-up={WARM_UP}"
        )
        run.reply_to = sent["reply_to"]
        found = wait_for_messages(run, count + WARM_UP)
        if found != count + WARM_UP:
            raise WrongOutcome(f"{count + WARM_UP} tasks published, {found} are in the broker")
        values = {"rate": count / sent["seconds"], "cpu": sent["cpu"] / count * 1e6}
        after = run.system.server_cpu()
        if server is not None and after is not None:
            values["server"] = (after - server) / (count + WARM_UP) * 1e6
        return values

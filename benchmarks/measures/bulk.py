"""How fast tasks are published together, in one process and in two at a time."""

from typing import Any

from kombu import Producer

from benchmarks.errors import WrongOutcome
from benchmarks.measures.base import PEERS, QUEUES, Measure, Metric, Run, wait_for_messages
from benchmarks.processes import run_producer

#: Each process publishes these first, untimed.
WARM_UP = 100


class Bulk(Measure):
    """delay() one by one, and what there is to publish many."""

    name = "bulk"
    title = "Bulk: many tasks published together"
    metrics = (
        Metric("built", "messages built by Celery and sent nowhere, per second", "more"),
        Metric("one", "delay() one by one, per second", "more"),
        Metric("batch", "in kombu's Producer.batch()", "more"),
        Metric("bulk", "delay() in bulk()", "more"),
        Metric("many", "enqueue_many(), or the queue's own way", "more"),
        Metric("one2", "two processes: delay() one by one, per second", "more"),
        Metric("batch2", "two processes: in Producer.batch()", "more"),
        Metric("bulk2", "two processes: delay() in bulk()", "more"),
        Metric("many2", "two processes: enqueue_many(), or its own way", "more"),
        Metric("built_cpu", "producer CPU to build a message, µs", "less", 1),
        Metric("many_cpu", "producer CPU of enqueue_many(), µs per task", "less", 1),
        Metric("many_server", "server CPU of enqueue_many(), µs per task", "less", 1),
    )
    systems = PEERS | QUEUES

    def run(self, run: Run) -> dict[str, float]:
        is_ours = run.system.name == "pgjobs"
        ways = ["built", "one"]
        if hasattr(Producer, "batch") and run.system.name != "rabbitmq":
            ways.append("batch")
        if is_ours:
            ways += ["bulk", "many"]
        if run.system.name in QUEUES:
            ways = ["many"]
        values: dict[str, float] = {}
        for way in ways:
            count = run.scale.enqueued if way == "one" else run.scale.published
            server = run.system.server_cpu()
            sent = publish(run, way, count, 1)
            after = run.system.server_cpu()
            values[way] = count / sent["seconds"]
            if way in ("built", "many"):
                values[f"{way}_cpu"] = sent["cpu"] / count * 1e6
            if way == "many" and server is not None and after is not None:
                values["many_server"] = (after - server) / (count + WARM_UP) * 1e6
            if way != "built":
                values[f"{way}2"] = 2 * count / publish(run, way, count, 2)["seconds"]
        return values


def publish(run: Run, way: str, count: int, processes: int) -> dict[str, Any]:
    """Publish, and see that each task is there once."""
    run.system.clean(run.queue)
    environment = run.environment(results=False)
    sent = run_producer(environment, "bulk", way, str(count), f"--processes={processes}")
    if way != "built":
        expected = (count + WARM_UP) * processes
        found = wait_for_messages(run, expected)
        distinct = run.system.distinct()
        if found != expected or distinct not in (None, count * processes + WARM_UP):
            raise WrongOutcome(f"{expected} tasks published, {found} are there, {distinct} differ")
    return sent

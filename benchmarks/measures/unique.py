"""What it costs to publish jobs of which there must be only one of a kind."""

from benchmarks.errors import WrongOutcome
from benchmarks.measures.base import Measure, Metric, Run
from benchmarks.processes import run_producer


class Uniqueness(Measure):
    """delay() of a plain task, of a PgTask and of a unique one, in turns, in front of many rows."""

    name = "unique"
    title = "Unique jobs: delay() one by one, 1,000,000 rows in the table"
    metrics = (
        Metric("task", "delay() of a Celery task per second", "more"),
        Metric("pgtask", "of a PgTask", "more"),
        Metric("unique", "of a unique PgTask", "more"),
        Metric("duplicate", "of one that is there already", "more"),
        Metric("ratio", "unique, as a share of PgTask", "more", 2),
    )
    systems = frozenset({"pgjobs"})

    def run(self, run: Run) -> dict[str, float]:
        run.system.fill(run.scale.rows)
        count = run.scale.enqueued
        sent = run_producer(run.environment(results=False), "unique", str(count))
        expected = run.scale.rows + 3 * sent["sent"] + sent["extra"]
        found = run.system.rows()
        if found != expected or sent["conflicts"] != sent["sent"]:
            raise WrongOutcome(f"{expected} rows expected, {found} found; {sent}")
        values = {kind: sent["sent"] / seconds for kind, seconds in sent["seconds"].items()}
        return {**values, "ratio": values["unique"] / values["pgtask"]}

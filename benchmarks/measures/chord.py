"""How long a chord takes, from its publication to its body's result."""

from benchmarks.errors import WrongOutcome
from benchmarks.hits import Tally
from benchmarks.measures.base import Measure, Metric, Run
from benchmarks.processes import run_producer
from benchmarks.workers import PREFORK, running_worker


class Chord(Measure):
    """A header of no-op tasks and a body that adds up, published and awaited by one producer."""

    name = "chord"
    title = f"Chords on an idle worker, {PREFORK}"
    metrics = (
        Metric("chord", "1,000 tasks: publish to the body's result, s", "less", 2),
        Metric("small", "3 tasks, one chord after the other: chords per second", "more"),
    )
    # rpc:// results have no chords.
    systems = frozenset({"pgjobs", "redis"})
    is_core = True

    def run(self, run: Run) -> dict[str, float]:
        environment = run.environment(results=True)
        header, chords = run.scale.header, run.scale.chords
        with running_worker(environment, PREFORK, run.folder) as worker:
            measured = run_producer(environment, "chord", str(header), str(chords))
            worker.stop()
        if measured["wrong"]:
            raise WrongOutcome(f"{measured['wrong']} chords came to a wrong sum")
        Tally(run.folder).verify(measured["total"])
        return {"chord": measured["chord"], "small": chords / measured["small"]}

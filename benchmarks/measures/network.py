"""What delay() takes where the broker is further away than loopback."""

from benchmarks.errors import WrongOutcome
from benchmarks.measures.base import PEERS, Measure, Metric, Run, wait_for_messages
from benchmarks.processes import run_producer
from benchmarks.proxy import delaying, measured_round_trip

#: Milliseconds that a round trip takes longer than on loopback.
ADDED = (0, 1, 5)

WARM_UP = 20


class Network(Measure):
    """delay() one by one through a proxy that keeps each byte back, at 0 ms as well."""

    name = "network"
    title = "Network: delay() one by one, the broker some milliseconds away"
    metrics = (
        *(Metric(f"call{ms}", f"round trip + {ms} ms: delay(), ms", "less", 2) for ms in ADDED),
        *(Metric(f"rate{ms}", f"round trip + {ms} ms: delay() per second", "more") for ms in ADDED),
        Metric("trips", "round trips per delay(), by the difference", "less", 1),
        *(Metric(f"echo{ms}", f"a byte and its echo at + {ms} ms", "less", 2) for ms in ADDED),
    )
    systems = PEERS | {"redis-aof-always", "rabbitmq-confirms"}
    is_core = True

    def run(self, run: Run) -> dict[str, float]:
        count, values = run.scale.remote, {}
        for ms in ADDED:
            values[f"echo{ms}"] = measured_round_trip(ms / 1000) * 1000
            seconds = self.seconds(run, ms / 1000, count)
            values[f"call{ms}"] = seconds / count * 1000
            values[f"rate{ms}"] = count / seconds
        near, far = ADDED[0], ADDED[-1]
        farther = values[f"echo{far}"] - values[f"echo{near}"]
        values["trips"] = (values[f"call{far}"] - values[f"call{near}"]) / farther
        return values

    def seconds(self, run: Run, round_trip: float, count: int) -> float:
        run.system.clean(run.queue)
        with delaying(run.system.endpoint(), round_trip) as port:
            environment = run.environment(results=False)
            environment["BENCH_BROKER"] = run.system.broker_by(port)
            sent = run_producer(environment, "enqueue", str(count), f"--warm-up={WARM_UP}")
        expected = count + WARM_UP
        found = wait_for_messages(run, expected)
        if found != expected:
            raise WrongOutcome(f"{expected} tasks published, {found} are in the broker")
        return float(sent["seconds"])

"""Run every measure on every system in interleaved rounds, and keep each number."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.errors import BenchmarkError, Unfinished
from benchmarks.measures import Measure, Scale
from benchmarks.measures.base import prepared
from benchmarks.noise import Noise, Watch
from benchmarks.systems import System


@dataclass(frozen=True)
class Failure:
    """A run that gave no numbers."""

    measure: str
    system: str
    round: int
    reason: str
    #: True where the system was too slow; False where something went wrong.
    is_unfinished: bool


@dataclass(frozen=True)
class Disturbance:
    """A run whose numbers count though the machine was never quiet."""

    measure: str
    system: str
    round: int
    reason: str
    #: How often it was tried.
    tries: int


@dataclass
class Results:
    """All readings of a session: measure -> metric -> system -> one value a round."""

    readings: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)

    def add(self, measure: str, system: str, values: dict[str, float]) -> None:
        for metric, value in values.items():
            of_metric = self.readings.setdefault(measure, {}).setdefault(metric, {})
            of_metric.setdefault(system, []).append(value)

    def values(self, measure: str, metric: str, system: str) -> list[float]:
        return self.readings.get(measure, {}).get(metric, {}).get(system, [])

    def median(self, measure: str, metric: str, system: str) -> float | None:
        values = self.values(measure, metric, system)
        return statistics.median(values) if values else None

    def failures_of(self, measure: str, system: str) -> list[Failure]:
        return [each for each in self.failures if (each.measure, each.system) == (measure, system)]

    @property
    def is_sound(self) -> bool:
        """Whether nothing went wrong; being slow is not wrong."""
        return all(failure.is_unfinished for failure in self.failures)


def schedule(
    measures: list[Measure], systems: list[System], rounds: int
) -> Iterator[tuple[int, Measure, System]]:
    """Each measure on each system per round; the system that goes first rotates."""
    for round_ in range(rounds):
        for position, measure in enumerate(measures):
            if round_ >= measure.most_rounds:
                continue
            taking_part = [system for system in systems if system.name in measure.systems]
            first = (round_ + position) % max(1, len(taking_part))
            for system in taking_part[first:] + taking_part[:first]:
                yield round_, measure, system


def run_all(
    measures: list[Measure],
    systems: list[System],
    rounds: int,
    scale: Scale,
    repeats: int,
    tell: Callable[[str], None],
) -> Results:
    """Run the schedule; a failing run is noted and the others go on.

    A run that was disturbed is repeated, ``repeats`` times at most; the quietest one counts. On a
    machine that is never quiet that would take for ever, so no more is repeated when the repeats
    come to half of all runs.
    """
    results, watch = Results(), Watch()
    runs = list(schedule(measures, systems, rounds))
    left = max(repeats, len(runs) // 2)
    for round_, measure, system in runs:
        line = f"round {round_ + 1}/{rounds}  {measure.title}  {system.name}"
        try:
            values, noise, tries = run_quietly(measure, system, scale, min(repeats, left), watch)
        except Exception as error:  # a driver's error must not lose the other systems' numbers
            known = isinstance(error, BenchmarkError)
            reason = system.redact(str(error) if known else f"{type(error).__name__}: {error}")
            unfinished = isinstance(error, Unfinished)
            failure = Failure(measure.title, system.name, round_ + 1, reason, unfinished)
            results.failures.append(failure)
            tell(f"{line}: {reason}")
        else:
            left -= tries - 1
            results.add(measure.title, system.name, values)
            first = measure.metrics[0]
            line += f": {values[first.key]:,.{first.digits}f} {first.label}"
            if noise.is_noisy:
                disturbance = Disturbance(measure.title, system.name, round_ + 1, str(noise), tries)
                results.disturbances.append(disturbance)
                line += f" (noisy, {tries} tries: {noise})"
            tell(line)
    return results


def run_quietly(
    measure: Measure, system: System, scale: Scale, repeats: int, watch: Watch
) -> tuple[dict[str, float], Noise, int]:
    """Measure until the machine was quiet, or often enough; values, noise and number of tries."""
    found: list[tuple[dict[str, float], Noise]] = []
    while len(found) <= repeats:
        watch.begin()
        with prepared(system, scale) as run:
            values = measure.run(run)
        noise = watch.end()
        found.append((values, noise))
        if not noise.is_noisy:
            break
    values, noise = min(found, key=lambda each: each[1].level)
    return values, noise, len(found)

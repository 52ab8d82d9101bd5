"""Values decide whether a run was disturbed; such a run is repeated, but not for ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import runner
from benchmarks.measures.base import Measure, Metric, Run, Scale
from benchmarks.noise import Look, Noise, judge, look
from benchmarks.runner import run_all
from benchmarks.systems.free import Free

QUIET = Look(loop=0.010, busy=1.0, stolen=5.0, total=1_000.0)


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (QUIET, "quiet"),
        (Look(0.0114, 14.0, 5.1, 1_010.0), "quiet"),
        (Look(0.013, 1.0, 5.0, 1_010.0), "a fixed loop took 1.30 times as long"),
        (Look(0.010, 40.0, 5.0, 1_010.0), "others used 40 % of the machine"),
        (Look(0.010, 1.0, 6.0, 1_010.0), "the hypervisor took 10 %"),
        (
            Look(0.020, 90.0, 5.0, 1_010.0),
            "a fixed loop took 2.00 times as long, others used 90 % of the machine",
        ),
    ],
)
def test_noise_is_named(after: Look, reason: str):
    noise = judge(QUIET, after, quickest=0.010)
    assert str(noise) == reason
    assert noise.is_noisy == (reason != "quiet")


def test_noise_before_a_run_counts_as_noise_after_it_does():
    busy = Look(0.010, 40.0, 5.0, 1_000.0)
    assert judge(busy, QUIET, quickest=0.010) == judge(QUIET, busy, quickest=0.010)


def test_a_look_sees_a_machine():
    seen = look()
    assert seen.loop > 0
    assert 0 <= seen.busy <= 100


class Counted(Measure):
    """Gives the number of its run."""

    name = title = "counted"
    metrics = (Metric("number", "runs", "more"),)
    systems = frozenset({"free"})

    def __init__(self) -> None:
        self.runs = 0

    def run(self, run: Run) -> dict[str, float]:
        self.runs += 1
        return {"number": self.runs}


class Restless:
    """A watch on a machine that others use all the time."""

    def begin(self) -> None: ...

    def end(self) -> Noise:
        return Noise(1.0, 99.0, 0.0)


@pytest.mark.parametrize(
    ("busy", "runs", "counts", "is_noted"),
    [
        ([1.0], 1, 1, False),
        ([50.0, 1.0], 2, 2, False),
        ([50.0, 30.0, 40.0], 3, 2, True),
    ],
)
def test_a_disturbed_run_is_repeated_and_the_quietest_counts(
    monkeypatch: pytest.MonkeyPatch, busy: list[float], runs: int, counts: int, is_noted: bool
):
    found: Iterator[float] = iter(busy)

    class Told:
        """A watch that is told what it sees."""

        def begin(self) -> None: ...

        def end(self) -> Noise:
            return Noise(1.0, next(found), 0.0)

    monkeypatch.setattr(runner, "Watch", Told)
    measure, told = Counted(), list[str]()
    results = run_all([measure], [Free()], 1, Scale.quick(), repeats=2, tell=told.append)
    assert measure.runs == runs
    assert results.values("counted", "number", "free") == [counts]
    assert [each.tries for each in results.disturbances] == ([runs] if is_noted else [])
    assert ("others used 30 % of the machine" in told[-1]) == is_noted


def test_a_machine_that_is_never_quiet_does_not_hold_up_a_session_for_ever(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(runner, "Watch", Restless)
    measure = Counted()
    results = run_all([measure], [Free()], 10, Scale.quick(), repeats=2, tell=lambda line: None)
    assert measure.runs == 10 + 5
    assert len(results.disturbances) == 10


def test_a_measure_takes_part_in_no_more_rounds_than_it_says():
    measure = Counted()
    measure.most_rounds = 1
    results = run_all([measure], [Free()], 3, Scale.quick(), repeats=0, tell=lambda line: None)
    assert results.values("counted", "number", "free") == [1]

"""Tell whether the machine was quiet, by a loop of fixed length, by idle time and by steal."""

import time
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]

#: Turns of the loop: some 20 ms of one core.
TURNS = 200_000
#: How often it runs; the quickest counts, so that a single interrupt does not.
TRIES = 3
#: For how long the harness does nothing and looks who else does something, in seconds.
PAUSE = 0.3

#: A run is noisy above one of these.
SLOWER = 1.15
BUSY = 15.0
STEAL = 2.0


@dataclass(frozen=True)
class Look:
    """What one look at the machine has seen."""

    #: Seconds that the loop took.
    loop: float
    #: Percent of all cores that were in use while the harness did nothing.
    busy: float
    #: Seconds of all cores since boot: stolen by the hypervisor, and all in all.
    stolen: float
    total: float


@dataclass(frozen=True)
class Noise:
    """What disturbed a run."""

    #: The loop's time after or before the run, as a multiple of the quickest of the session.
    slower: float
    busy: float
    #: Percent of the machine that the hypervisor gave to others during the run.
    steal: float

    @property
    def level(self) -> float:
        """The largest of the three, each as a multiple of what is tolerated."""
        return max((self.slower - 1) / (SLOWER - 1), self.busy / BUSY, self.steal / STEAL)

    @property
    def is_noisy(self) -> bool:
        return self.level > 1

    def __str__(self) -> str:
        found = []
        if self.slower > SLOWER:
            found.append(f"a fixed loop took {self.slower:.2f} times as long")
        if self.busy > BUSY:
            found.append(f"others used {self.busy:.0f} % of the machine")
        if self.steal > STEAL:
            found.append(f"the hypervisor took {self.steal:.0f} %")
        return ", ".join(found) or "quiet"


def look() -> Look:
    """Run the loop, then do nothing and watch."""
    loop = min(timed_loop() for _ in range(TRIES))
    before = psutil.cpu_times()
    time.sleep(PAUSE)
    after = psutil.cpu_times()
    passed = sum(after[:8]) - sum(before[:8])
    idle = (after.idle + after.iowait) - (before.idle + before.iowait)
    busy = 100 * (1 - idle / passed) if passed > 0 else 0.0
    return Look(loop, busy, float(after.steal), float(sum(after[:8])))


def timed_loop() -> float:
    clock = time.perf_counter()
    total = 0
    for number in range(TURNS):
        total += number & 7
    return time.perf_counter() - clock


def judge(before: Look, after: Look, quickest: float) -> Noise:
    """What disturbed the run between two looks; ``quickest`` is the session's quickest loop."""
    passed = after.total - before.total
    return Noise(
        slower=max(before.loop, after.loop) / quickest,
        busy=max(before.busy, after.busy),
        steal=100 * (after.stolen - before.stolen) / passed if passed > 0 else 0.0,
    )


class Watch:
    """Looks at the machine around each run of a session."""

    def __init__(self) -> None:
        self._last = look()
        self._quickest = self._last.loop

    def begin(self) -> None:
        """Look before a run."""
        self._see(look())

    def end(self) -> Noise:
        """Look after it, and judge."""
        before = self._last
        self._see(look())
        return judge(before, self._last, self._quickest)

    def _see(self, seen: Look) -> None:
        self._last = seen
        self._quickest = min(self._quickest, seen.loop)

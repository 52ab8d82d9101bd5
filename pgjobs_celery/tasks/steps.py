"""The steps of a run: what the job remembers of earlier ones, and what this one adds.

A step is found by its name: what it has returned once, it returns in every later run of the job,
and its function is not called again. A sleep and a wait for a signal are steps as well, that
suspend the run until they are over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from kombu.exceptions import ContentDisallowed, SerializationError

from ..config import read_setting
from ..db.database import Database
from ..db.rows.steps import Passed
from ..errors import (
    CannotJoin,
    ClaimLost,
    InvalidOption,
    SignalTimeout,
    StepNotRemembered,
    StepRepeated,
    StepsUnavailable,
)
from ..job.exceptions import Suspended
from ..job.held_claim import HeldClaim
from ..job.progress import progress_of
from ..job.steps import Kind, Memory, Names, Wait
from ..job.values import accepted_by, decode_value, encode_value, serializer_of
from .running_job import running_job

#: No value of a default: a signal that does not come in time is an error.
RAISE: Any = object()


class StepMemory(Protocol):
    """The place where the steps of a job are remembered."""

    def load(self) -> dict[str, Memory]:
        """All that the job remembers; asked once in a run."""

    def record(self, name: str, memory: Memory) -> None:
        """Remember a step; raises ClaimLost where another worker has the job."""

    def pass_wait(self, wait: Wait) -> Passed:
        """Pass a wait that is over, or note it."""

    def restore(self, memories: dict[str, Memory]) -> None:
        """Remember this alone: a transaction of the task without rows was rolled back."""


class RowSteps:
    """The memory of a job that has a row."""

    def __init__(self, database: Database, task_id: str, held: HeldClaim) -> None:
        self._database = database
        self._task_id = task_id
        self._fence = held.fence
        self._job: int | None = None

    def load(self) -> dict[str, Memory]:
        """One statement for all steps of the job."""
        known = self._database.steps.read_steps(self._task_id, self._fence)
        if known is None:
            raise self._lost()
        self._job = known.job
        return known.memories

    def record(self, name: str, memory: Memory) -> None:
        """Remember it at once; in the caller's transaction with its rows."""
        assert self._job is not None
        steps = self._database.steps
        with self._database.joining():
            if not self._database.is_joined:
                if not steps.record_step(self._job, self._fence, name, memory):
                    raise self._lost()
                return
            is_recorded, is_held = steps.record_joined_step(self._job, self._fence, name, memory)
        if not is_held:
            raise self._lost()
        if not is_recorded:
            raise StepRepeated(
                f"job {self._task_id}: another run has recorded the step {name!r} meanwhile; roll "
                "the transaction back, and the next run finds what it has returned"
            )

    def pass_wait(self, wait: Wait) -> Passed:
        """One statement; never within a transaction of the caller's."""
        assert self._job is not None
        self.require_no_transaction()
        passed = self._database.steps.pass_wait(self._job, self._fence, wait)
        if passed is None:
            raise self._lost()
        return passed

    def restore(self, memories: dict[str, Memory]) -> None:
        """Nothing: rows are rolled back by themselves."""

    def require_no_transaction(self) -> None:
        """Raise CannotJoin in a transaction of the caller's."""
        database = self._database
        if database.is_in_transaction or database.find_point().caller is not None:
            raise CannotJoin(
                "a job cannot sleep or wait in a transaction: it gives its worker away, and the "
                "connection with it; end the transaction before"
            )

    def _lost(self) -> ClaimLost:
        return ClaimLost(
            f"job {self._task_id} is not this task's any more: its step is not recorded"
        )


class LocalSteps:
    """The memory of a task that is called directly or eagerly: as long as its run.

    Steps just run. A sleep is over at once; a signal is there if ``signals`` has it, by its name.
    """

    def __init__(self) -> None:
        self.memories: dict[str, Memory] = {}
        #: The signals that were sent to the job, in their order, by name.
        self.signals: dict[str, list[Memory]] = {}

    def load(self) -> dict[str, Memory]:
        """The memories of earlier runs, where a test keeps them from one run to the next."""
        return dict(self.memories)

    def record(self, name: str, memory: Memory) -> None:
        """Remember it here."""
        self.memories[name] = memory

    def restore(self, memories: dict[str, Memory]) -> None:
        """Remember this alone."""
        self.memories = dict(memories)

    def pass_wait(self, wait: Wait) -> Passed:
        """Never waits."""
        memory = Memory(Kind.SLEEP if wait.name is None else Kind.TIMEOUT)
        if wait.name is not None and (sent := self.signals.get(wait.name)):
            memory = sent.pop(0)
        self.memories[wait.step] = memory
        return Passed(memory, None)


class Step(NamedTuple):
    """A step that a run has come to, and what the job remembers of it."""

    name: str
    memory: Memory | None


class StepRun:
    """The steps of one run of a task."""

    def __init__(self, memory: StepMemory, app: Any, task_id: str) -> None:
        self.memory = memory
        self._conf = app.conf
        self._limit: int | None = None
        self._task_id = task_id
        self._names = Names()
        self._known: dict[str, Memory] | None = None
        self._seen: set[str] = set()
        self._suspended: Suspended | None = None

    def begin(self, name: str) -> Step:
        """The run comes to a step of this name."""
        if self._suspended is not None:  # the task has caught it, and goes on
            raise self._suspended
        if self._known is None:
            self._known = self.memory.load()
        numbered = self._names.number(name)
        self._seen.add(numbered)
        return Step(numbered, self._known.get(numbered))

    def key_of(self, name: str) -> str:
        """A text for the next step of a name, the same in each run of the job."""
        return f"{self._task_id}:{self._names.upcoming(name)}"

    def is_replaying(self) -> bool:
        """True while the job remembers steps that this run has not come to."""
        return self._known is not None and not self._seen.issuperset(self._known)

    def returned(self, step: Step, value: Any, kind: Kind = Kind.STEP) -> Any:
        """Record what a step has returned; as later runs will get it."""
        memory = Memory(kind, *self._encode(step.name, value))
        self.memory.record(step.name, memory)
        self._keep(step.name, memory)
        return self.value(step.name, memory)

    def wait(self, wait: Wait, default: Any = RAISE) -> Any:
        """Pass a wait that is over; otherwise suspend the run."""
        passed = self.memory.pass_wait(wait)
        if passed.memory is None:
            what = "sleeps" if wait.name is None else f"waits for signal {wait.name}"
            self._suspended = Suspended(what, passed.remaining)
            raise self._suspended
        self._keep(wait.step, passed.memory)
        return self.passed(wait, passed.memory, default)

    def passed(self, wait: Wait, memory: Memory, default: Any) -> Any:
        """The value of a wait that is over."""
        if memory.kind is Kind.TIMEOUT:
            if default is RAISE:
                raise SignalTimeout(
                    f"signal {wait.name!r} did not come in time to job {self._task_id}"
                )
            return default
        return self.value(wait.step, memory)

    def value(self, name: str, memory: Memory) -> Any:
        """The value that a remembered step has returned."""
        if memory.value is None:
            return None
        try:
            return decode_value(memory.value, memory.value_type, accepted_by(self._conf))
        except ContentDisallowed as error:
            raise StepNotRemembered(
                f"the value of step {name!r} is {memory.value_type}, which accept_content does "
                "not allow to be read"
            ) from error

    def _keep(self, name: str, memory: Memory) -> None:
        if self._known is not None:
            self._known[name] = memory

    def _encode(self, name: str, value: Any) -> tuple[bytes, str]:
        serializer = serializer_of(self._conf)
        try:
            encoded, content_type = encode_value(value, serializer)
        except SerializationError as error:
            raise StepNotRemembered(
                f"step {name!r} has returned what {serializer} cannot hold ({error}): return "
                "something else, or nothing"
            ) from error
        if self._limit is None:
            self._limit = int(read_setting(self._conf, "step_max_size"))
        if len(encoded) > self._limit:
            raise StepNotRemembered(
                f"step {name!r} has returned {len(encoded):,} bytes, more than "
                f"pgjobs_step_max_size ({self._limit:,}): store the data, and return where it is"
            )
        return encoded, content_type


def step_run(task: Any) -> StepRun:
    """The steps of the running task; the same ones each time. Raises StepsUnavailable."""
    request = task.request
    progress = progress_of(request)
    if progress.steps is None:
        progress.steps = StepRun(_find_memory(request), task.app, str(request.id))
    run: StepRun = progress.steps
    return run


def _find_memory(request: Any) -> StepMemory:
    job = running_job(request)
    if job.held is not None and job.database is not None:
        return RowSteps(job.database, job.task_id, job.held)
    if job.held is not None or request.called_directly or request.is_eager:
        return LocalSteps()
    raise StepsUnavailable(
        "the job has come through another broker than pgjobs://, and has no row where steps could "
        "be remembered"
    )


def require_function(function: Any) -> Callable[..., Any]:
    """The function of a step; raises InvalidOption for what was called already."""
    if not callable(function):
        raise InvalidOption(
            f"a step takes a function and its arguments, step(name, function, *args), not "
            f"{function!r:.80}"
        )
    called: Callable[..., Any] = function
    return called

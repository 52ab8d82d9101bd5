"""The steps, waits and signals of jobs: their memory, one method for each statement."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from ...job.rows import Fence
from ...job.steps import Kind, Memory, Signal, Wait
from .. import notify
from .audit import Audit

if TYPE_CHECKING:
    from ..connection import Row
    from ..session import Session
    from .audit import Action

#: How many steps of a job are shown, and up to how many bytes of each.
SHOWN = 1000
LARGEST = 1024 * 1024


class KnownSteps(NamedTuple):
    """The memory of a running job, and the number of its row."""

    job: int
    memories: dict[str, Memory]


class Passed(NamedTuple):
    """A wait that a job has come to."""

    #: The memory that it has become; None while it lasts.
    memory: Memory | None
    #: For how many seconds more; None for as long as it takes.
    remaining: float | None


class DoneStep(NamedTuple):
    """A step that a job has done."""

    name: str
    kind: str
    #: None where it has none, or too large a one.
    value: bytes | None
    value_type: str | None
    size: int | None
    attempt: int
    recorded_at: datetime


class WaitingFor(NamedTuple):
    """A job's wait: ``signal`` is None for a sleep."""

    step: str
    signal: str | None
    key: str | None
    since: datetime
    until: datetime | None


class Steps:
    """Statements on ``steps``, ``waits`` and ``signals``. Those of running tasks may run twice."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def read_steps(self, task_id: str, fence: Fence) -> KnownSteps | None:
        """All that the job remembers; None if the claim is lost."""
        rows = self._run("read_steps", task_id=task_id, **fence._asdict())
        if not rows:
            return None
        memories = {
            name: Memory(Kind(kind), value, value_type)
            for _, name, kind, value, value_type in rows
            if name is not None
        }
        return KnownSteps(rows[0][0], memories)

    def record_step(self, job: int, fence: Fence, name: str, memory: Memory) -> bool:
        """Remember it; False if the claim is lost."""
        return bool(self._run("record_step", **_step(job, fence, name, memory)))

    def record_joined_step(
        self, job: int, fence: Fence, name: str, memory: Memory
    ) -> tuple[bool, bool]:
        """The same in the caller's transaction: whether it was, and whether the claim stands."""
        call = self._session.call("record_joined_step", **_step(job, fence, name, memory))
        ((is_recorded, is_held),) = self._session.run([call])[0]
        return bool(is_recorded), bool(is_held)

    def pass_wait(self, job: int, fence: Fence, wait: Wait) -> Passed | None:
        """Pass it if it is over, or note it; None if the claim is lost."""
        rows = self._run("pass_wait", job=job, **fence._asdict(), **wait._asdict())
        if not rows:
            return None
        kind, payload, payload_type, remaining = rows[0]
        memory = None if kind is None else Memory(Kind(kind), payload, payload_type)
        return Passed(memory, remaining)

    def send_signals(
        self, signals: Sequence[Signal], sender: str, action: Action, *, is_first: bool = False
    ) -> int:
        """Send them, each audited with the rest, and wake who looks for them; how many were sent.

        In the caller's transaction they are part of it. Fewer than given only with ``is_first``.
        """
        session = self._session
        call = session.call(
            "send_signals",
            task_ids=[each.task_id for each in signals],
            keys=[each.key for each in signals],
            names=[each.name for each in signals],
            payloads=[each.payload for each in signals],
            types=[each.payload_type for each in signals],
            is_first=is_first,
            sent_by=sender,
        )
        ids = [each.task_id for each in signals if each.task_id is not None]
        audit = session.call("record_action", **action.values(len(signals), ids))
        wake = session.wake(notify.DUE)
        if not is_first:
            # In one flush, the second after the first's commit.
            return len(session.run([call, audit], [wake])[0])
        with Audit(session).acting():
            sent = len(session.run([call])[0])
            if sent:
                session.run([audit])
        if sent:
            session.run([wake])
        return sent

    def wake_waiting(self, limit: int) -> tuple[dict[str, int], bool]:
        """Put jobs in line whose signal is there, and wake workers: how many of each queue.

        And whether there may be more.
        """
        session = self._session
        calls = [session.call("pin_plans"), session.call("wake_waiting", limit=limit)]
        rows = session.run(calls)[1]
        woken = {queue: count for queue, count, _ in rows if queue is not None}
        if woken:
            session.run(*([session.wake_for_jobs(*each)] for each in woken.items()))
        return woken, rows[0][2] >= limit

    def may_be_interrupted(self, job: int, attempt: int, bound: int) -> bool:
        """True if an interruption costs the job no attempt."""
        return bool(self._run("may_be_interrupted", job=job, attempt=attempt, bound=bound))

    def list_steps(self, task_id: str) -> list[DoneStep]:
        """The first of the steps that a job has done, in their order."""
        rows = self._run("list_steps", task_id=task_id, limit=SHOWN, largest=LARGEST)
        return [DoneStep(*row) for row in rows]

    def find_wait(self, task_id: str) -> WaitingFor | None:
        """A job's wait; None where it does not wait."""
        rows = self._run("find_wait", task_id=task_id)
        return WaitingFor(*rows[0]) if rows else None

    def advance_waits(
        self, seconds: float, jobs: Sequence[int] | None = None, *, sleeps_only: bool = False
    ) -> None:
        """In a test: have waits, or sleeps only, end so much sooner, of all jobs or of these."""
        ids = None if jobs is None else list(jobs)
        self._run("advance_waits", seconds=seconds, jobs=ids, sleeps_only=sleeps_only)

    def prune_signals(self, age: float, limit: int) -> int:
        """Delete up to ``limit`` signals that nobody took in so many seconds; how many."""
        return int(self._run("prune_signals", age=age, limit=limit)[0][0])

    def _run(self, name: str, /, **values: Any) -> list[Row]:
        session = self._session
        calls = [session.call("pin_plans"), session.call(name, **values)]
        return session.retrying(lambda: session.run(calls))[1]


def _step(job: int, fence: Fence, name: str, memory: Memory) -> dict[str, Any]:
    node: UUID = fence.node
    return {
        "job": job, "node": node, "attempt": fence.attempt, "name": name,
        "kind": memory.kind.value, "value": memory.value, "value_type": memory.value_type,
    }  # fmt: skip

"""Write what became of claimed jobs: the statements, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ...job.outcome import Outcome
from ...job.states import State
from .. import notify
from ..notify import waiter

if TYPE_CHECKING:
    from ..connection import Call, Row
    from ..session import Session

#: Where an attempt has ended and its job has not.
_AGAIN = (State.RETRYABLE, State.SCHEDULED)


def settle_calls(
    session: Session, node: UUID, outcomes: Sequence[Outcome], bound: int
) -> dict[str, Call]:
    """The statements that write these outcomes, by their names.

    Jobs with steps may be interrupted up to ``bound`` times without losing an attempt.
    """
    calls: dict[str, Call] = {}
    completed = [each for each in outcomes if each.state is State.COMPLETED]
    if completed:
        calls["settle_completed"] = _settle_completed(session, node, completed)
    if len(completed) == len(outcomes):
        return calls
    others = [each for each in outcomes if each.state is not State.COMPLETED]
    if cut := [each for each in others if each.is_interrupted]:
        calls["forgive_interrupted"] = forgive_call(session, node, cut, bound)
    calls["settle_others"] = _settle_others(session, node, others)
    if again := [each.id for each in others if each.state in _AGAIN]:
        calls["tally_retries"] = session.call("tally_retries", ids=again)
    if back := [each.id for each in others if each.state is State.AVAILABLE]:
        calls["tell_lanes"] = session.call("tell_lanes", ids=back)
    return calls


def forgive_call(session: Session, node: UUID, cut: Sequence[Outcome], bound: int) -> Call:
    """The statement that gives jobs with steps back an attempt that was cut off."""
    return session.call(
        "forgive_interrupted",
        node=node,
        ids=[each.id for each in cut],
        attempts=[each.attempt for each in cut],
        bound=bound,
    )


def read_settled(rows: Mapping[str, Sequence[Row]]) -> dict[int, State]:
    """The new states of those whose claim was not lost before, by the number of the row."""
    settled = {row[0]: State.COMPLETED for row in rows.get("settle_completed", ())}
    return settled | {row[0]: State(row[1]) for row in rows.get("settle_others", ())}


def _settle_completed(session: Session, node: UUID, outcomes: Sequence[Outcome]) -> Call:
    results = [outcome.result for outcome in outcomes]
    return session.call(
        "settle_completed",
        node=node,
        ids=[outcome.id for outcome in outcomes],
        attempts=[outcome.attempt for outcome in outcomes],
        results=_given([result and result.result for result in results]),
        result_types=_given([result and result.result_type for result in results]),
        children=_given([result and result.children for result in results]),
        waiters=_waiters(outcomes),
        channel=notify.result_channel(session.schema),
        kind=notify.RESULT,
        space=notify.SLEEPERS,
    )


def _settle_others(session: Session, node: UUID, outcomes: Sequence[Outcome]) -> Call:
    return session.call(
        "settle_others",
        node=node,
        ids=[outcome.id for outcome in outcomes],
        attempts=[outcome.attempt for outcome in outcomes],
        states=[outcome.state.value for outcome in outcomes],
        counts=["t" if outcome.counts else "f" for outcome in outcomes],
        delays=_given([outcome.delay for outcome in outcomes]),
        errors=_given([outcome.error for outcome in outcomes]),
        leaves=["f" if outcome.is_stored else "t" for outcome in outcomes],
        waiters=_waiters(outcomes),
        losses=["t" if outcome.was_lost else "f" for outcome in outcomes],
        channel=notify.result_channel(session.schema),
        kind=notify.RESULT,
        work_channel=notify.work_channel(session.schema),
        back=notify.BACK,
        due=notify.DUE,
        space=notify.SLEEPERS,
    )


def _waiters(outcomes: Sequence[Outcome]) -> list[str | None] | None:
    return _given([waiter(each.awaited) if each.awaited else None for each in outcomes])


def _given(values: list[Any]) -> list[Any] | None:
    """The values; None where not one is given, which is neither written out nor parsed."""
    return None if values.count(None) == len(values) else values

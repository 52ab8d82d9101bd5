"""Outcomes that take a way of their own: refused by the server, too late, or the job's last."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from uuid import UUID

from ..db.database import CONNECTION_ERRORS, REFUSALS, Database
from ..job.outcome import FinishedJob, Outcome, discarded, error_from
from ..job.states import State
from ..printable import guarded

logger = guarded(logging.getLogger(__name__))


def settle_each(
    database: Database, node: UUID, outcomes: Sequence[Outcome]
) -> tuple[list[Outcome], dict[int, State]]:
    """Write each in a transaction of its own: one is refused, and the others must not wait for it.

    Returns those whose claim was lost before, and the states of the others by the row's number.
    """
    lost = [each for outcome in outcomes for each in _settle_alone(database, node, outcome)]
    return lost, {each.id: each.state for each in outcomes if each not in lost}


def _settle_alone(database: Database, node: UUID, outcome: Outcome) -> list[Outcome]:
    try:
        return database.claims.settle_jobs(node, [outcome])
    except REFUSALS as error:
        logger.error("job %s: its outcome (%s) was refused: %s", outcome.id, outcome.state, error)
        why = error_from(error)
    try:
        instead = discarded(outcome, why)
        return database.claims.settle_jobs(node, [instead])
    except REFUSALS as error:
        logger.error("job %s cannot be set aside either: %s", outcome.id, error)
        return []


def report_lost(database: Database, lost: Iterable[Outcome]) -> int:
    """Log the outcomes that were not written because others had the jobs; how many those are."""
    count = 0
    for outcome in lost:
        if _requeue_success(database, outcome):
            continue
        if outcome.is_sole:
            count += 1
            logger.warning(
                "job %s: attempt %s was no longer ours; its outcome (%s) was not written",
                outcome.id, outcome.attempt, outcome.state,
            )  # fmt: skip
    return count


def _requeue_success(database: Database, outcome: Outcome) -> bool:
    """True for a job that its task has put back after it had stored its own SUCCESS."""
    if outcome.state is not State.AVAILABLE or not outcome.counts:
        return False
    try:
        return database.claims.requeue_success(outcome.id, outcome.attempt)
    except CONNECTION_ERRORS as error:  # the claims that came with it must not be lost
        logger.warning("job %s was not put back: %s", outcome.id, error)
        return False


def finished_jobs(
    outcomes: Iterable[Outcome], settled: Mapping[int, State]
) -> Iterator[FinishedJob]:
    """The jobs of these outcomes that have come to their end, where receivers must be told."""
    for outcome in outcomes:
        state = settled.get(outcome.id)
        if state is None and not outcome.is_sole and outcome.state is not State.COMPLETED:
            # The process that ran the task has written it. Not of one that retried or replaced
            # itself: its row is in line again.
            state = outcome.state
        if outcome.job is not None and state is not None and state.is_final:
            yield FinishedJob(*outcome.job, outcome.attempt, state, outcome.error)

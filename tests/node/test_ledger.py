"""Notes are written once and in their order; those that could not be written come first again."""

from __future__ import annotations

import threading

import pytest

from pgjobs_celery.db.rows.claims import Pending
from pgjobs_celery.job.outcome import Outcome
from pgjobs_celery.job.states import State
from pgjobs_celery.node.ledger import Ledger

ONE, TWO, THREE = (Outcome(id, 1, State.COMPLETED) for id in (1, 2, 3))


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def note_all(ledger: Ledger) -> None:
    """One note of each kind."""
    ledger.note(ledger.outcomes, ONE)
    ledger.note(ledger.parts, True)
    ledger.note(ledger.read, 10)
    ledger.note(ledger.returned, 20)
    ledger.note(ledger.freed, "limited")
    ledger.note(ledger.begun, (2, 1))
    ledger.note(ledger.left, "left")


def test_every_note_is_unwritten_until_it_is_taken(ledger):
    assert (ledger.unwritten, ledger.take()) == (0, Pending([], [], [], [], []))
    note_all(ledger)
    assert ledger.unwritten == 7
    assert ledger.take() == Pending([True], [ONE], [10], [20], ["limited"])
    # Statements of their own write these.
    assert ledger.unwritten == 2
    assert (list(ledger.begun), list(ledger.left)) == ([(2, 1)], ["left"])


def test_notes_that_are_put_back_come_before_those_that_came_since(ledger):
    ledger.note(ledger.outcomes, ONE)
    ledger.note(ledger.outcomes, TWO)
    pending = ledger.take()
    ledger.note(ledger.outcomes, THREE)
    ledger.put_back(pending)
    assert ledger.jobs() == [1, 2, 3]
    assert ledger.take().outcomes == [ONE, TWO, THREE]


def test_notes_of_every_kind_are_put_back(ledger):
    note_all(ledger)
    pending = ledger.take()
    ledger.put_back(pending)
    assert (ledger.unwritten, ledger.messages()) == (7, [10, 20])
    assert ledger.take() == pending


def test_the_age_is_that_of_the_first_note(ledger):
    ledger.note(ledger.outcomes, ONE)
    since = ledger.since
    assert since > 0
    ledger.note(ledger.read, 10)
    assert ledger.since == since
    ledger.take()
    ledger.note(ledger.freed, "limited")
    assert ledger.since > since


def test_a_kind_that_cannot_be_written_is_kept(ledger):
    ledger.note(ledger.begun, (1, 1))
    ledger.note(ledger.begun, (2, 1))

    def refuse(begun: list[tuple[int, int]]) -> None:
        ledger.note(ledger.begun, (3, 1))
        raise ConnectionError("cut off")

    with pytest.raises(ConnectionError):
        ledger.write(ledger.begun, refuse)
    written: list[list[tuple[int, int]]] = []
    ledger.write(ledger.begun, written.append)
    ledger.write(ledger.begun, written.append)  # nothing is left to write
    assert written == [[(1, 1), (2, 1), (3, 1)]]


def test_the_outcome_of_a_part_that_is_taken_is_taken_too(ledger):
    """While other threads note: each its outcome first, then its part."""
    count, threads = 2_000, 4

    def work(number: int) -> None:
        for id in range(count):
            ledger.note(ledger.outcomes, Outcome(number * count + id, 1, State.COMPLETED))
            ledger.note(ledger.parts, True)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    outcomes, parts = [], 0
    while parts < count * threads:
        pending = ledger.take()
        outcomes += pending.outcomes
        parts += len(pending.parts)
        assert len(outcomes) >= parts
    for worker in workers:
        worker.join()
    assert sorted(outcome.id for outcome in outcomes) == list(range(count * threads))
    assert ledger.unwritten == 0

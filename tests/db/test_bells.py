"""Of single jobs few of the waiting workers are told, at random, and of many jobs more of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest

from pgjobs_celery.db.database import Database
from pgjobs_celery.db.notify import (
    BELLS,
    RUNG,
    Listener,
    work_channel,
)
from tests.support.rows import put
from tests.support.waiting import wait_for

from .test_notify import locks

pytestmark = pytest.mark.usefixtures("alone", "living_nodes")

Waiting = Callable[..., Listener]


@pytest.fixture
def waiting(database: Database) -> Iterator[Waiting]:
    """A factory of listeners with this bell, which is rung for jobs of these queues."""
    with ExitStack() as opened:

        def start(bell: int, *rung: str, queue: str = "celery") -> Listener:
            listener = database.listen_for_work([bell])
            opened.callback(listener.close)
            listener.announce([queue, ""], rung)
            return listener

        yield start


def heard(listeners: list[Listener]) -> list[list[str]]:
    """What each has heard so far: the kinds and the queues, without the numbers."""
    marks = [f"mark{number}" for number in range(len(listeners))]
    found = []
    for listener, mark in zip(listeners, marks, strict=True):
        with psycopg.connect(listener._connection.psycopg.info.dsn, autocommit=True) as other:
            other.execute("SELECT pg_notify(%s, %s)", [work_channel("pgjobs"), mark])
        payloads: set[str] = set()
        while mark not in payloads:
            payloads |= listener.wait(5)
        found.append(
            sorted(
                RUNG + each.partition(":")[2] if each.startswith(RUNG) else each
                for each in payloads
                if not each.startswith("mark")
            )
        )
    return found


def test_of_one_job_two_workers_hear_whichever_they_are(database: Database, waiting: Waiting):
    listeners = [waiting(bell, "celery") for bell in range(8)]
    told = Counter[int]()
    for _ in range(40):
        put(database, "")
        found = heard(listeners)
        assert sorted(found) == [[]] * 6 + [["ocelery"]] * 2
        told.update(number for number, payloads in enumerate(found) if payloads)
    # One of them is passed over for all 40 in a run of 5,000.
    assert set(told) == set(range(8))


def test_of_more_jobs_as_many_hear_and_one_more_and_of_many_all(
    database: Database, waiting: Waiting
):
    listeners = [waiting(bell, "celery") for bell in range(6)]
    for count in (2, 4):
        database.run([database.wake_for_jobs("celery", count)])
        assert sorted(heard(listeners)) == [[]] * (5 - count) + [["ocelery"]] * (count + 1)
    database.run([database.wake_for_jobs("celery", BELLS)])
    assert heard(listeners) == [["jcelery"]] * 6


def test_a_bell_is_rung_once_for_each_job(database: Database, waiting: Waiting):
    listener = waiting(3, "celery")
    put(database, "a", "b", "c")
    assert heard([listener]) == [["ocelery"] * 3]


def test_workers_with_the_same_bell_hear_both(database: Database, waiting: Waiting):
    listeners = [waiting(3, "celery"), waiting(3, "celery"), waiting(4, "celery")]
    put(database, "a")
    assert heard(listeners) == [["ocelery"]] * 3


def test_where_none_has_a_bell_all_are_told(database: Database, waiting: Waiting):
    listeners = [waiting(bell) for bell in range(3)]
    put(database, "a")
    assert heard(listeners) == [["jcelery"]] * 3


def test_a_bell_is_rung_for_its_queues_only(database: Database, waiting: Waiting):
    listeners = [waiting(1, "other"), waiting(2, "celery"), waiting(3, "other", queue="other")]
    put(database, "a")
    assert heard(listeners) == [[], ["ocelery"], []]


def test_one_that_waits_no_more_is_not_rung_for_and_the_others_are(
    database: Database, waiting: Waiting
):
    listeners = [waiting(bell, "celery") for bell in range(3)]
    listeners[0].announce([""])
    listeners[1].silence([])
    put(database, "a")
    assert heard(listeners) == [[], [], ["ocelery"]]
    # A silent one is told of what all are told.
    before = locks(database)
    listeners[2].close()
    wait_for(lambda: locks(database) == before - 3)  # its session has ended
    put(database, "b")
    assert heard(listeners[:2]) == [["jcelery"]] * 2
    listeners[1].announce(["celery"], ["celery"])
    put(database, "c")
    assert heard(listeners[:2]) == [[], ["ocelery"]]


def test_who_silences_its_bell_rings_others_in_the_same_breath(
    database: Database, waiting: Waiting
):
    busy, idle = waiting(1, "celery"), waiting(2, "celery")
    busy.silence([database.wake_for_jobs("celery", 3)])
    assert heard([busy, idle]) == [[], ["ocelery"]]
    idle.silence([database.wake_for_jobs("celery")])
    assert heard([busy, idle]) == [["jcelery"]] * 2


def test_in_a_transaction_all_are_told_with_its_commit(database: Database, waiting: Waiting):
    listeners = [waiting(bell, "celery") for bell in range(3)]
    with database.transaction():
        put(database, "a")
        assert heard(listeners) == [[], [], []]
    assert heard(listeners) == [["jcelery"]] * 3


def test_ringing_leaves_no_lock_behind(database: Database, waiting: Waiting):
    waiting(1, "celery")
    before = locks(database)
    put(database, "a", "b")
    assert locks(database) == before == 3

"""Steps, waits and signals in the database: fenced, race-free, and gone with their job."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from celery import Celery
from celery.result import AsyncResult, GroupResult

from pgjobs_celery import Key, PgTask, audit, jobs, signal, signal_many, using
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows.steps import Passed
from pgjobs_celery.errors import InvalidOption, StepNotRemembered
from pgjobs_celery.job.outcome import completed, snoozed
from pgjobs_celery.job.rows import Bucket, Claim, Fence
from pgjobs_celery.job.steps import Kind, Memory, Wait
from tests.support.rows import alive, new_job, put, row

from ..conftest import Connection
from .test_matches import A, B


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return make_app()


def claim(database: Database, node: Any = A) -> Claim:
    alive(database, node)
    (claim,), _ = database.claims.claim_jobs(node, "n", [Bucket("celery")], 1)
    return claim


def fence(claim: Claim, node: Any = A) -> Fence:
    return Fence(node, claim.attempt)


def wait(database: Database, claim: Claim, **given: Any) -> Passed | None:
    """The running job comes to a wait."""
    wait = Wait(**{"step": "approved", "name": "approved", **given})
    return database.steps.pass_wait(claim.id, fence(claim), wait)


def park(database: Database, claim: Claim, delay: float = 1e9) -> None:
    """Its run is suspended."""
    assert not database.claims.settle_jobs(A, [snoozed(claim, delay)])


def woken(database: Database) -> int:
    return sum(database.steps.wake_waiting(100)[0].values())


def counts(connection: Connection) -> dict[str, int]:
    tables = ("steps", "waits", "signals")
    return {
        name: connection.execute(f"SELECT count(*) AS n FROM pgjobs.{name}").fetchone()["n"]
        for name in tables
    }


def test_a_step_is_recorded_once_and_by_who_holds_the_job(database):
    put(database, "a")
    held = claim(database)
    memory = Memory(Kind.STEP, b"1", "application/json")
    assert database.steps.read_steps("a", fence(held)).memories == {}
    assert database.steps.record_step(held.id, fence(held), "charge", memory)
    # As where the answer to it was cut off.
    assert database.steps.record_step(held.id, fence(held), "charge", memory)
    assert not database.steps.record_step(held.id, Fence(B, 1), "mail", memory)
    assert not database.steps.record_step(held.id, Fence(A, 2), "mail", memory)
    assert database.steps.read_steps("a", fence(held)) == (held.id, {"charge": memory})
    assert database.steps.read_steps("a", Fence(B, 1)) is None
    assert wait(database, held._replace(attempt=2)) is None


def test_a_rescued_run_records_nothing(database, connection):
    put(database, "a")
    held = claim(database)
    connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = '-infinity'")
    database.claims.rescue_jobs(bound=20)
    assert not database.steps.record_step(held.id, fence(held), "charge", Memory(Kind.STEP))
    assert wait(database, held, name=None, delay=0.0) is None
    assert counts(connection) == {"steps": 0, "waits": 0, "signals": 0}


def test_of_two_transactions_that_record_a_step_one_does(database, url):
    put(database, "a")
    held = claim(database)
    with psycopg.connect(parse_url(url)) as connection, using(connection):
        with database.joining():
            memory = Memory(Kind.STEP)
            record = database.steps.record_joined_step
            assert record(held.id, fence(held), "book", memory) == (True, True)
            assert record(held.id, fence(held), "book", memory) == (False, True)
            assert record(held.id, Fence(B, 1), "mail", memory) == (False, False)
        connection.rollback()
    assert database.steps.read_steps("a", fence(held)).memories == {}


def test_a_signal_is_taken_in_its_order_and_by_one(app, database):
    put(database, "a")
    held = claim(database)
    assert signal(app, "a", "approved", 1)
    assert signal(app, Key("k"), "approved", 2)
    assert signal(app, "a", "approved", 3)
    assert signal(app, "a", "other", 4)
    found = [wait(database, held, step=f"approved#{n}", key="k").memory.value for n in range(1, 4)]
    assert found == [b"1", b"2", b"3"]
    assert wait(database, held, key="k").memory is None


#: The two sides of a wait, in every order: it is noted, and the job is scheduled, by a settlement
#: that comes later; the signal is sent; and a service looks, at any time, and in the end.
SIDES = ["note", "schedule", "send"]
#: A job is scheduled after it has come to its wait.
ORDERS = [
    each for each in itertools.permutations(SIDES) if each.index("note") < each.index("schedule")
]


@pytest.mark.parametrize("looks", [0b0000, 0b0001, 0b0010, 0b0100, 0b0111, 0b0011, 0b0110])
@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
@pytest.mark.parametrize("address", ["id", "key"])
def test_neither_side_misses_the_other(app, database, order, looks, address):
    put(database, "a")
    held = claim(database)
    is_taken = False
    count = 0
    for number, what in enumerate(order):
        if what == "note":
            is_taken = wait(database, held, key="k").memory is not None
        elif what == "send":
            assert signal(app, "a" if address == "id" else Key("k"), "approved", 1)
        elif not is_taken:
            park(database, held)
        if looks >> number & 1:
            count += woken(database)
    count += woken(database)
    assert count == (not is_taken)
    assert woken(database) == 0
    if not is_taken:
        again = claim(database)
        assert wait(database, again, key="k").memory == Memory(
            Kind.SIGNAL, b"1", "application/json"
        )


def test_who_has_locked_the_job_does_not_lose_its_signal(app, database, url):
    put(database, "a")
    held = claim(database)
    wait(database, held)
    park(database, held)
    with psycopg.connect(parse_url(url)) as connection:
        connection.execute("SELECT FROM pgjobs.jobs FOR UPDATE")
        signal(app, "a", "approved")
        assert woken(database) == 0
    assert woken(database) == 1


def test_a_sender_in_a_transaction_holds_nobody_up(app, database, url):
    put(database, "a")
    held = claim(database)
    wait(database, held)
    park(database, held)
    with psycopg.connect(parse_url(url)) as connection:
        with using(connection):
            signal(app, "a", "approved")
        assert woken(database) == 0
        assert jobs(app).filter(id="a").reschedule(countdown=5) == ["a"]
        connection.commit()
    assert woken(database) == 1


def test_a_time_that_is_over_passes_the_wait(database, connection):
    put(database, "a")
    held = claim(database)
    first = wait(database, held, delay=60.0)
    assert first.memory is None
    assert 59 < first.remaining <= 60
    # Counted from the first time.
    assert wait(database, held, delay=600.0).remaining <= 60
    connection.execute("UPDATE pgjobs.waits SET until = now()")
    assert wait(database, held, delay=60.0).memory.kind is Kind.TIMEOUT
    assert wait(database, held, step="sleep", name=None, delay=0.0).memory.kind is Kind.SLEEP
    assert wait(database, held, step="for ever").remaining is None


def test_the_first_of_a_name_is_the_only_one(app, database):
    for to in ("a", Key("a")):
        assert signal(app, to, "approved", 1, first=True)
        assert not signal(app, to, "approved", 2, first=True)
        assert signal(app, to, "paid", 1)
        assert not signal(app, to, "paid", 2, first=True)
    assert signal_many(app, [("b", "approved"), ("b", "approved")], first=True) == 1


def test_many_signals_are_sent_together(app, database, connection):
    assert signal_many(app, ((f"t{n}", "approved", n) for n in range(2500))) == 2500
    rows = connection.execute("SELECT payload FROM pgjobs.signals ORDER BY id").fetchall()
    assert [int(row["payload"]) for row in rows] == list(range(2500))
    entries = audit(app).list(action="signal_job")
    assert [entry.jobs for entry in entries] == [500, 1000, 1000]
    assert entries[0].details == {"signal": "approved"}


def test_all_goes_with_the_job(app, database, connection):
    put(database, "a", "b")
    held = claim(database)
    other = claim(database)
    for each, id in ((held, "a"), (other, "b")):
        database.steps.record_step(each.id, fence(each), "charge", Memory(Kind.STEP))
        signal(app, id, "taken")
        signal(app, Key(f"k{id}"), "taken")
        wait(database, each, step="taken", name="taken")
        wait(database, each, step="taken#2", name="taken", key=f"k{id}")
        wait(database, each)
        signal(app, id, "never")
    database.claims.settle_jobs(A, [completed(held)])
    assert jobs(app).filter(id="a").delete() == ["a"]
    assert counts(connection) == {"steps": 3, "waits": 1, "signals": 3}
    assert {row["job"] for row in connection.execute("SELECT job FROM pgjobs.steps")} == {other.id}


def test_an_id_that_is_published_again_begins_without_a_memory(app, database, connection):
    put(database, "a")
    held = claim(database)
    database.steps.record_step(held.id, fence(held), "charge", Memory(Kind.STEP))
    signal(app, "a", "late")
    database.claims.settle_jobs(A, [completed(held)])
    signal(app, "a", "for the next")
    database.jobs.insert_job(new_job("a"))
    assert row(connection, "a")["id"] != held.id
    assert counts(connection) == {"steps": 0, "waits": 0, "signals": 1}


def test_a_retry_by_hand_keeps_the_steps_or_forgets_them(app, database):
    put(database, "a")
    held = claim(database)
    database.steps.record_step(held.id, fence(held), "charge", Memory(Kind.STEP))
    database.claims.settle_jobs(A, [completed(held)])
    assert jobs(app).filter(id="a").retry() == ["a"]
    again = claim(database)
    assert [*database.steps.read_steps("a", fence(again)).memories] == ["charge"]
    database.claims.settle_jobs(A, [completed(again)])
    assert jobs(app).filter(id="a").retry(forget_steps=True) == ["a"]
    again = claim(database)
    assert database.steps.read_steps("a", fence(again)).memories == {}


def test_old_signals_that_nobody_took_are_pruned(app, database, connection):
    put(database, "a")
    for to in ("a", "gone", Key("k")):
        signal(app, to, "x")
    assert database.steps.prune_signals(60.0, 100) == 0
    connection.execute("UPDATE pgjobs.signals SET sent_at = now() - interval '1 hour'")
    assert database.steps.prune_signals(60.0, 100) == 2
    assert counts(connection)["signals"] == 1


def test_what_a_job_has_done_and_waits_for_can_be_seen(app, database, connection):
    put(database, "a")
    held = claim(database)
    value = Memory(Kind.STEP, b'{"id": 7}', "application/json")
    database.steps.record_step(held.id, fence(held), "charge", value)
    assert jobs(app).get("a").waits_for() is None
    wait(database, held, delay=3600.0, key="order-7")
    park(database, held, 3600.0)
    job = jobs(app).get("a")
    assert [(step.name, step.kind, step.value, step.attempt) for step in job.steps()] == [
        ("charge", "step", {"id": 7}, 1)
    ]
    assert (job.waits_for().signal, job.waits_for().key) == ("approved", "order-7")
    found = job.explain()
    assert found.kind == "waits_for_signal"
    assert found.text.startswith('It waits for signal approved (key "order-7") since ')
    assert found.text.endswith("Steps done: charge.")
    assert found.remedy == "celery -A proj pgjobs signal a approved"
    signal(app, "a", "aproved")
    signal(app, Key("order-7"), "paid")
    signal(app, Key("order-7"), "approved")  # is taken in a moment
    found = job.explain()
    assert found.text.endswith("Signals that it does not wait for are kept: aproved, paid.")
    connection.execute("UPDATE pgjobs.waits SET name = NULL, key = NULL")
    assert jobs(app).get("a").explain().kind == "asleep"


@pytest.mark.parametrize(
    ("to", "name"), [("a", ""), ("a", "x\0"), ("a", "x" * 201), (7, "x"), ("", "x"), (Key(""), "x")]
)
def test_what_is_no_address_or_name_is_refused(app, to, name):
    with pytest.raises(InvalidOption):
        signal(app, to, name)


def test_a_payload_that_cannot_be_kept_is_refused(app):
    with pytest.raises(StepNotRemembered, match="json cannot hold"):
        signal(app, "a", "x", object())
    with pytest.raises(StepNotRemembered, match="pgjobs_step_max_size"):
        signal(app, "a", "x", "x" * 300_000)


def test_a_signal_goes_to_whatever_stands_for_a_job(app, database, connection):
    @app.task(name="ship", base=PgTask, shared=False)
    def ship() -> None: ...

    result = ship.delay()
    for to in (result, ship.AsyncResult(result.id), AsyncResult(result.id, app=app),
               app.AsyncResult(result.id), jobs(app).get(result.id), result.id):  # fmt: skip
        assert signal(app, to, "approved")
    assert ship.AsyncResult(result.id).signal("approved")
    sent = connection.execute("SELECT task_id FROM pgjobs.signals").fetchall()
    assert [row["task_id"] for row in sent] == [result.id] * 7
    group_of = GroupResult("a group", [result], app=app)
    with pytest.raises(InvalidOption, match="group"):
        signal(app, group_of, "approved")

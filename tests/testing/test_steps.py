"""Steps, sleeps and signals in a test: without a server, and in the test's own transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from celery import Celery

from pgjobs_celery import Key, PgTask, bulk, signal, using
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import IdempotencyMismatch, NeverEnds
from pgjobs_celery.testing import (
    advance,
    all_enqueued,
    drain_queue,
    perform_job,
    steps_of,
    testing,
)

from ..conftest import close_app

WEEK = timedelta(days=7)


class Shop:
    """An app with tasks that have steps, and what these have done."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.effects: list[str] = []
        #: The result of a job.
        self.read: Callable[[Any], Any] = lambda result: result.get()
        base = {"base": PgTask, "bind": True, "shared": False}

        @app.task(name="order", **base)
        def order(task: PgTask, number: int) -> str:
            charge = task.step("charge", self.effect, f"charge {number}")
            if task.request.attempt == 1 and number < 0:
                raise ValueError("no such number")
            task.sleep_for(3600)
            approval = task.wait_for("approved", WEEK, key=f"order-{number}", default=None)
            if approval is None:
                return "given up"
            task.step("mail", self.effect, f"mail to {approval['by']}")
            return f"{charge}, approved by {approval['by']}"

        @app.task(name="nap", **base)
        def nap(task: PgTask, until: str) -> str:
            task.sleep_until(datetime.fromisoformat(until))
            return "awake"

        @app.task(name="wait", **base)
        def wait(task: PgTask, key: str | None = None) -> Any:
            return [task.wait_for("go", key=key), task.wait_for("go", key=key)]

        @app.task(name="late", **base)
        def late(task: PgTask) -> Any:
            return task.wait_for("go", 60)

        @app.task(name="later", **base)
        async def later(task: PgTask) -> Any:
            await task.astep("look", self.effect, "look")
            await task.asleep_for(3600)
            return await task.await_for("go")

        self.order: Any = order
        self.nap: Any = nap
        self.wait: Any = wait
        self.late: Any = late
        self.later: Any = later

    def effect(self, what: str) -> str:
        self.effects.append(what)
        return f"{what} done"


@pytest.fixture
def shop(make_app: Callable[..., Celery]) -> Shop:
    return Shop(make_app("pgjobs"))


@pytest.fixture(params=["manual", "real", "real, in a transaction"])
def drained(request: pytest.FixtureRequest, make_app: Callable[..., Celery]) -> Iterator[Shop]:
    """The test, with captured jobs and with rows."""
    if request.param == "manual":
        shop = Shop(make_app("pgjobs"))
        with testing(shop.app):
            yield shop
        return
    url = request.getfixturevalue("url")
    shop = Shop(Celery("proj", broker=url, backend=url, set_as_current=False))
    with testing(shop.app, "real"):
        if request.param == "real":
            yield shop
        else:
            with psycopg.connect(parse_url(url)) as connection:
                # Nothing can wait for a result in the transaction that publishes its job.
                shop.read = lambda result: connection.execute(
                    "SELECT pgjobs.body_json(result) FROM pgjobs.jobs WHERE task_id = %s",
                    [result.id],
                ).fetchone()[0]  # type: ignore[index]
                with using(connection):
                    yield shop
                connection.rollback()
    close_app(shop.app)


def test_a_job_keeps_its_steps_from_run_to_run(drained: Shop):
    result = drained.order.delay(1)
    assert drain_queue() == {"suspended": 1}
    assert steps_of(result) == {"charge": "charge 1 done"}
    assert drain_queue() == {}
    advance(3000)
    assert drain_queue() == {}
    advance(600)
    assert drain_queue() == {"suspended": 1}
    assert list(steps_of(result)) == ["charge", "sleep"]
    assert signal(drained.app, result, "approved", {"by": "alice"})
    assert drain_queue() == {"completed": 1}
    assert drained.read(result) == "charge 1 done, approved by alice"
    assert drained.effects == ["charge 1", "mail to alice"]
    assert steps_of(result) == {
        "charge": "charge 1 done",
        "sleep": None,
        "approved": {"by": "alice"},
        "mail": "mail to alice done",
    }


def test_a_step_that_is_done_is_not_repeated_after_a_failure(drained: Shop):
    result = drained.order.delay(-1)
    assert drain_queue() == {"retried": 1}
    advance(3600)
    assert drain_queue() == {"suspended": 1}
    assert drained.effects == ["charge -1"]
    assert list(steps_of(result)) == ["charge"]


def test_a_signal_that_comes_before_the_wait_is_kept(drained: Shop):
    result = drained.order.delay(1)
    signal(drained.app, Key("order-1"), "approved", {"by": "bob"})
    drain_queue()
    advance(3600)
    assert drain_queue() == {"completed": 1}
    assert drained.read(result).endswith("bob")


def test_a_time_limit_passes_by_advance_alone(drained: Shop):
    result = drained.order.delay(1)
    drain_queue()
    assert drain_queue(with_scheduled=True, with_recursion=True) == {"suspended": 1}
    assert drain_queue(with_scheduled=True, with_recursion=True) == {}
    advance(WEEK)
    assert drain_queue() == {"completed": 1}
    assert drained.read(result) == "given up"


def test_a_limit_without_a_default_ends_the_job(drained: Shop):
    result = drained.late.delay()
    drain_queue()
    advance(61)
    assert drain_queue() == {"discarded": 1}
    assert steps_of(result) == {"go": None}


def test_with_scheduled_sleeps_pass_at_once(drained: Shop):
    until = datetime.now(timezone.utc) + WEEK
    result = drained.nap.delay(until.isoformat())
    assert drain_queue(with_scheduled=True, with_recursion=True) == {
        "suspended": 1, "completed": 1,
    }  # fmt: skip
    assert drained.read(result) == "awake"


def test_signals_of_a_name_are_taken_in_their_order(drained: Shop):
    result = drained.wait.delay()
    drain_queue()
    signal(drained.app, result.id, "go", 1)
    signal(drained.app, result.id, "stop")
    assert drain_queue() == {"suspended": 1}
    signal(drained.app, result.id, "go", 2)
    assert drain_queue() == {"completed": 1}
    assert drained.read(result) == [1, 2]
    assert steps_of(result.id) == {"go": 1, "go#2": 2}


def test_the_first_signal_counts_where_that_is_asked(drained: Shop):
    result = drained.wait.delay()
    assert signal(drained.app, result, "go", 1, first=True)
    assert not signal(drained.app, result, "go", 2, first=True)
    drain_queue()
    assert steps_of(result) == {"go": 1}


def test_a_coroutine_has_steps_as_well(drained: Shop):
    result = drained.later.delay()
    assert drain_queue() == {"suspended": 1}
    advance(3600)
    assert drain_queue() == {"suspended": 1}
    result.signal("go", 7)
    assert drain_queue() == {"completed": 1}
    assert (drained.read(result), drained.effects) == (7, ["look"])


def test_inline_does_not_wait_for_a_time_but_for_a_signal(shop: Shop):
    with testing(shop.app, "inline"):
        result = shop.order.delay(1)
        assert list(steps_of(result)) == ["charge", "sleep"]
        assert result.state == "RETRY" or not result.ready()
        signal(shop.app, result, "approved", {"by": "alice"})
        assert result.get() == "charge 1 done, approved by alice"
        other = shop.order.delay(2)
        advance(WEEK)
        drain_queue()
        assert other.get() == "given up"
    assert shop.effects == ["charge 1", "mail to alice", "charge 2"]


def test_the_key_of_a_step_is_the_same_in_each_run(drained: Shop):
    keys: list[str] = []

    @drained.app.task(name="loop", base=PgTask, bind=True, shared=False)
    def loop(task: PgTask) -> list[str]:
        for _ in range(2):
            key = task.step_key("part")
            keys.append(key)
            task.step("part", drained.effect, key)
        if task.request.attempt == 1:
            raise ValueError("again")
        return list(drained.effects)

    result = loop.delay()
    drain_queue()
    advance(3600)
    assert drain_queue() == {"completed": 1}
    first, second = f"{result.id}:part", f"{result.id}:part#2"
    assert keys == [first, second] * 2
    assert drained.read(result) == [first, second]


def test_a_run_by_itself_gets_the_memory_and_the_signals_it_needs(shop: Shop):
    first = perform_job(shop.order, [1])
    assert (first.outcome, first.waits_at) == ("suspended", "sleep")
    assert first.delay == pytest.approx(3600, abs=600)
    assert first.steps == {"charge": "charge 1 done"}
    waiting = perform_job(shop.order, [1], steps={"charge": "old", "sleep": None})
    assert (waiting.outcome, waiting.waits_at) == ("suspended", "approved")
    done = perform_job(
        shop.order, [1], steps={"charge": "old", "sleep": None}, signals={"approved": {"by": "eve"}}
    )
    assert done.get() == "old, approved by eve"
    assert shop.effects == ["charge 1", "mail to eve"]
    endless = perform_job(shop.wait)
    assert (endless.outcome, endless.delay) == ("suspended", None)


def test_a_captured_job_is_performed_with_its_memory(shop: Shop):
    with testing(shop.app):
        result = shop.order.delay(1)
        [job] = all_enqueued()
        assert perform_job(job).waits_at == "sleep"
        assert perform_job(job, steps={"sleep": None}).waits_at == "approved"
        assert steps_of(result) == {"charge": "charge 1 done", "sleep": None}
    assert shop.effects == ["charge 1"]


def test_a_job_that_never_goes_on_does_not_hold_up_the_others(drained: Shop):
    drained.wait.delay()
    drained.nap.delay(datetime.now(timezone.utc).isoformat())
    counts = drain_queue(with_scheduled=True, with_recursion=True)
    assert counts == {"suspended": 1, "completed": 1}


def publish(shop: Shop, number: int = 1, key: str = "evt_1") -> Any:
    return shop.order.apply_async((number,), idempotency_key=key)


def test_an_idempotency_key_publishes_once(drained: Shop):
    first, again, other = publish(drained), publish(drained), publish(drained, key="evt_2")
    assert (first.conflict, again.conflict, other.conflict) == (False, True, False)
    assert again.id == first.id
    assert len(all_enqueued()) == 2
    assert all_enqueued()[0].idempotency_key == "evt_1"
    drain_queue()
    assert publish(drained).id == first.id
    with pytest.raises(IdempotencyMismatch):
        publish(drained, 2)
    assert drained.effects == ["charge 1", "charge 1"]


def test_an_idempotency_key_in_bulk(shop: Shop):
    with testing(shop.app):
        with bulk():
            first, again = publish(shop), publish(shop)
        assert (first.conflict, again.conflict) == (False, True)
        assert len(all_enqueued()) == 1


def test_a_new_block_knows_nothing_of_the_last(shop: Shop):
    for _ in range(2):
        with testing(shop.app) as block:
            assert not publish(shop).conflict
            block.clear()
            assert not publish(shop).conflict


def test_never_ends_is_not_said_of_a_wait(shop: Shop):
    with testing(shop.app, "inline"):
        try:
            shop.wait.delay()
        except NeverEnds:
            pytest.fail("a job that waits for a signal has ended its run")

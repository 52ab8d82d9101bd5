"""Code outside of jobs keeps to a rate, by the counters that jobs have."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from celery import Celery

from pgjobs_celery import RateExceeded, rate, using
from pgjobs_celery.config import Options
from pgjobs_celery.control.app import database_of
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows.gates import Tokens
from pgjobs_celery.errors import ConnectionFailed, InvalidOption, PgJobsError

from ..conftest import Connection
from ..support.proxies import Proxy


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Iterator[Celery]:
    app = make_app()
    yield app
    database_of(app).named_flows.clear()


def gate(connection: Connection, name: str = "rate/stripe") -> dict[str, Any]:
    found = connection.execute(
        "SELECT * FROM pgjobs.gates WHERE gate = %s ORDER BY turn DESC LIMIT 1", (name,)
    ).fetchone()
    assert found is not None
    return found


def used(connection: Connection, name: str = "rate/stripe") -> int:
    """How many tokens of a window were taken by now, those of the time to come included."""
    return sum(gate(connection, name)["counts"])


def ask(database: Database, cost: int = 1, most: float = 0.0) -> Tokens:
    tokens = database.gates.take_tokens("rate/stripe", "rate/stripe", cost, most)
    assert tokens is not None
    return tokens


def test_a_block_takes_a_token(app: Celery, connection: Connection):
    with rate(app, "stripe", "3/h"):
        pass
    with rate(app, "stripe", "3/h", cost=2):
        pass
    assert used(connection) == 3
    assert not rate(app, "stripe").take()
    assert used(connection) == 3


def test_it_waits_for_its_turn_and_no_longer(app: Celery, connection: Connection):
    database = database_of(app)
    begun = time.monotonic()
    for _ in range(6):
        with rate(app, "stripe", "3/s"):
            pass
    assert time.monotonic() - begun >= 0.98
    assert ask(database).are_taken is False or time.monotonic() - begun > 1.9


def test_a_turn_that_comes_too_late_is_refused_at_once(app: Celery, connection: Connection):
    assert rate(app, "stripe", "1/h").take()
    late = rate(app, "stripe", timeout=5)
    with pytest.raises(RateExceeded, match="no token within 5 s; the next one") as raised, late:
        raise AssertionError("it has begun")
    assert 3500 < raised.value.retry_after <= 3640
    assert isinstance(raised.value, TimeoutError)
    assert rate(app, "stripe").acquire(timeout=1) is False
    assert rate(app, "stripe").acquire(block=False) is False
    assert used(connection) == 1


def test_a_bucket_holds_its_burst_and_is_refilled_evenly(app: Celery, connection: Connection):
    calls = rate(app, "stripe", "60/h", algorithm="bucket", burst=3)
    assert [calls.take() for _ in range(4)] == [True, True, True, False]
    assert ask(database_of(app)).delay == pytest.approx(60, abs=10)
    assert gate(connection)["full_at"] is not None


def test_the_next_tokens_are_given_out_in_the_order_in_which_they_are_asked_for(
    app: Celery, connection: Connection
):
    database = database_of(app)
    assert rate(app, "stripe", "60/h", algorithm="bucket", burst=1).take()
    delays = [ask(database, most=3600).delay for _ in range(3)]
    assert delays == [pytest.approx(60 * n, abs=20) for n in (1, 2, 3)]
    assert sorted(delays) == delays
    # A period ahead, and no further.
    while (tokens := ask(database, most=1e9)).are_taken:
        delays.append(tokens.delay)
    assert 55 <= len(delays) <= 61
    assert tokens.delay > 3590


def test_no_period_holds_more_than_the_number_whoever_asks(app: Celery, connection: Connection):
    database = database_of(app)
    calls = rate(app, "stripe", "20/m")
    granted: list[float] = []

    def call() -> None:
        for _ in range(6):
            if calls.take():
                granted.append(0.0)
        while (tokens := ask(database, most=1e9)).are_taken:
            granted.append(tokens.delay)

    threads = [threading.Thread(target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row = gate(connection)
    pairs = list(zip(row["times"], row["counts"], strict=True))
    assert 20 <= len(granted) == sum(row["counts"]) <= 40  # now, and a period ahead
    for at, _ in pairs:
        assert sum(count for other, count in pairs if at - 60 < other <= at) <= 20


def test_each_key_has_a_rate_of_its_own(app: Celery, connection: Connection):
    assert rate(app, "stripe", "1/h", key=7).take()
    assert not rate(app, "stripe", key="7").take()
    assert rate(app, "stripe", key="8").take()
    assert used(connection, "rate/stripe=7") == 1


def test_an_event_loop_goes_on_while_a_coroutine_waits(app: Celery, connection: Connection):
    async def call() -> list[str]:
        order: list[str] = []

        async def wait() -> None:
            async with rate(app, "stripe", "1/s"):
                order.append("turn")

        await wait()
        waits = asyncio.ensure_future(wait())
        await asyncio.sleep(0.1)
        order.append("meanwhile")
        await waits
        assert await rate(app, "stripe").atake() is False
        with pytest.raises(RateExceeded):
            async with rate(app, "stripe", timeout=0.01):
                raise AssertionError("it has begun")
        return order

    assert asyncio.run(call()) == ["turn", "meanwhile", "turn"]


def test_a_function_waits_each_time_it_is_called(app: Celery, connection: Connection):
    @rate(app, "stripe", "5/h", timeout=0)
    def charge(amount: int) -> int:
        return amount

    @rate(app, "stripe", "5/h", timeout=0)
    async def acharge(amount: int) -> int:
        return amount

    assert [charge(1), charge(amount=2), asyncio.run(acharge(3))] == [1, 2, 3]
    assert used(connection) == 3
    assert charge(4) + charge(5)
    with pytest.raises(RateExceeded):
        charge(6)


def test_it_is_no_part_of_the_callers_transaction(app: Celery, connection: Connection, url: str):
    with psycopg.connect(parse_url(url)) as mine:
        with using(mine), rate(app, "stripe", "5/h"):
            pass
        mine.rollback()
    assert used(connection) == 1


def test_a_rule_by_hand_counts_before_that_of_the_code(app: Celery, connection: Connection):
    assert rate(app, "stripe", "1/h").take()
    connection.execute(
        "INSERT INTO pgjobs.flows (flow, source, amount, period) VALUES"
        " ('rate/stripe', 'hand', 2, 3600)"
    )
    calls = rate(app, "stripe", "1/h")
    assert [calls.take(), calls.take()] == [True, False]
    connection.execute("UPDATE pgjobs.flows SET amount = NULL WHERE source = 'hand'")
    assert calls.take()


def test_without_a_rule_the_error_says_how_to_give_one(app: Celery, connection: Connection):
    with pytest.raises(PgJobsError, match=r"no rate 'stripe': give its limit"):
        rate(app, "stripe").take()


def test_processes_share_it(app: Celery, connection: Connection, url: str):
    program = (
        "import sys; from celery import Celery; from pgjobs_celery import rate;"
        "app = Celery('other', broker=sys.argv[1]);"
        "print(sum(rate(app, 'stripe', '10/h').take() for _ in range(8)))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    counts = [int(process.communicate()[0]) for process in processes]
    assert sum(counts) == used(connection) == 10


def test_a_token_whose_answer_was_lost_is_spent_and_given_to_nobody(
    url: str, connection: Connection
):
    with Proxy(url) as proxy:
        database = Database(parse_url(proxy.url), Options())
        calls = rate(database, "stripe", "5/h")
        assert calls.take()
        proxy.cut_answer("take_tokens")
        assert calls.take()
        assert proxy.cuts == 1
        database.close()
    assert used(connection) == 3


def test_without_a_server_the_error_says_so(url: str):
    with Proxy(url) as proxy:
        gone = proxy.url
    with pytest.raises(ConnectionFailed):
        rate(Database(parse_url(gone), Options()), "stripe", "5/h").take()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": "fast"}, "a rate is written"),
        ({"limit": "5/s", "cost": 6}, "6 tokens never fit into rate 'x'"),
        ({"limit": "5/s", "cost": -1}, "cost must be"),
        ({"limit": "5/s", "timeout": -1}, "timeout must be seconds"),
        ({"limit": "5/s", "burst": 3}, "burst is for a bucket"),
        ({"limit": "5/s", "algorithm": "leaky"}, "algorithm is 'window' or 'bucket'"),
    ],
)
def test_what_means_nothing_is_refused(app: Celery, options: dict[str, Any], message: str):
    with pytest.raises(InvalidOption, match=message):
        rate(app, "x", **options)

"""Claims from lanes: turns, rates, limits by key, and what puts jobs back."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from benchmarks.sliding import most_within
from pgjobs_celery.control.jobs import jobs
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.audit import Action
from pgjobs_celery.db.rows.claims import Pending
from pgjobs_celery.job.flow import FlowRow, gate_name, key_text, lane_text
from pgjobs_celery.job.outcome import completed, released
from pgjobs_celery.job.rows import Bucket
from tests.support.consumers import backends
from tests.support.lanes import A, B, claim, ids_of, look, put_laned, rule, starts
from tests.support.rows import put
from tests.support.waiting import wait_for

pytestmark = pytest.mark.usefixtures("living_nodes")

RATE = "rate/task/t"
RUNNING = "running/task/t"


def share(key: str, *gates: str) -> str:
    text = lane_text(gates, key)
    assert text is not None
    return text


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:04}" for number in range(count)]


# -- turns ---------------------------------------------------------------------------------------


def test_the_line_does_not_meet_jobs_of_lanes_and_lanes_not_those_of_the_line(database):
    put_laned(database, share("7"), "laned")
    put(database, "plain", queue="q")
    [found] = database.claims.claim_jobs(A, "n", [Bucket("q")], 10)[0]
    assert ids_of(database, [found]) == ["plain"]
    assert database.claims.find_ready(["q"]) == []
    claims, _ = look(database)
    assert ids_of(database, claims) == ["laned"]
    assert claims[0].priority == 0  # its rank


def test_a_flood_of_one_key_delays_another_by_one_turn(database):
    put_laned(database, share("flood"), *names("f", 200))
    claim(database, 5)
    put_laned(database, share("small"), "one")
    assert "one" in claim(database, 3)


def test_lanes_take_turns_and_each_keeps_its_own_order(database):
    put_laned(database, share("a"), *names("a", 6))
    put_laned(database, share("b"), *names("b", 6))
    taken = [each for _ in range(6) for each in claim(database, 2)]
    assert [Counter(each[0] for each in taken[n : n + 2]) for n in range(0, 12, 2)] == [
        {"a": 1, "b": 1}
    ] * 6
    for key in "ab":
        assert [each for each in taken if each[0] == key] == names(key, 6)


def test_a_weight_of_three_gives_three_turns_to_one(database, connection):
    connection.execute("INSERT INTO pgjobs.weights VALUES ('q', 'heavy', 3)")
    for key in ("heavy", "light"):
        put_laned(database, share(key), *names(key[0], 300))
    taken = Counter(each[0] for _ in range(40) for each in claim(database, 7))
    assert 3 * 0.95 <= taken["h"] / taken["l"] <= 3 * 1.05


def test_a_job_that_has_waited_for_long_comes_before_younger_ones_of_higher_ranks(
    database, connection
):
    connection.execute("INSERT INTO pgjobs.limits (queue, ageing) VALUES ('q', 60)")
    lane = share("a")
    put_laned(database, lane, *names("later", 3), rank=5)
    put_laned(database, lane, *names("urgent", 3), rank=0)
    put_laned(database, lane, *names("middle", 3), rank=2)

    def age(task_id: str, minutes: int) -> None:
        connection.execute(
            "UPDATE pgjobs.jobs SET scheduled_at = now() - %s * interval '1 minute'"
            " WHERE task_id = %s",
            (minutes, task_id),
        )

    age("later0000", 7)  # counts as rank -2
    age("later0001", 4)  # as rank 1
    age("middle0000", 1)  # as rank 1, too, and came after
    taken = [each for _ in range(9) for each in claim(database, 1)]
    assert taken == [
        "later0000", "urgent0000", "urgent0001", "urgent0002", "later0001", "middle0000",
        "middle0001", "middle0002", "later0002",
    ]  # fmt: skip


def test_age_counts_in_a_claim_of_several_jobs_as_well(database, connection):
    connection.execute("INSERT INTO pgjobs.limits (queue, ageing) VALUES ('q', 60)")
    put_laned(database, share("a"), *names("a", 4), rank=9)
    put_laned(database, share("a"), *names("b", 4), rank=1)
    put_laned(database, share("c"), *names("c", 4))
    connection.execute(
        "UPDATE pgjobs.jobs SET scheduled_at = now() - interval '1 hour' WHERE task_id ~ '^a'"
    )
    taken = claim(database, 8)
    assert Counter(each[0] for each in taken) == {"a": 4, "c": 4}
    assert claim(database, 8) == names("b", 4)


@pytest.mark.parametrize("due", ["-infinity", "infinity", "4713-01-01 BC", "294276-01-01"])
def test_a_hostile_time_of_a_job_does_not_stop_a_claim_by_age(due, database, connection):
    connection.execute("INSERT INTO pgjobs.limits (queue, ageing) VALUES ('q', 1e-300)")
    put_laned(database, share("a"), "one", "two")
    connection.execute(
        "UPDATE pgjobs.jobs SET scheduled_at = %s::timestamptz WHERE task_id = 'one'", (due,)
    )
    assert sorted(claim(database)) == ["one", "two"]


def test_a_weight_that_is_changed_counts_from_then_on(database, connection):
    for key in ("a", "b"):
        put_laned(database, share(key), *names(key, 120))
    claim(database, 20)
    database.flow.weigh_lanes("q", "a", 4)
    taken = Counter(each[0] for _ in range(10) for each in claim(database, 10))
    assert 3.5 <= taken["a"] / taken["b"] <= 4.5


def test_lanes_of_one_share_have_one_turn_together_and_the_order_of_both(database, connection):
    rule(database, FlowRow(RATE, 1000, 60.0))
    for number in range(10):
        lane = share("a", RATE) if number % 2 else share("a")
        put_laned(database, lane, f"a{number}")
    put_laned(database, share("b"), *names("b", 10))
    connection.execute("INSERT INTO pgjobs.gates (gate) VALUES (%s)", (RATE,))
    taken = [each for _ in range(4) for each in claim(database, 2)]
    assert Counter(each[0] for each in taken) == {"a": 4, "b": 4}
    assert [each for each in taken if each[0] == "a"] == [f"a{number}" for number in range(4)]


def test_priority_holds_within_a_key(database):
    put_laned(database, share("a"), "late", rank=5)
    put_laned(database, share("a"), "first", rank=0)
    assert claim(database, 1) == ["first"]


def test_a_job_that_comes_below_the_floor_of_its_lane_is_found(database, connection):
    put_laned(database, share("a"), *names("x", 5), rank=3)
    claim(database, 2)
    put_laned(database, share("a"), "urgent", rank=0)
    assert claim(database, 1) == ["urgent"]


def test_a_locked_job_is_passed_over_and_not_forgotten(database):
    put_laned(database, share("a"), "locked", "free")
    with psycopg.connect(database.conninfo) as other:
        other.execute("SELECT FROM pgjobs.jobs WHERE task_id = 'locked' FOR UPDATE")
        assert claim(database, 5) == ["free"]
        other.rollback()
    assert claim(database, 5) == ["locked"]


def test_lanes_that_are_empty_leave_nothing_behind(database, connection):
    put_laned(database, share("a"), "one")
    claims, found = look(database)
    assert not found.is_full
    assert database.claims.settle_jobs(A, [completed(claims[0])]) == []
    assert look(database)[1].has_lanes is False
    for table in ("lanes", "arrivals"):
        assert connection.execute(f"SELECT count(*) AS n FROM pgjobs.{table}").fetchone() == {
            "n": 0
        }


# -- rates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["window", "bucket"])
def test_no_more_start_than_the_rate_allows_and_the_rest_is_told_when(database, algorithm):
    rule(database, FlowRow(RATE, 4, 3600.0, algorithm=algorithm))
    put_laned(database, RATE, *names("x", 10))
    claims, _ = look(database, 10)
    assert len(claims) == 4
    claims, found = look(database, 10)
    assert claims == []
    assert found.opens_in is not None
    expected = 3600 if algorithm == "window" else 900
    assert expected - 60 <= found.opens_in <= expected + 60


def test_each_key_has_a_rate_of_its_own(database):
    rule(database, FlowRow(RATE, 2, 3600.0, "kwargs.key"))
    for key in "abc":
        put_laned(database, gate_name(RATE, key), *names(key, 5))
    taken = [each for _ in range(4) for each in claim(database, 20)]
    assert Counter(each[0] for each in taken) == {"a": 2, "b": 2, "c": 2}


def test_a_bucket_holds_its_burst(database):
    rule(database, FlowRow(RATE, 1, 3600.0, burst=3, algorithm="bucket"))
    put_laned(database, RATE, *names("x", 5))
    assert len(claim(database, 5)) == 3
    assert claim(database, 5) == []


def test_a_start_takes_as_many_tokens_as_it_costs(database):
    rule(database, FlowRow(RATE, 10, 3600.0))
    put_laned(database, RATE, *names("x", 5), cost=4)
    assert len(claim(database, 5)) == 2


def test_a_job_that_costs_more_than_there_ever_is_takes_all(database):
    rule(database, FlowRow(RATE, 3, 3600.0))
    put_laned(database, RATE, "dear", "next", cost=50)
    assert claim(database, 5) == ["dear"]


def test_a_gate_without_a_rule_is_open_and_one_set_by_hand_wins(database, connection):
    put_laned(database, RATE, *names("x", 9))
    assert len(claim(database, 3)) == 3
    rule(database, FlowRow(RATE, 1000, 60.0))
    connection.execute(
        "INSERT INTO pgjobs.flows (flow, source, amount, period) VALUES (%s, 'hand', 1, 3600)",
        (RATE,),
    )
    assert len(claim(database, 3)) == 1
    assert claim(database, 3) == []
    connection.execute("DELETE FROM pgjobs.flows WHERE source = 'hand'")
    assert len(claim(database, 3)) == 3


def test_queues_share_a_gate_that_has_one_name(database):
    rule(database, FlowRow("rate/stripe", 5, 3600.0))
    for queue in ("q", "r"):
        put_laned(database, "rate/stripe", *names(queue, 5), queue=queue)
    taken = claim(database, 3, queue="q") + claim(database, 5, queue="r")
    assert len(taken) == 5


def test_a_gate_that_another_claim_has_locked_is_not_waited_for(database):
    rule(database, FlowRow(RATE, 5, 3600.0))
    put_laned(database, RATE, *names("x", 5))
    assert len(claim(database, 1)) == 1
    with psycopg.connect(database.conninfo) as other:
        other.execute("SELECT FROM pgjobs.gates FOR UPDATE")
        claims, found = look(database, 5)
        assert claims == []
        assert found.has_lanes
    assert len(claim(database, 5)) == 4


def test_lanes_with_a_full_gate_in_common_are_not_looked_at(database):
    rule(database, FlowRow(RATE, 1, 3600.0))
    for key in range(20):
        put_laned(database, share(str(key), RATE), f"k{key}")
    put_laned(database, share("free"), "free1", "free2")
    taken = [each for _ in range(3) for each in claim(database, 30)]
    assert sorted(each[0] for each in taken) == ["f", "f", "k"]


def test_no_period_of_that_length_has_more_starts_over_several_workers(database, connection):
    """10 starts in half a second and key, over 4 workers and 5 keys, for 3 seconds."""
    amount, period = 10, 0.5
    rule(database, FlowRow(RATE, amount, period, "kwargs.key"))
    for key in "abcde":
        connection.execute(
            "INSERT INTO pgjobs.jobs (task_id, task, queue, message, body, priority, lane)"
            " SELECT %(key)s || n, %(key)s, 'q', 'm', 'b', 256, %(lane)s"
            " FROM generate_series(1, 400) AS n",
            {"key": key, "lane": gate_name(RATE, key)},
        )
    ended = threading.Event()

    def work(number: int) -> None:
        own = Database(database.conninfo, database.options)
        while not ended.is_set():
            claims, found = look(own, 8, node=type(A)(int=number))
            if not claims:
                ended.wait(min(found.opens_in or 0.01, 0.02))
        own.close()

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, number) for number in range(1, 5)]
        ended.wait(3)
        ended.set()
        for worker in workers:
            worker.result()
    for key in "abcde":
        times = starts(database, key)
        assert len(times) >= 2 * amount
        assert most_within(times, period) <= amount


def test_a_claim_that_has_waited_for_its_queue_counts_from_then_on(database, connection):
    """Its transaction is older than what another queue's claims of the same rate have forgotten."""
    amount, period = 5, 0.5
    rule(database, FlowRow("rate/shared", amount, period))
    for queue in ("held", "free"):
        put_laned(database, "rate/shared", *names(queue, 4 * amount), queue=queue)
    connection.execute("INSERT INTO pgjobs.limits (queue) VALUES ('held') ON CONFLICT DO NOTHING")
    own = Database(database.conninfo, database.options)
    assert len(claim(database, 10, queue="free")) == amount
    with ThreadPoolExecutor(1) as pool, psycopg.connect(database.conninfo) as holder:
        holder.execute("SELECT FROM pgjobs.limits WHERE queue = 'held' FOR UPDATE")
        waiting = pool.submit(claim, own, 10, B, "held")
        wait_for(lambda: len(backends(connection, "wait_event_type = 'Lock'")) == 1)
        for _ in range(2):
            wait_for(lambda: len(claim(database, 10, queue="free")) == amount)
        holder.rollback()
        waiting.result()
    own.close()
    assert most_within(starts(database), period) <= amount


def test_a_claim_whose_clock_is_behind_takes_a_gate_for_locked(database, connection):
    rule(database, FlowRow(RATE, 5, 3600.0))
    put_laned(database, RATE, *names("x", 5))
    assert len(claim(database, 1)) == 1
    connection.execute(
        "UPDATE pgjobs.gates SET looks_from = extract(epoch FROM clock_timestamp()) + 2"
    )
    claims, found = look(database, 5)
    assert claims == []
    assert found.has_lanes
    wait_for(lambda: len(claim(database, 5)) == 4)


@pytest.mark.parametrize("seconds", ["infinity", "7200"])
def test_a_clock_that_was_put_back_shuts_no_gate(database, connection, seconds: str):
    rule(database, FlowRow(RATE, 5, 3600.0))
    put_laned(database, RATE, *names("x", 5))
    assert len(claim(database, 1)) == 1
    connection.execute(
        "UPDATE pgjobs.gates SET looks_from = extract(epoch FROM now()) + %s", [float(seconds)]
    )
    assert len(claim(database, 5)) == 4


@pytest.mark.parametrize("by", ["hand", "code", "reset"])
def test_a_rate_that_is_raised_opens_the_lanes_that_it_had_shut(database, by: str):
    low, high = (FlowRow(RATE, amount, 3600.0, "kwargs.key") for amount in (1, 10))
    if by == "reset":
        rule(database, high)
        database.rules.set_rule(low, Action("set_rate", "tester", "python", "pytest"))
    else:
        rule(database, low)
    for key in ("a", "b"):
        put_laned(database, gate_name(RATE, key), *names(key, 4))
    assert [len(claim(database)) for _ in range(3)] == [2, 0, 0]
    if by == "hand":
        database.rules.set_rule(high, Action("set_rate", "tester", "python", "pytest"))
    elif by == "code":
        rule(database, high)
    else:
        database.rules.reset_rule(RATE, Action("reset_rate", "tester", "python", "pytest"))
    assert len(claim(database)) == 6


# -- how many run --------------------------------------------------------------------------------


def running(*keys: str, amount: int = 1) -> FlowRow:
    return FlowRow(RUNNING, amount, by="kwargs.key")


def test_one_of_each_key_runs_at_a_time(database):
    rule(database, running())
    for key in "ab":
        put_laned(database, gate_name(RUNNING, key), *names(key, 3))
    claims, found = look(database, 10)
    assert Counter(each[0] for each in ids_of(database, claims)) == {"a": 1, "b": 1}
    claims2, found = look(database, 10)
    assert claims2 == []
    assert found.waits_for_jobs
    first = claims[0]
    claims3, _ = look(database, 10, outcomes=(completed(first),))
    assert len(claims3) == 1


def test_the_place_of_a_job_that_is_put_back_or_rescued_is_free(database, connection):
    rule(database, running())
    put_laned(database, gate_name(RUNNING, "a"), "one", "two")
    claims, _ = look(database, 10)
    again, _ = look(database, 10, outcomes=(released(claims[0]),))
    assert ids_of(database, again) == ["one"]
    connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = '-infinity' WHERE node = %s", (A,))
    database.claims.rescue_jobs(dead=False)
    assert claim(database, 10, node=B) == ["one"]


def test_a_limit_in_common_holds_over_all_lanes(database):
    rule(database, FlowRow(RUNNING, 3))
    for key in range(10):
        put_laned(database, share(str(key), RUNNING), f"k{key}")
    taken = [each for _ in range(4) for each in claim(database, 10)]
    assert len(taken) == 3


def test_a_limit_of_each_worker_counts_each_by_itself(database):
    rule(database, FlowRow(RUNNING, 1, scope="worker"))
    put_laned(database, RUNNING, *names("x", 5))
    assert len(claim(database, 5)) == 1
    assert claim(database, 5) == []
    assert len(claim(database, 5, node=B)) == 1


@pytest.mark.parametrize("by", ["kwargs.key", None])
def test_who_waits_for_the_place_of_a_job_that_ends_is_woken(database, by):
    """And nobody where none waits for it, or the lanes are looked at with the outcome."""
    rule(database, FlowRow(RUNNING, 1, by=by), FlowRow("running/task/own", 1, scope="worker"))
    put_laned(database, RUNNING if by is None else gate_name(RUNNING, "a"), "a1", "a2")
    put_laned(database, gate_name(RUNNING, "b"), "b1", queue="r")
    put_laned(database, "running/task/own", "o1", "o2", queue="own")
    held = [
        claims[0] for queue in ("q", "r", "own") if (claims := look(database, 1, queue=queue)[0])
    ]
    for queue in ("q", "r", "own"):
        assert look(database, 1, queue=queue)[0] == []
    listener = database.listen_for_work()
    try:
        listener.announce(["q", "r", "own"])
        pending = Pending(outcomes=[completed(each) for each in held])
        turn = database.claims.turn(A, pending, ended=[each.id for each in held])
        assert turn.lost == []
        assert listener.wait(5) | listener.wait(0.2) == {"bq"}
    finally:
        listener.close()
    assert claim(database, 1, node=B) == ["a2"]


def test_limits_of_the_queue_hold_for_its_lanes(database):
    database.limits.limit_queue("q", 2)
    put_laned(database, share("a"), *names("x", 5))
    claims, _ = look(database, 5)
    assert len(claims) == 2
    assert claim(database, 5) == []
    assert len(look(database, 5, outcomes=(completed(claims[0]),))[0]) == 1
    database.limits.pause_queue("q")
    assert look(database, 5, outcomes=(completed(claims[1]),))[0] == []


# -- ways in and back ----------------------------------------------------------------------------


def test_a_scheduled_job_comes_into_its_lane_when_it_is_due(database, connection):
    put_laned(database, share("a"), "later", eta=3600)
    assert claim(database) == []
    connection.execute("UPDATE pgjobs.jobs SET due_at = now()")
    assert database.claims.stage_jobs(10) == {"q": 1}
    assert claim(database) == ["later"]


def test_what_is_put_back_is_claimed_again_in_its_place(database):
    put_laned(database, share("a"), *names("x", 4))
    claims, _ = look(database, 2)
    assert claim(database, 2) == ["x0002", "x0003"]
    back = tuple(released(each) for each in claims)
    again, _ = look(database, 5, outcomes=back)
    assert ids_of(database, again) == ["x0000", "x0001"]
    assert database.claims.release_unknown_jobs(A, ["q"], ()) == 4
    assert sorted(claim(database, 5)) == names("x", 4)


def test_a_job_that_moves_leaves_what_belongs_to_its_queue(database, connection):
    put_laned(database, share("7", RATE, "rate/queue/q"), "one", rank=3)
    put_laned(database, share("7"), "two", rank=3)
    assert sorted(jobs(database).filter(queue="q").move("r")) == ["one", "two"]
    assert sorted(jobs(database).filter(queue="r").set_priority(9)) == ["one", "two"]
    found = connection.execute("SELECT task_id, lane, priority FROM pgjobs.jobs").fetchall()
    assert {row["task_id"]: (row["lane"], row["priority"]) for row in found} == {
        "one": (RATE, 9 + 256),
        "two": (None, 9),
    }
    assert claim(database, queue="r") == ["one"]


def test_jobs_that_were_published_without_a_lane_are_sorted_into_theirs(database, connection):
    connection.execute("INSERT INTO pgjobs.limits (queue, fair_by) VALUES ('q', 'kwargs.t')")
    rule(database, FlowRow("rate/queue/q", 3, 3600.0, "args.0"))
    for number, body in enumerate([b'[[7], {"t": "x"}, {}]', b'[["7"], {"t": 5}, {}]', b"\x80"]):
        put(database, f"j{number}", queue="q", body=body)
    put(database, "long", queue="q", body=b'[[], {"t": "' + b"\xc3\xa4" * 80 + b'"}, {}]')
    claims, _ = look(database, 10, is_sorted=True)
    assert len(claims) == 4
    found = connection.execute("SELECT task_id, lane FROM pgjobs.jobs").fetchall()
    assert {row["task_id"]: row["lane"] for row in found} == {
        "j0": "rate/queue/q=7\nshare=x",
        "j1": "rate/queue/q=7\nshare=5",
        "j2": "rate/queue/q=null\nshare=null",
        "long": "rate/queue/q=null\nshare=" + key_text("ä" * 80),
    }


@pytest.mark.parametrize(
    "lane", ["", "\n\n", "share=", "=", "share=a\nshare=b", '{"gates": 1}', "pause/x"]
)
def test_a_lane_that_a_stranger_wrote_stops_nothing(database, connection, lane: str):
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, message, body, priority, lane)"
        " VALUES ('odd', 't', 'q', 'm', 'b', 256, %s)",
        (lane,),
    )
    put_laned(database, share("a"), "good")
    assert "good" in claim(database)


def test_a_bulk_of_one_lane_tells_of_it_once(database, connection):
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, message, body, priority, lane)"
        " SELECT 'j' || n, 't', 'q', 'm', 'b', 256, 'share=a' FROM generate_series(1, 500) AS n"
    )
    found = connection.execute("SELECT count(*) AS n FROM pgjobs.arrivals").fetchone()
    assert found == {"n": 1}
    assert len(claim(database, 500)) == 500


def test_a_queue_with_lanes_is_learned_from_a_look_at_everything(database):
    put_laned(database, share("a"), "one")
    turn = database.claims.turn(A, Pending(), [Bucket("q"), Bucket("other")], 10)
    assert turn.laned is not None
    assert turn.laned == ["q"]
    turn = database.claims.turn(A, Pending(), [Bucket("q", 0, 0, 5)], 10)
    assert turn.laned is None


def test_gates_that_are_as_new_again_are_deleted(database, connection):
    rule(database, FlowRow(RATE, 5, 30.0, "kwargs.key"), running())
    put_laned(database, gate_name(RATE, "a"), "one")
    put_laned(database, gate_name(RUNNING, "a"), "two")
    claims, _ = look(database)
    while len(claims) < 2:
        claims += look(database)[0]
    assert database.flow.prune_gates(10) == 0
    connection.execute("UPDATE pgjobs.gates SET used_at = now() - interval '1 hour'")
    assert database.flow.prune_gates(10) == 1  # the other job runs
    assert database.claims.settle_jobs(A, [completed(each) for each in claims]) == []
    assert database.flow.prune_gates(10) == 1

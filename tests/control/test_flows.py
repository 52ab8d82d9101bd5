"""Rules of queues, tasks and names are set, shown and reset; jobs are paused and resumed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from celery import Celery

from pgjobs_celery import Concurrency, PgTask, Rate, audit, flows, queues
from pgjobs_celery.control.app import database_of
from pgjobs_celery.control.flows import Flow, Flows, KeyState
from pgjobs_celery.control.queues import Queues
from pgjobs_celery.db.database import Database
from pgjobs_celery.errors import InvalidOption
from pgjobs_celery.job.flow import lane_text
from tests.conftest import Connection
from tests.support.rows import put

MAIL = "rate/queue/mail"


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return make_app()


@pytest.fixture
def control(app: Celery) -> Queues:
    return queues(app)


@pytest.fixture
def rules(app: Celery) -> Flows:
    return flows(app)


def actions(app: Celery) -> list[tuple[str, str | None, dict[str, Any]]]:
    return [(each.action, each.queue, each.details) for each in reversed(audit(app).list())]


def test_a_queues_rate_is_set_shown_and_reset(app, control, rules):
    control["mail"].rate("100/m", burst=20, by="kwargs.tenant_id")
    assert list(rules) == [
        Flow(MAIL, "100/m", "kwargs.tenant_id", 20, "bucket", "global", "hand"),
    ]
    control["mail"].rate("7/10s")
    assert rules.get(MAIL) == Flow(MAIL, "7/10s", keys=(KeyState(None, 0, 7, 0.0),))
    assert rules.reset(MAIL) is True
    assert rules.reset(MAIL) is False
    assert rules.get(MAIL) is None
    assert [each[:2] for each in actions(app)] == [
        ("set_flow", "mail"), ("set_flow", "mail"), ("reset_flow", "mail"),
    ]  # fmt: skip


def test_a_rule_of_the_code_counts_again_after_a_reset(rules, connection):
    connection.execute(
        "INSERT INTO pgjobs.flows (flow, source, amount, period) VALUES (%s, 'code', 5, 1)", (MAIL,)
    )
    assert (rules.get(MAIL).limit, rules.get(MAIL).source) == ("5/s", "code")
    rules.set(MAIL, None)
    assert (rules.get(MAIL).limit, rules.get(MAIL).source) == (None, "hand")
    rules.set(MAIL, "9/h")
    assert [each.limit for each in rules] == ["9/h"]
    assert rules.reset(MAIL)
    assert (rules.get(MAIL).limit, rules.get(MAIL).source) == ("5/s", "code")


def test_a_limit_by_key_is_a_rule_and_one_without_is_the_queues_limit(control, rules):
    control["export"].concurrency(1, by="kwargs.customer_id")
    assert rules.get("running/queue/export").limit == 1
    control["export"].concurrency(4)
    assert control.get("export").concurrency == 4
    control["export"].concurrency(2, scope="worker")
    assert rules.get("running/queue/export").scope == "worker"


def test_a_queue_is_made_fair_bounded_and_weighed_and_reset(app, control):
    mail = control["mail"]
    mail.fair("kwargs.tenant_id", ageing=timedelta(minutes=1))
    mail.weight("7", 3)
    mail.weight(8, 0.5)
    mail.max_depth(10_000, on_full="wait", wait=5)
    found = control.get("mail")
    assert (found.fair_by, found.ageing) == ("kwargs.tenant_id", 60.0)
    assert (found.max_depth, found.on_full, found.full_wait) == (10_000, "wait", 5.0)
    assert mail.weights() == {"7": 3.0, "8": 0.5}
    assert [each.name for each in control] == ["mail"]
    mail.weight("7", None)
    assert mail.weights() == {"8": 0.5}
    mail.unfair()
    assert control.get("mail").fair_by is None
    mail.max_depth(None)
    assert control.get("mail").on_full is None
    mail.max_depth(5)
    mail.rate("1/s")
    mail.reset()
    assert control.get("mail").max_depth is None
    assert list(flows(app)) == []
    assert [each[0] for each in actions(app)] == [
        "share_queue", "weigh_key", "weigh_key", "bound_queue", "weigh_key", "share_queue",
        "bound_queue", "bound_queue", "set_flow", "reset_queue",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda mail: mail.rate("many"), "a rate is written"),
        (lambda mail: mail.rate("5/m", by="a b"), "by an argument is written"),
        (lambda mail: mail.rate("5/m", by=len), "not a function"),
        (lambda mail: mail.rate("5/m", algorithm="leaky"), "algorithm"),
        (lambda mail: mail.rate("5/m", burst=0), "burst"),
        (lambda mail: mail.rate("5/m", scope="host"), "scope"),
        (lambda mail: mail.concurrency(-1, by="args.0"), "a whole number from 0"),
        (lambda mail: mail.concurrency(1, by="args.x"), "by an argument is written"),
        (lambda mail: mail.fair("kwargs."), "by an argument is written"),
        (lambda mail: mail.fair("args.0", ageing=0), "more than 0"),
        (lambda mail: mail.fair("args.0", ageing=-1), "ageing must be between"),
        (lambda mail: mail.weight("7", 0), "a weight is a number above 0"),
        (lambda mail: mail.weight("7", float("inf")), "a weight is a number above 0"),
        (lambda mail: mail.weight("", 1), "a key cannot be"),
        (lambda mail: mail.weight(None, 1), "a key cannot be"),
        (lambda mail: mail.weight("a\0", 1), "key"),
        (lambda mail: mail.max_depth(-1), "a whole number from 0"),
        (lambda mail: mail.max_depth(5, on_full="rise"), "did you mean 'raise'"),
        (lambda mail: mail.max_depth(5, wait=5), "wait is for"),
        (lambda mail: mail.pause(until=-5), "until must be"),
    ],
)
def test_what_has_no_meaning_is_refused(control, change, why):
    with pytest.raises(InvalidOption, match=why):
        change(control["mail"])
    assert control.get("mail") == type(control.get("mail"))("mail")


@pytest.mark.parametrize("name", ["", "mail", "rate/", "rate/tusk/x", "pause/tag/x", 7, "a\0"])
def test_what_is_no_flow_is_refused(rules, name):
    with pytest.raises(InvalidOption):
        rules.set(name, "1/s")


@pytest.mark.parametrize(
    "pause",
    [
        {}, {"task": "a", "tag": "b"}, {"key": 7}, {"task": "a", "queue": "q"}, {"tag": ""},
        {"key": "7", "queue": ""}, {"task": 5}, {"task": "a", "until": "soon"},
    ],
)  # fmt: skip
def test_what_is_no_pause_is_refused(rules, pause):
    with pytest.raises(InvalidOption):
        rules.pause(**pause)


def test_the_rate_of_a_stored_state_is_told(rules, connection):
    """Of a window, a bucket and what runs: used, free, the next start, the busiest keys first."""
    rules.set(MAIL, "10/m", by="kwargs.tenant_id")
    connection.execute(
        "INSERT INTO pgjobs.gates (gate, times, counts)"
        " SELECT 'rate/queue/mail=7', ARRAY[n - 70, n - 20, n - 10], ARRAY[3, 6, 4]"
        " FROM (SELECT extract(epoch FROM clock_timestamp())::float8 AS n) AS t"
        " UNION ALL SELECT 'rate/queue/mail=8', ARRAY[n - 1], ARRAY[2]"
        " FROM (SELECT extract(epoch FROM clock_timestamp())::float8 AS n) AS t"
    )
    found = rules.get(MAIL)
    assert [(each.key, each.used, each.free) for each in found.keys] == [("7", 10, 0), ("8", 2, 8)]
    assert 35 < found.keys[0].next_in <= 40
    assert found.keys[1].next_in == 0
    assert (found.used, found.keys_in_use) == (10, 2)
    rules.set("rate/stripe", "60/m", burst=5)
    connection.execute(
        "INSERT INTO pgjobs.gates (gate, full_at)"
        " SELECT 'rate/stripe', extract(epoch FROM clock_timestamp())::float8 + 4.5"
    )
    (state,) = rules.get("rate/stripe").keys
    assert (state.key, state.used, state.free) == (None, 5, 0)
    assert 0 < state.next_in <= 0.5


def test_the_jobs_that_wait_for_a_rule_are_counted(rules, database, connection):
    lane = lane_text([f"{MAIL}=7"])
    rules.set(MAIL, "10/m", by="kwargs.tenant_id")
    put(database, "a", "b", "c", queue="mail")
    connection.execute("UPDATE pgjobs.jobs SET lane = %s, priority = priority + 256", (lane,))
    connection.execute(
        "INSERT INTO pgjobs.lanes (queue, lane, pass, gates) VALUES ('mail', %s, 0, %s)",
        (lane, [f"{MAIL}=7"]),
    )
    found = rules.get(MAIL)
    assert (found.waiting, found.is_cut) == (3, False)
    assert [(each.key, each.waiting) for each in found.keys] == [("7", 3)]


FAIR = "pgjobs queues fair mail kwargs.tenant_id"


def test_a_key_of_a_queue_without_keys_cannot_be_paused(app, control, rules, connection):
    """It would hold nothing, and no tenant would be kept from running."""
    control["other"].fair("tenant_id")
    control["mail"].rate("5/m")
    with pytest.raises(InvalidOption, match=FAIR):
        rules.pause(key=7, queue="mail")
    with pytest.raises(InvalidOption, match="pause a task, a tag or the whole queue"):
        flows(database_of(app)).pause(key=7, queue="mail")
    assert rules.pauses() == []
    assert [each[0] for each in actions(app)] == ["share_queue", "set_flow"]
    rules.pause(tag="7")  # has no need of one


def test_each_rule_that_gives_keys_lets_one_be_paused(app, control, rules, connection):
    mail = control["mail"]
    for give, take in [
        (lambda: mail.fair("tenant_id"), mail.unfair),
        (lambda: mail.rate("5/m", by="tenant_id"), lambda: mail.rate("5/m")),
        (lambda: mail.concurrency(1, by="tenant_id"), lambda: mail.concurrency(1, scope="worker")),
        # The jobs of a task may be in any queue.
        (lambda: rules.set("rate/task/a", "5/m", by="x"), lambda: rules.reset("rate/task/a")),
        (lambda: rules.set("rate/stripe", "5/m", by="x"), lambda: rules.reset("rate/stripe")),
        (
            lambda: connection.execute(
                "INSERT INTO pgjobs.lanes (queue, lane, pass) VALUES ('mail', 'share=7', 0)"
            ),
            lambda: connection.execute("DELETE FROM pgjobs.lanes"),
        ),
    ]:
        give()
        rules.pause(key=7, queue="mail")
        assert rules.resume(key=7, queue="mail")
        take()
        with pytest.raises(InvalidOption, match="has no keys"):
            rules.pause(key=7, queue="mail")
    # One of the code that a hand has overruled does not count.
    connection.execute(
        "INSERT INTO pgjobs.flows (flow, source, amount, period, by)"
        " VALUES (%s, 'code', 5, 1, 'kwargs.tenant_id')",
        (MAIL,),
    )
    with pytest.raises(InvalidOption, match="has no keys"):
        rules.pause(key=7, queue="mail")


def test_rules_of_the_program_count_before_a_worker_has_registered_them(make_app):
    fair = make_app(pgjobs_queues={"mail": {"fair": "tenant_id"}})
    flows(fair).pause(key=7, queue="mail")
    with pytest.raises(InvalidOption, match="has no keys"):
        flows(fair).pause(key=7, queue="celery")
    limited = make_app(pgjobs_queues={"mail": {"concurrency": Concurrency(1, by="tenant_id")}})
    flows(limited).pause(key=7, queue="mail")
    tasks = make_app()
    with pytest.raises(InvalidOption, match="has no keys"):
        flows(tasks).pause(key=7, queue="mail")

    @tasks.task(base=PgTask, rate=Rate("5/m", by=lambda tenant: tenant), shared=False)
    def send(tenant: int) -> None: ...

    flows(tasks).pause(key=7, queue="mail")


def test_jobs_are_paused_until_a_time_and_resumed(app, control, rules, connection):
    control["mail"].fair("tenant_id")
    rules.pause(task="shop.send", until=3600)
    later = datetime.now(timezone.utc) + timedelta(days=1)
    rules.pause(tag="import", until=later)
    rules.pause(key=7, queue="mail")
    assert [(each.kind, each.name, each.queue) for each in rules.pauses()] == [
        ("key", "7", "mail"), ("tag", "import", ""), ("task", "shop.send", ""),
    ]  # fmt: skip
    assert rules.pauses()[1].until == later
    first = rules.pauses()[2]
    assert 3500 < (first.until - first.paused_at).total_seconds() <= 3600
    rules.pause(task="shop.send")
    again = rules.pauses()[2]
    assert (again.paused_at, again.until) == (first.paused_at, None)
    assert rules.resume(key="7", queue="mail") is True
    assert rules.resume(key="7", queue="mail") is False
    assert rules.resume(tag="import") is True
    assert [each.kind for each in rules.pauses()] == ["task"]
    assert connection.execute("SELECT count(*) AS n FROM pgjobs.pauses").fetchone()["n"] == 1
    assert ("pause_jobs", "mail", {"key": "7"}) in actions(app)


def park(connection: Connection, lane: str) -> None:
    connection.execute("UPDATE pgjobs.jobs SET lane = %s, priority = priority | 256", (lane,))


def test_parked_jobs_come_back_at_their_places(rules, database, connection):
    put(database, *(f"j{number}" for number in range(5)), queue="mail", priority=3)
    before = connection.execute("SELECT id, seq, priority FROM pgjobs.jobs ORDER BY id").fetchall()
    rules.pause(task="shop.send")
    park(connection, "pause/task/shop.send")
    rules.resume(task="shop.send")
    rows = connection.execute("SELECT id, seq, priority FROM pgjobs.jobs ORDER BY id").fetchall()
    assert rows == before
    assert connection.execute("SELECT count(*) AS n FROM pgjobs.pauses").fetchone()["n"] == 0


def test_parked_jobs_go_back_to_the_lane_that_they_came_from(rules, database, connection):
    put(database, "a", queue="mail")
    own = lane_text([f"{MAIL}=7"], "7")
    rules.pause(task="shop.send")
    rules.pause(tag="import")
    park(connection, lane_text([f"{MAIL}=7", "pause/tag/import", "pause/task/shop.send"], "7"))
    rules.resume(task="shop.send")
    (row,) = connection.execute("SELECT lane, priority FROM pgjobs.jobs").fetchall()
    assert row["lane"] == lane_text([f"{MAIL}=7", "pause/tag/import"], "7")
    rules.resume(tag="import")
    (row,) = connection.execute("SELECT lane, priority FROM pgjobs.jobs").fetchall()
    assert row["lane"] == own
    assert row["priority"] >= 256


def test_jobs_whose_pause_was_deleted_by_hand_come_back(database: Database, connection):
    from pgjobs_celery.maintenance.resume import Resume

    put(database, "a", "b", queue="mail")
    park(connection, "pause/key/mail=7")
    service = Resume()
    assert service.run(database) == {"queues": 0, "jobs": 2}
    lanes = connection.execute("SELECT lane, priority < 256 AS own FROM pgjobs.jobs").fetchall()
    assert [(row["lane"], row["own"]) for row in lanes] == [(None, True)] * 2


def test_a_queue_paused_until_a_time_is_resumed_by_a_worker(control, database, connection):
    from pgjobs_celery.maintenance.resume import Resume

    service = Resume()
    control.pause("mail", until=3600)
    until = control.get("mail").paused_until
    assert service.run(database)["queues"] == 0
    assert 0 < service.next_delay() <= service.interval
    assert control.get("mail").paused_until == until
    control.pause("mail", until=0)
    assert service.run(database)["queues"] == 1
    assert control.get("mail").is_paused is False
    assert control.get("mail").paused_until is None

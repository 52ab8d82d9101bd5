"""A job stands in the lane of its rates, limits and turns, whichever way it is published."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from celery import Celery, _state, chain, chord, group

from pgjobs_celery import (
    Concurrency,
    PgTask,
    Rate,
    Unique,
    adelay,
    bulk,
    enqueue_many,
    using,
)
from pgjobs_celery.control.app import database_of
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import InvalidOption, MessageRefused, UnknownOption
from pgjobs_celery.job.flow_options import TaskFlow
from pgjobs_celery.publishing.laning import known_rules
from pgjobs_celery.tasks.limited import share_rate_limits

from ..conftest import Connection

#: The lanes of `mail` for a tenant.
MAIL = "rate/task/mail={}"


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()

    @app.task(base=PgTask, name="mail", rate=Rate("100/m", by="tenant"), shared=False)
    def mail(tenant: int, text: str = "") -> None: ...

    @app.task(base=PgTask, name="total", shared=False)
    def total(parts: Any) -> None: ...

    @app.task(name="plain", shared=False)
    def plain(tenant: int = 0) -> None: ...

    return app


@pytest.fixture
def mail(app: Celery) -> Any:
    return app.tasks["mail"]


@pytest.fixture
def set_current(monkeypatch: pytest.MonkeyPatch) -> Callable[[Celery], None]:
    """Makes an app the one of this process, as a program has it."""
    return lambda app: monkeypatch.setattr(_state._tls, "current_app", app)


def nothing() -> None:
    """What a task does."""


def lanes(connection: Connection) -> list[Any]:
    """The lanes of all jobs in their order in line."""
    rows = connection.execute("SELECT lane, priority FROM pgjobs.jobs ORDER BY seq").fetchall()
    assert all((row["priority"] > 255) == (row["lane"] is not None) for row in rows)
    return [row["lane"] for row in rows]


def one(connection: Connection) -> dict[str, Any]:
    found = connection.execute("SELECT * FROM pgjobs.jobs").fetchone()
    assert found is not None
    return found


def set_rules(app: Celery, connection: Connection, statement: str) -> None:
    """Set rules as a hand does, and have this process know of them."""
    connection.execute(statement)
    known_rules(database_of(app)).expire()


def make_fair(app: Celery, connection: Connection, queue: str, by: str | None) -> None:
    connection.execute(
        "INSERT INTO pgjobs.limits AS l (queue, fair_by, by_hand) VALUES (%s, %s, '{fair_by}')"
        " ON CONFLICT (queue) DO UPDATE SET fair_by = excluded.fair_by, by_hand = excluded.by_hand",
        (queue, by),
    )
    known_rules(database_of(app)).expire()


# Every way to publish


def test_a_job_without_rules_has_no_lane(app: Celery, connection: Connection):
    app.tasks["plain"].delay(7)
    app.tasks["total"].delay([7])
    assert lanes(connection) == [None, None]


def test_an_argument_is_found_however_it_is_passed(mail: Any, connection: Connection):
    mail.delay(7)
    mail.delay(tenant=7)
    mail.s(text="x").apply_async((7,), priority=3)
    assert lanes(connection) == [MAIL.format(7)] * 3
    priorities = connection.execute("SELECT priority FROM pgjobs.jobs ORDER BY seq").fetchall()
    assert [row["priority"] for row in priorities] == [256, 256, 259]


def test_in_bulk_and_for_many_items_each_job_has_its_own_lane(mail: Any, connection: Connection):
    with bulk():
        for tenant in range(3):
            mail.delay(tenant)
    enqueue_many(mail, ((tenant,) for tenant in range(3, 9)), priority=1)
    mail.enqueue_many(({"tenant": tenant} for tenant in range(9, 12)), cost=2)
    assert lanes(connection) == [MAIL.format(tenant) for tenant in range(12)]
    costs = connection.execute("SELECT cost FROM pgjobs.jobs ORDER BY seq").fetchall()
    assert [row["cost"] for row in costs] == [None] * 9 + [2] * 3


def test_in_a_callers_transaction_and_on_an_event_loop(mail: Any, connection: Connection, url: str):
    with psycopg.connect(parse_url(url)) as mine, using(mine):
        mail.delay(1)

    async def publish() -> None:
        await mail.adelay(2)
        await adelay(mail, 3)
        theirs = await psycopg.AsyncConnection.connect(parse_url(url))
        async with theirs, using(theirs):
            mail.delay(4)

    asyncio.run(publish())
    assert lanes(connection) == [MAIL.format(tenant) for tenant in (1, 2, 3, 4)]


def test_the_steps_of_a_canvas_have_theirs(app: Celery, mail: Any, connection: Connection):
    group(mail.s(1), mail.s(2)).apply_async()
    chord([mail.s(3), mail.s(4)], app.tasks["total"].s()).apply_async()
    chain(mail.si(5), mail.si(6)).apply_async()
    assert sorted(lanes(connection)) == [MAIL.format(tenant) for tenant in (1, 2, 3, 4, 5)]


def test_a_job_that_waits_for_its_time_has_its_lane(mail: Any, connection: Connection):
    mail.apply_async((7,), countdown=60)
    assert lanes(connection) == [MAIL.format(7)]
    arrivals = connection.execute("SELECT count(*) FROM pgjobs.arrivals").fetchone()
    assert arrivals == {"count": 0}


def test_the_lane_follows_what_a_duplicate_replaces(app: Celery, connection: Connection):
    @app.task(
        base=PgTask,
        name="reindex",
        rate=Rate("5/s", by="shop"),
        unique=Unique(period=None, keys=["product"], states="waiting", replace=["args"]),
        shared=False,
    )
    def reindex(product: int, shop: str = "a") -> None: ...

    reindex.apply_async((1,), priority=4)
    assert reindex.apply_async((1,), {"shop": "b"}, priority=9).conflict
    assert lanes(connection) == ["rate/task/reindex=b"]
    assert one(connection)["priority"] == 256 + 4
    reindex.apply_async((1,), {"shop": "c"}, queue="other", unique={"fields": ["task", "args"]})
    other = one(connection) if len(lanes(connection)) == 1 else None
    assert other is None or other["lane"] == "rate/task/reindex=b"


# Options of tasks and calls


def test_rates_limits_and_costs_may_stand_together(app: Celery, connection: Connection):
    @app.task(
        base=PgTask,
        name="export",
        rate=Rate("100/m", name="stripe", cost="pages"),
        concurrency=Concurrency(1, by=lambda customer, pages=1: customer["id"]),
        shared=False,
    )
    def export(customer: dict[str, Any], pages: int = 1) -> None: ...

    export.delay({"id": "c7"}, pages=4)
    row = one(connection)
    assert row["lane"] == "rate/stripe\nrunning/task/export=c7"
    assert row["cost"] == 4


@pytest.mark.parametrize("options", [{"rate": "10/s"}, {"rate": 10}, {"rate": {"limit": "10/s"}}])
def test_a_rate_may_be_a_text_a_number_or_a_dict(
    app: Celery, connection: Connection, options: dict[str, Any]
):
    @app.task(base=PgTask, name="task", shared=False, **options)
    def task() -> None: ...

    task.delay()
    assert lanes(connection) == ["rate/task/task"]
    assert task.rate == Rate(options["rate"] if options["rate"] == 10 else "10/s")


def test_an_annotation_sets_them(make_app: Callable[..., Celery], connection: Connection):
    app = make_app(task_annotations={"task": {"concurrency": 3, "cost": 2}})

    @app.task(base=PgTask, name="task", shared=False)
    def task() -> None: ...

    task.delay()
    assert (lanes(connection), one(connection)["cost"]) == (["running/task/task"], 2)


def test_a_call_names_another_rate_or_none(mail: Any, connection: Connection):
    stripe = Rate("50/s", name="stripe")
    mail.apply_async((7,), rate=stripe, cost=5)
    mail.s(7).set(rate=None).apply_async()
    assert lanes(connection) == ["rate/stripe", None]
    row = connection.execute("SELECT * FROM pgjobs.flows").fetchone()
    assert row is not None
    assert (row["flow"], row["source"], row["amount"], row["period"]) == (
        "rate/stripe", "code", 50, 1.0,
    )  # fmt: skip


def test_a_missing_or_empty_key_has_a_lane_of_its_own(app: Celery, connection: Connection):
    @app.task(base=PgTask, name="task", rate=Rate("5/s", by="kwargs.order.customer"), shared=False)
    def task(order: Any = None) -> None: ...

    task.delay()
    task.delay({"customer": None})
    task.delay({"customer": {"b": 1, "a": "ü"}})
    task.delay(order={"customer": "x" * 300})
    found = lanes(connection)
    assert found[:3] == [
        "rate/task/task=null",
        "rate/task/task=null",
        'rate/task/task={"a": "ü", "b": 1}',
    ]
    assert len(found[3]) < 150


def test_a_retry_keeps_lane_and_cost(app: Celery, mail: Any, connection: Connection):
    mail.apply_async((7,), cost=3, rate=Rate("9/s", name="other"), task_id="again")
    signature = app.tasks["mail"].signature_from_request(
        _request(connection), countdown=5, retries=1
    )
    connection.execute("DELETE FROM pgjobs.jobs")
    signature.apply_async()
    row = one(connection)
    assert (row["lane"], row["cost"], row["task_id"]) == ("rate/other", 3, "again")


def _request(connection: Connection) -> Any:
    """What a worker would run, as Celery's request."""
    from celery.app.task import Context

    from pgjobs_celery.job.envelope import decode_envelope

    row = one(connection)
    envelope = decode_envelope(row["message"], row["queue"])
    return Context(
        {
            **envelope.headers,
            "headers": {"pgjobs": envelope.headers["pgjobs"]},
            "args": (7,),
            "kwargs": {},
            "delivery_info": {},
            "called_directly": False,
        }
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rate": "fast"}, InvalidOption, "task task: a rate is written"),
        ({"rate": Rate}, InvalidOption, "a rate is written"),
        ({"rate": {"limit": "1/s", "bye": "x"}}, UnknownOption, "rate has no option 'bye'"),
        ({"rate": {"limit": "1/s", "by": "a b"}}, InvalidOption, "rate by an argument is written"),
        ({"concurrency": -1}, InvalidOption, "concurrency must be a whole number"),
        ({"concurrency": "3"}, InvalidOption, "concurrency must be a whole number"),
        ({"cost": -1}, InvalidOption, "cost must be a whole number"),
        ({"cost": 1.5}, InvalidOption, "cost must be a whole number"),
        ({"rates": "1/s"}, UnknownOption, "did you mean 'rate'"),
        ({"concurency": 1}, UnknownOption, "did you mean 'concurrency'"),
    ],
)
def test_what_means_nothing_is_refused_where_the_task_is_made(
    app: Celery, options: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        _ = app.task(base=PgTask, name="task", shared=False, **options)(nothing).name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": "5/s"}, "rate of a call must have a name"),
        ({"concurrency": 5}, "concurrency of a call must have a name"),
        ({"cost": 101}, "never fits into its rate"),
        ({"cost": "pages"}, None),
        ({"cost": lambda tenant: tenant / 0}, "the function that is given there has failed"),
    ],
)
def test_a_call_that_means_nothing_publishes_nothing(
    mail: Any, connection: Connection, options: dict[str, Any], message: str | None
):
    if message is None:
        mail.apply_async((7,), **options)  # an argument that is not there costs one
        assert one(connection)["cost"] is None
        return
    with pytest.raises(InvalidOption, match=message):
        mail.apply_async((7,), **options)
    assert lanes(connection) == []


@pytest.mark.parametrize(
    "header", [{"cost": "much"}, {"gates": "rate/x"}, {"gates": ["x"]}, {"gates": ["rate/a\nb"]}]
)
def test_a_header_that_means_nothing_is_refused(
    app: Celery, connection: Connection, header: dict[str, Any]
):
    with pytest.raises(MessageRefused):
        app.send_task("mail", (7,), headers={"pgjobs": header})
    assert lanes(connection) == []


# Rules of queues and of the database


def test_a_queue_of_the_settings_has_a_rate_and_turns(
    make_app: Callable[..., Celery], set_current: Callable[..., None], connection: Connection
):
    app = make_app(
        pgjobs_queues={
            "mail": {"concurrency": 4, "rate": "100/m", "fair": "tenant"},
            "other": {"concurrency": Concurrency(1, by="kwargs.customer")},
            "third": 5,
        }
    )
    set_current(app)

    @app.task(name="task", shared=False)
    def task(tenant: int, customer: Any = None) -> None: ...

    task.apply_async((7,), queue="mail")
    task.apply_async((7,), {"customer": "c"}, queue="other")
    task.apply_async((7,), queue="third")
    app.send_task("unknown", kwargs={"tenant": 8}, queue="mail")
    enqueue_many(task, ((tenant,) for tenant in range(3)), queue="mail")
    assert lanes(connection) == [
        "rate/queue/mail\nshare=7",
        "running/queue/other=c",
        None,
        "rate/queue/mail\nshare=8",
        *(f"rate/queue/mail\nshare={tenant}" for tenant in range(3)),
    ]


def test_a_queue_made_fair_at_run_time_is_known_soon(
    app: Celery, mail: Any, set_current: Callable[..., None], connection: Connection, url: str
):
    set_current(app)
    mail.delay(1)
    make_fair(app, connection, "celery", "kwargs.tenant")
    with psycopg.connect(parse_url(url)) as mine, using(mine):
        mail.delay(2)
        app.tasks["plain"].delay(3)
    make_fair(app, connection, "celery", None)
    mail.delay(4)
    assert lanes(connection) == [
        MAIL.format(1), f"{MAIL.format(2)}\nshare=2", "share=3", MAIL.format(4),
    ]  # fmt: skip


def test_a_program_without_the_code_knows_the_rules_that_workers_have_registered(
    app: Celery, make_app: Callable[..., Celery], connection: Connection
):
    set_rules(
        app,
        connection,
        "INSERT INTO pgjobs.flows (flow, amount, period, by) VALUES"
        " ('rate/task/mail', 100, 60, 'kwargs.tenant'), ('running/task/mail', 5, NULL, '()')",
    )
    make_app().send_task("mail", kwargs={"tenant": 7})
    assert lanes(connection) == ["rate/task/mail=7\nrunning/task/mail=null"]


def test_a_rule_by_hand_counts_before_that_of_the_code(
    app: Celery, mail: Any, connection: Connection
):
    set_rules(
        app,
        connection,
        "INSERT INTO pgjobs.flows (flow, source, amount, period, by) VALUES"
        " ('rate/task/mail', 'hand', 100, 60, 'kwargs.text'),"
        " ('running/task/mail', 'hand', 5, NULL, NULL)",
    )
    mail.delay(7, "x")
    enqueue_many(mail, [(7, "y"), (7, "z"), (7, "u")])
    assert lanes(connection) == [f"rate/task/mail={text}\nrunning/task/mail" for text in "xyzu"]


@pytest.fixture
def counted(app: Celery, mail: Any, connection: Connection) -> Iterator[Callable[[], int]]:
    """How often the rules were read by now, by the server's count of scans."""
    rows = database_of(app).flow_rules
    calls: list[None] = []
    original = rows.list_rules

    def count() -> Any:
        calls.append(None)
        return original()

    rows.list_rules = count  # type: ignore[method-assign]
    known_rules(database_of(app)).expire()
    yield lambda: len(calls)
    del rows.list_rules  # type: ignore[method-assign]


def test_the_rules_are_read_once_in_a_while(mail: Any, counted: Callable[[], int]):
    for _ in range(20):
        mail.delay(1)
    with bulk():
        mail.delay(1)
    assert counted() == 1


# Celery's own rate_limit


def test_celerys_rate_limit_holds_for_all_workers_by_a_setting(
    make_app: Callable[..., Celery], connection: Connection
):
    app = make_app(pgjobs_rate_limits="global")

    @app.task(base=PgTask, name="task", rate_limit="30/m", shared=False)
    def task() -> None: ...

    @app.task(base=PgTask, name="own", rate_limit="30/m", rate="5/s", shared=False)
    def own() -> None: ...

    task.delay()
    assert task.rate == Rate("30/60s", algorithm="bucket", burst=1)
    assert task.rate_limit is None
    assert lanes(connection) == ["rate/task/task"]
    assert own.rate == Rate("5/s")


def test_without_the_setting_it_is_celerys(make_app: Callable[..., Celery], connection: Connection):
    @make_app().task(base=PgTask, name="task", rate_limit="30/m", shared=False)
    def task() -> None: ...

    task.delay()
    assert (task.rate, task.rate_limit, lanes(connection)) == (None, "30/m", [None])


def test_a_setting_that_means_nothing_is_refused(make_app: Callable[..., Celery]):
    app = make_app(pgjobs_rate_limits="all")
    with pytest.raises(InvalidOption, match="pgjobs_rate_limits must be 'worker'"):
        _ = app.task(base=PgTask, name="task", rate_limit="1/s", shared=False)(nothing).name


def test_a_worker_shares_the_rate_limits_of_plain_tasks(make_app: Callable[..., Celery]):
    app = make_app(pgjobs_rate_limits="global")

    @app.task(name="task", rate_limit="0.5/s", shared=False)
    def task() -> None: ...

    assert task.rate_limit == "0.5/s"
    share_rate_limits(app)
    assert task.rate_limit is None
    assert task._flow == TaskFlow("task", Rate("1/2s", algorithm="bucket", burst=1))

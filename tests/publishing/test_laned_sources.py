"""Jobs that come from elsewhere than ``delay()`` stand in their lanes, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, _state, chain, chord, group
from celery.beat import PersistentScheduler, Scheduler

from pgjobs_celery import PgTask, Rate, bulk, queues
from pgjobs_celery.beat.scheduler import PgScheduler
from pgjobs_celery.control.app import database_of
from pgjobs_celery.publishing.laning import known_rules

from ..conftest import Connection
from ..support.shop import tick

#: An entry is due at once, or as good as never.
SOON, RARELY = 0.001, 86_400.0


@pytest.fixture
def app(make_app: Callable[..., Celery], monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An app with a task that has a rate, a plain one, and a queue that is fair."""
    app = make_app()
    monkeypatch.setattr(_state._tls, "current_app", app)

    @app.task(base=PgTask, name="mail", rate=Rate("100/m", by="tenant"), shared=False)
    def mail(tenant: int, text: str = "") -> None: ...

    @app.task(name="plain", shared=False)
    def plain(tenant: int = 0) -> None: ...

    queues(app)["fair"].fair("tenant")
    known_rules(database_of(app)).expire()
    return app


def lanes(connection: Connection) -> list[Any]:
    """The tasks and lanes of all jobs, in their order in line."""
    rows = connection.execute("SELECT task, lane, priority FROM pgjobs.jobs ORDER BY seq")
    found = rows.fetchall()
    assert all((row["priority"] > 255) == (row["lane"] is not None) for row in found)
    return [(row["task"], row["lane"]) for row in found]


def beat_entries() -> dict[str, dict[str, Any]]:
    """Entries by position, by name, of a plain task, and of one that the program does not have."""
    return {
        "a": {"task": "mail", "schedule": RARELY, "args": (7,)},
        "b": {"task": "mail", "schedule": RARELY, "kwargs": {"tenant": 8}},
        "c": {"task": "plain", "schedule": RARELY, "args": (9,), "options": {"queue": "fair"}},
        "d": {
            "task": "elsewhere", "schedule": RARELY, "kwargs": {"tenant": 10},
            "options": {"queue": "fair"},
        },
    }  # fmt: skip


EXPECTED = [
    ("elsewhere", "share=10"),
    ("mail", "rate/task/mail=7"),
    ("mail", "rate/task/mail=8"),
    ("plain", "share=9"),
]


def test_entries_of_our_beat(app: Celery, connection: Connection):
    app.conf.beat_schedule = beat_entries()
    beat = PgScheduler(app)
    tick(beat)
    connection.execute(
        "UPDATE pgjobs.schedules SET next_run_at = now() - interval '10 ms',"
        " version = nextval('pgjobs.schedules_version')"
    )
    tick(beat)
    assert sorted(lanes(connection)) == EXPECTED


@pytest.mark.parametrize("scheduler", [Scheduler, PersistentScheduler])
def test_entries_of_celerys_own_beat(
    app: Celery, connection: Connection, tmp_path: Path, scheduler: Any
):
    app.conf.beat_schedule = {
        name: {**entry, "schedule": SOON} for name, entry in beat_entries().items()
    }
    path = {"schedule_filename": str(tmp_path / "beat")} if scheduler is PersistentScheduler else {}
    beat = scheduler(app, **path)
    for entry in list(beat.schedule.values()):
        beat.apply_async(entry, producer=beat.producer)
    assert sorted(lanes(connection)) == EXPECTED
    beat.close()


def test_groups_chains_and_chords_by_whichever_way_they_are_sent(
    app: Celery, connection: Connection
):
    mail, plain = app.tasks["mail"], app.tasks["plain"]
    group(mail.s(tenant) for tenant in (1, 2)).apply_async()
    chain(mail.si(3), mail.si(4)).apply_async()
    chord([mail.si(5), plain.si(6).set(queue="fair")], mail.si(7)).apply_async()
    app.signature("mail", args=(8,)).apply_async()
    app.signature("elsewhere", kwargs={"tenant": 9}, queue="fair").apply_async()
    plain.map([(1,), (2,)]).apply_async(queue="fair")
    mail.chunks([(1,), (2,)], 1).apply_async()
    assert [lane for _, lane in lanes(connection)] == [
        "rate/task/mail=1", "rate/task/mail=2", "rate/task/mail=3", "rate/task/mail=5", "share=6",
        "rate/task/mail=8", "share=9",
        # They are tasks of Celery's own, whose arguments have no tenant.
        "share=null", None, None,
    ]  # fmt: skip


def test_messages_of_a_plain_kombu_producer(app: Celery, connection: Connection):
    def publish(task: str, args: Any, kwargs: Any, queue: str, **options: Any) -> None:
        with app.connection_for_write() as connected:
            producer = connected.Producer()
            producer.publish(
                (args, kwargs, {}),
                routing_key=queue,
                headers={"task": task, "id": str(uuid4()), "lang": "py", "argsrepr": "()"},
                serializer="json",
                **options,
            )

    publish("plain", [7], {}, "fair")
    publish("elsewhere", [], {"tenant": 8}, "fair")
    publish("mail", [9], {}, "fair", compression="gzip")
    publish("mail", [], "no arguments", "fair")
    assert lanes(connection) == [
        ("plain", "share=7"), ("elsewhere", "share=8"), ("mail", "share=9"),
        ("mail", "share=null"),
    ]  # fmt: skip


def test_a_plain_kombu_producer_of_a_task_with_a_rate_in_code(app: Celery, connection: Connection):
    """Only what workers have registered is known of it, as of any program without the code."""
    queues(app)["celery"].reset()
    connection.execute(
        "INSERT INTO pgjobs.flows (flow, amount, period, by)"
        " VALUES ('rate/task/mail', 100, 60, 'kwargs.tenant')"
    )
    known_rules(database_of(app)).expire()
    with app.connection_for_write() as connected:
        connected.Producer().publish(
            ([9], {}, {}), routing_key="celery", serializer="json",
            headers={"task": "mail", "id": "1", "lang": "py"},
        )  # fmt: skip
    assert lanes(connection) == [("mail", "rate/task/mail=9")]


@pytest.mark.parametrize("is_registered", [True, False])
def test_tasks_that_are_sent_by_name(
    app: Celery, make_app: Callable[..., Celery], connection: Connection, is_registered: bool
):
    """Who has the task knows the names of its parameters; others what they pass by name."""
    connection.execute(
        "INSERT INTO pgjobs.flows (flow, amount, period, by)"
        " VALUES ('rate/task/mail', 100, 60, 'kwargs.tenant')"
    )
    sender = app if is_registered else make_app()
    known_rules(database_of(sender)).expire()
    _state._tls.current_app = sender
    with bulk():
        sender.send_task("mail", kwargs={"tenant": 1})
        sender.send_task("mail", (2,))
        sender.send_task("plain", kwargs={"tenant": 3}, queue="fair")
    found = [lane for _, lane in lanes(connection)]
    second = "rate/task/mail=2" if is_registered else "rate/task/mail=null"
    assert found == ["rate/task/mail=1", second, "share=3"]

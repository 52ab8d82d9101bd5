"""What is published together is unique as what is published one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import psycopg
import pytest
from celery import Celery, group
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgjobs_celery import PgTask, Unique, bulk, jobs, using
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.publishing.fast_producer import Collector

from ..conftest import Connection, empty_database


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()
    debounce = Unique(period=None, states="waiting", replace=["eta", "args"], keys=["id"])

    scheduled = Unique(period=None, states="scheduled")

    @app.task(name="welcome", base=PgTask, unique=Unique(period=None), shared=False)
    def welcome(user_id: int) -> None: ...

    @app.task(name="reindex", base=PgTask, unique=debounce, shared=False)
    def reindex(id: int, text: str = "") -> None: ...

    @app.task(name="later", base=PgTask, unique=scheduled, shared=False)
    def later(id: int) -> None: ...

    @app.task(name="plain", base=PgTask, shared=False)
    def plain(id: int) -> None: ...

    return app


def count(connection: Connection, condition: str) -> int:
    row = connection.execute(f"SELECT count(*) AS n FROM pgjobs.jobs WHERE {condition}").fetchone()
    assert row
    return int(row["n"])


def test_a_duplicate_in_the_block_shows_when_that_is_written(app: Celery, connection: Connection):
    welcome = app.tasks["welcome"]
    with bulk():
        first, again, other = welcome.delay(1), welcome.delay(1), welcome.delay(2)
        assert not again.conflict
    assert (first.conflict, again.conflict, other.conflict) == (False, True, False)
    row = jobs(app).get(again.id)
    assert (row.state.value, row.superseded_by) == ("cancelled", first.id)
    assert again.state == "REVOKED"
    assert count(connection, "state = 'available'") == 2


def test_one_that_is_there_already_stands_for_it(app: Celery, connection: Connection):
    welcome = app.tasks["welcome"]
    there = welcome.delay(1)
    with bulk() as batch:
        again, other = welcome.delay(1), welcome.delay(2)
    assert (again.conflict, other.conflict, batch.written) == (True, False, 1)
    assert jobs(app).get(again.id).superseded_by == there.id


def test_a_duplicate_replaces_what_it_is_to(app: Celery, connection: Connection):
    reindex = app.tasks["reindex"]
    there = reindex.apply_async((1, "old"), countdown=60)
    with bulk():
        reindex.apply_async((1, "new"), countdown=1000)
        first = reindex.apply_async((2, "a"), countdown=60)
        reindex.apply_async((2, "b"), countdown=1000)
    assert jobs(app).get(there.id).args == [1, "new"]
    assert jobs(app).get(first.id).args == [2, "b"]
    assert count(connection, "finished_at IS NULL AND due_at > now() + interval '900 s'") == 2


def test_who_ends_as_a_duplicate_ends_its_group(app: Celery, connection: Connection):
    welcome = app.tasks["welcome"]
    with bulk():
        result = group(welcome.s(1), welcome.s(1), welcome.s(2)).apply_async()
    assert [each.state for each in result] == ["PENDING", "REVOKED", "PENDING"]


def test_a_conflict_is_the_callers_transactions_too(app: Celery, url: str, connection: Connection):
    welcome = app.tasks["welcome"]
    there = welcome.delay(1)
    with psycopg.connect(parse_url(url)) as mine, using(mine), bulk():
        again, other = welcome.delay(1), welcome.delay(2)
    assert (again.conflict, other.conflict) == (True, False)
    assert jobs(app).get(again.id).superseded_by == there.id
    assert jobs(app).get(other.id).superseded_by is None


def test_two_who_publish_the_same_in_opposite_order_do_not_stop_each_other(
    app: Celery, connection: Connection
):
    names = ("welcome", "reindex", "reindex")
    for index in range(1, 120, 3):
        app.tasks["reindex"].apply_async((index,), countdown=60)
    ready = threading.Barrier(3)
    results: list[Any] = []
    failures: list[BaseException] = []

    def publish(order: Sequence[int]) -> None:
        try:
            ready.wait()
            for _ in range(3):
                with bulk():
                    for index in order:
                        task = app.tasks[names[index % 3]]
                        results.append(task.apply_async((index,), countdown=60))
        except BaseException as error:
            failures.append(error)

    up = list(range(120))
    threads = [threading.Thread(target=publish, args=(order,)) for order in (up, up[::-1], up[60:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert count(connection, "finished_at IS NULL") == 120
    assert sum(not result.conflict for result in results) == 120 - 40
    assert count(connection, "superseded_by IS NOT NULL") == sum(each.conflict for each in results)


class Publish(NamedTuple):
    """A task that is published."""

    task: str
    number: int
    task_id: str | None
    countdown: int | None
    priority: int


publishes = st.builds(
    Publish,
    st.sampled_from(["welcome", "reindex", "later", "plain"]),
    st.integers(1, 3),
    st.just(None),
    st.sampled_from([None, 600]),
    st.integers(0, 1),
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=st.lists(publishes, max_size=4), together=st.lists(publishes, max_size=12))
def test_the_rows_are_the_same_as_one_by_one(
    app: Celery,
    url: str,
    connection: Connection,
    before: list[Publish],
    together: list[Publish],
):
    def publish(every: Sequence[Publish], start: int) -> list[Any]:
        # Each with an id of its own that says its place, or every third that of another.
        return [
            app.tasks[each.task].apply_async(
                (each.number,),
                task_id=f"{each.task}{each.number}" if place % 3 == 0 else f"id-{place}",
                countdown=each.countdown,
                priority=each.priority,
            )
            for place, each in enumerate(every, start)
        ]

    def found() -> list[dict[str, Any]]:
        rows = connection.execute(
            "SELECT task_id, task, state, priority, body, unique_key, superseded_by, given_key,"
            " due_at IS NULL AS is_ready FROM pgjobs.jobs ORDER BY seq"
        ).fetchall()
        # What has ended stands in no line.
        ended = [row for row in rows if row["state"] == "cancelled"]
        waiting = [row for row in rows if row["state"] != "cancelled"]
        return waiting + sorted(ended, key=lambda row: str(row["task_id"]))

    outcomes = []
    for is_bulk in (False, True):
        empty_database(url)
        publish(before, 0)
        if is_bulk:
            with bulk(size=5):
                results = publish(together, len(before))
        else:
            results = publish(together, len(before))
        outcomes.append((found(), [result.conflict for result in results]))
    assert outcomes[0] == outcomes[1]


def test_a_pgtask_takes_a_shorter_way_only_where_nothing_has_to_be_tried_again(
    app: Celery, url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    plain = app.tasks["plain"]
    taken: list[Any] = []
    collect = Collector._collect

    def note(self: Collector, body: Any, **options: Any) -> None:
        taken.append(body[0][0])
        collect(self, body, **options)

    monkeypatch.setattr(Collector, "_collect", note)
    with psycopg.connect(parse_url(url)) as mine:
        plain.apply_async((1,), priority=1)  # the first of its kind, each of them
        with bulk():
            plain.delay(2)
        with using(mine):
            plain.delay(3)
            with using(None):
                plain.apply_async((4,), priority=4)
            with bulk(), using(None):
                plain.apply_async((5,), priority=5)
            plain.apply_async((6,), connection=app.connection())
    assert taken == [2, 3]
    assert count(connection, "true") == 6

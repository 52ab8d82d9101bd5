"""The last of many calls counts, and runs once the calls have stopped, or once in a period."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from pgjobs_celery import Debounce, PgTask, Unique, bulk, enqueue_many
from pgjobs_celery.errors import InvalidOption, UnknownOption
from pgjobs_celery.job.unique import as_unique, read_unique

from ..conftest import Connection

Define = Callable[..., Any]


@pytest.fixture
def define(make_app: Callable[..., Celery]) -> Define:
    """A factory of tasks with this rule; ``reindex(product, text="")``."""
    app = make_app()

    def define(rule: Any) -> Any:
        def reindex(product: int, text: str = "") -> None: ...

        return app.task(base=PgTask, name="reindex", unique=rule, shared=False)(reindex)

    return define


def jobs_of(connection: Connection) -> list[dict[str, Any]]:
    """All jobs, with the seconds from when they were published until they are due."""
    rows = connection.execute(
        "SELECT j.task_id, j.state, j.priority, j.body,"
        " extract(epoch FROM j.due_at - j.inserted_at)::float8 AS wait"
        " FROM pgjobs.jobs AS j ORDER BY j.id"
    ).fetchall()
    return [{**row, "arguments": json.loads(bytes(row["body"]))[:2]} for row in rows]


def make_older(connection: Connection, seconds: float) -> None:
    connection.execute(
        "UPDATE pgjobs.jobs SET inserted_at = inserted_at - %(s)s * interval '1 second',"
        " attempted_at = attempted_at - %(s)s * interval '1 second'",
        {"s": seconds},
    )


def test_the_last_call_counts_and_the_time_begins_anew(define: Define, connection: Connection):
    reindex = define(Debounce(30, keys=["product"]))
    first = reindex.delay(7, text="old")
    make_older(connection, 20)
    second = reindex.apply_async((7,), {"text": "new"}, priority=2)
    assert (first.conflict, second.conflict, second.id) == (False, True, first.id)
    (job,) = jobs_of(connection)
    assert job["state"] == "scheduled"
    assert job["arguments"] == [[7], {"text": "new"}]
    assert job["priority"] == 2
    assert job["wait"] == pytest.approx(50, abs=10)


def test_other_keys_are_other_jobs(define: Define, connection: Connection):
    reindex = define(Debounce(timedelta(seconds=30), keys=["product"]))
    reindex.delay(7)
    reindex.delay(product=8)
    assert len(jobs_of(connection)) == 2


def test_without_keys_all_calls_of_the_task_are_one(define: Define, connection: Connection):
    reindex = define(Debounce(30))
    reindex.delay(7)
    reindex.delay(8)
    assert [job["arguments"] for job in jobs_of(connection)] == [[[8], {}]]


def test_a_call_may_wait_for_another_time(define: Define, connection: Connection):
    reindex = define(Debounce(30))
    reindex.apply_async((7,), countdown=300)
    (job,) = jobs_of(connection)
    assert job["wait"] == pytest.approx(300, abs=10)


def test_a_job_is_not_put_off_for_longer_than_max_wait(define: Define, connection: Connection):
    reindex = define(Debounce(30, max_wait=60))
    reindex.delay(1)
    make_older(connection, 50)
    reindex.delay(2)
    (job,) = jobs_of(connection)
    assert (job["arguments"], job["wait"]) == ([[2], {}], 60)
    make_older(connection, 50)
    reindex.delay(3)
    (job,) = jobs_of(connection)
    assert (job["arguments"], job["state"]) == ([[3], {}], "available")


def test_at_most_one_in_a_period_with_the_last_arguments(define: Define, connection: Connection):
    reindex = define(Debounce(30, max_wait=30))
    reindex.delay(1)
    make_older(connection, 10)
    for number in (2, 3, 4):
        reindex.delay(number)
    (job,) = jobs_of(connection)
    assert (job["arguments"], job["wait"]) == ([[4], {}], 30)


def test_a_retry_that_waits_is_not_hurried_by_max_wait(define: Define, connection: Connection):
    reindex = define(Debounce(30, max_wait=30))
    reindex.delay(1)
    make_older(connection, 500)
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'retryable', attempt = 1, attempted_at = now(),"
        " due_at = now() + interval '1 hour'"
    )
    reindex.delay(2)
    (job,) = jobs_of(connection)
    assert (job["state"], job["arguments"]) == ("retryable", [[2], {}])
    assert job["wait"] == pytest.approx(530, abs=10)


def test_a_job_that_runs_does_not_count(define: Define, connection: Connection):
    reindex = define(Debounce(30))
    first = reindex.delay(1)
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'executing', attempt = 1, due_at = NULL,"
        " claimed_by = '00000000-0000-0000-0000-000000000001'"
    )
    second = reindex.delay(2)
    assert not second.conflict
    assert [job["task_id"] for job in jobs_of(connection)] == [first.id, second.id]


def test_in_bulk_the_last_one_counts(define: Define, connection: Connection):
    reindex = define(Debounce(30, keys=["product"]))
    with bulk():
        for number in range(50):
            reindex.delay(number % 5, text=str(number))
    enqueue_many(reindex, ({"product": 0, "text": str(number)} for number in range(50, 60)))
    # In a block the others' ids were handed out: their rows are kept, cancelled.
    texts = [
        job["arguments"][1]["text"] for job in jobs_of(connection) if job["state"] == "scheduled"
    ]
    assert sorted(texts, key=int) == ["46", "47", "48", "49", "59"]


def test_of_many_that_call_at_once_one_job_is_left(define: Define, connection: Connection):
    reindex = define(Debounce(30))
    start = threading.Barrier(6)

    def publish(number: int) -> None:
        start.wait()
        for _ in range(5):
            reindex.delay(number)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(jobs_of(connection)) == 1


def test_a_signature_carries_it(define: Define, connection: Connection):
    reindex = define(Unique())
    for number in (1, 2):
        form = json.loads(json.dumps(Debounce(30, keys=["product"]).__json__()))
        reindex.s(7, text=str(number)).set(unique=form).apply_async()
    (job,) = jobs_of(connection)
    assert job["arguments"] == [[7], {"text": "2"}]


def test_a_call_changes_a_part_of_it():
    rule = as_unique({"seconds": 5}, Debounce(30, keys=["product"], max_wait=60))
    assert rule == Debounce(5, keys=["product"], max_wait=60)
    assert rule is not None
    assert read_unique(rule.to_header(b"k")).rule.latest == 60


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Debounce(0), "Debounce: seconds must be seconds above 0"),
        (lambda: Debounce(None), "Debounce waits for seconds"),  # type: ignore[arg-type]
        (lambda: Debounce("30"), "Debounce: seconds"),  # type: ignore[arg-type]
        (lambda: Debounce(3, max_wait=-1), "unique: max_wait"),
        (lambda: Debounce(3, keys="product"), "unique: keys must be a list"),
    ],
)
def test_what_means_nothing_is_refused(make: Callable[[], Any], message: str):
    with pytest.raises(InvalidOption, match=message):
        make()


def test_a_misspelt_part_is_named():
    with pytest.raises(UnknownOption, match=r"debounce has no option 'key'; did you mean 'keys'"):
        as_unique({"seconds": 30, "key": ["product"]})

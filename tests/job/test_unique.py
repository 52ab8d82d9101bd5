"""A job is not published while another that is the same is there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import psycopg
import pytest
from celery import Celery, chain, group

from pgjobs_celery import PgTask, Unique, jobs
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.unique_jobs import UniqueJobs
from pgjobs_celery.errors import InvalidOption, MessageRefused, UnknownOption
from pgjobs_celery.job.envelope import decode_envelope
from pgjobs_celery.job.outcome import Outcome, released, requeued, retried, snoozed
from pgjobs_celery.job.rows import ClaimKey, Fence
from pgjobs_celery.job.states import State

from ..conftest import Connection
from ..support.rows import by_holder, new_job, row, states


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return make_app(task_cls=PgTask)


Define = Callable[..., Any]


@pytest.fixture
def define(make_app: Callable[..., Celery]) -> Define:
    """A factory of tasks that are unique as the arguments say; ``welcome(user_id, lang="en")``."""
    app = make_app()

    def define(name: str = "welcome", app: Celery = app, unique: Any = None, **options: Any) -> Any:
        def welcome(user_id: Any, lang: str = "en", *more: Any, **others: Any) -> None: ...

        return app.task(base=PgTask, name=name, unique=unique or Unique(**options), shared=False)(
            welcome
        )

    return define


def set_row(connection: Connection, task_id: str, **columns: Any) -> None:
    names = ", ".join(f"{name} = %s" for name in columns)
    connection.execute(
        f"UPDATE pgjobs.jobs SET {names} WHERE task_id = %s", (*columns.values(), task_id)
    )


#: What makes a waiting row one in another state.
IN_STATE: dict[str, dict[str, Any]] = {
    "scheduled": {"due_at": datetime(2100, 1, 1, tzinfo=timezone.utc)},
    "available": {},
    "executing": {"claimed_by": "00000000-0000-0000-0000-000000000001", "attempt": 1},
    "retryable": {"due_at": datetime(2100, 1, 1, tzinfo=timezone.utc), "attempt": 1},
    "completed": {"finished_at": datetime.now(timezone.utc)},
    "discarded": {"finished_at": datetime.now(timezone.utc)},
    "cancelled": {"finished_at": datetime.now(timezone.utc)},
}


def test_the_second_of_two_jobs_that_are_the_same_is_the_first(define: Define, connection: Any):
    welcome = define()
    first, second = welcome.delay(7), welcome.delay(7)
    assert not first.conflict
    assert second.conflict
    assert second.id == first.id
    assert states(connection) == {first.id: "available"}
    assert not welcome.delay(8).conflict


def test_arguments_are_the_same_however_they_are_passed(define: Define):
    welcome = define()
    first = welcome.delay(7)
    for again in (
        welcome.delay(user_id=7),
        welcome.delay(7, "en"),
        welcome.delay(lang="en", user_id=7),
        welcome.s(7).delay(),
        welcome.si(user_id=7).set(priority=3).apply_async(),
    ):
        assert (again.conflict, again.id) == (True, first.id)
    assert not welcome.delay(7, "de").conflict
    assert not welcome.delay(7, "en", 3).conflict
    assert not welcome.delay(7, x=1).conflict


def test_of_the_arguments_the_keys_alone_may_count(define: Define):
    welcome = define(keys=["user_id"])
    first = welcome.delay(7, "en")
    assert welcome.delay(7, "de").id == first.id
    assert welcome.delay(user_id=7, lang="fr", x=2).id == first.id
    assert not welcome.delay(8, "en").conflict


def test_a_key_that_is_no_argument_is_refused(app: Celery, connection: Connection):
    """Or every job would be the same as every other."""

    @app.task(base=PgTask, name="tell", unique=Unique(keys=["user"]), shared=False)
    def tell(user_id: int) -> None: ...

    with pytest.raises(
        InvalidOption, match="'user', which is not an argument of tell; did you mean"
    ):
        tell.delay(7)
    assert states(connection) == {}


def test_what_the_keys_leave_out_need_not_be_json(define: Define):
    welcome = define(keys=["user_id"])
    options = {"serializer": "pickle"}
    first = welcome.apply_async((7, {1, 2}), **options)
    assert welcome.apply_async((7, object), **options).id == first.id
    with pytest.raises(InvalidOption, match="name those that count in keys"):
        define("all").apply_async((7, object), **options)


@pytest.mark.parametrize(
    ("fields", "same", "other"),
    [
        (["task", "args"], {"queue": "b"}, {"args": (8,)}),
        (["task", "queue"], {"args": (8,)}, {"queue": "b"}),
        (["task", "meta"], {"args": (8,), "meta": {"k": 1}}, {"meta": {"k": 2}}),
    ],
)
def test_the_fields_that_are_named_count(
    define: Define, fields: list[str], same: dict[str, Any], other: dict[str, Any]
):
    welcome = define(fields=fields)
    base = {"args": (7,), "queue": "a", "meta": {"k": 1}}
    first = welcome.apply_async(**base)
    assert welcome.apply_async(**{**base, **same}).id == first.id
    assert not welcome.apply_async(**{**base, **other}).conflict


def test_tasks_are_told_apart_unless_only_their_arguments_count(define: Define):
    app = define("a").app
    assert not define("b", app).delay(7).conflict
    assert not app.tasks["a"].delay(7).conflict
    first = define("c", app, fields=["args"]).delay(7)
    assert define("d", app, fields=["args"]).delay(7).id == first.id


@pytest.mark.parametrize("state", [state.value for state in State])
@pytest.mark.parametrize("counted", ["successful", "incomplete", "waiting", "all", ["executing"]])
def test_a_job_counts_in_the_states_that_are_named(
    define: Define, connection: Connection, state: str, counted: Any
):
    welcome = define(states=counted)
    first = welcome.delay(7)
    set_row(connection, first.id, state=state, **IN_STATE[state])
    second = welcome.delay(7)
    assert second.conflict is (state in welcome.unique.states)
    if not second.conflict:
        assert row(connection, first.id)["unique_key"] is None
        assert row(connection, first.id)["superseded_by"] == second.id
        if "available" in welcome.unique.states:
            assert welcome.delay(7).id == second.id


def test_a_job_counts_for_the_period(define: Define, connection: Connection):
    welcome = define(period=timedelta(minutes=1))
    first = welcome.delay(7)
    set_row(connection, first.id, inserted_at=datetime.now(timezone.utc) - timedelta(seconds=55))
    assert welcome.delay(7).id == first.id
    set_row(connection, first.id, inserted_at=datetime.now(timezone.utc) - timedelta(seconds=61))
    second = welcome.delay(7)
    assert not second.conflict
    # Both may run: that is what the period says.
    assert row(connection, first.id)["superseded_by"] is None
    assert welcome.delay(7).id == second.id


def test_without_a_period_a_job_counts_as_long_as_its_row_is_kept(
    define: Define, connection: Connection
):
    for name, unique in (("a", True), ("b", Unique(period=None)), ("c", {"period": None})):
        task = define(name, unique=unique)
        first = task.delay(7)
        set_row(connection, first.id, inserted_at=datetime(1970, 1, 1, tzinfo=timezone.utc))
        assert task.delay(7).id == first.id


def test_of_many_that_publish_at_once_one_succeeds(define: Define, connection: Connection):
    """Also where the first has to take the key from a job that does not count any more."""
    welcome = define(states="incomplete")
    for round_ in range(5):
        found: list[Any] = []
        barrier = threading.Barrier(8)

        def publish(
            user_id: int = round_ // 2, found: list[Any] = found, barrier: Any = barrier
        ) -> None:
            barrier.wait()
            found.extend(welcome.delay(user_id) for _ in range(5))

        threads = [threading.Thread(target=publish) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 40
        assert len({result.id for result in found}) == 1
        assert sum(not result.conflict for result in found) == 1
        (job,) = connection.execute(
            "SELECT * FROM pgjobs.jobs WHERE state = 'available'"
        ).fetchall()
        assert job["task_id"] == found[0].id
        set_row(connection, job["task_id"], state="completed", **IN_STATE["completed"])


def test_an_id_that_somebody_was_promised_has_a_row(define: Define, connection: Connection):
    welcome = define()
    first = welcome.delay(7)
    second = welcome.apply_async((7,), task_id="mine")
    assert (second.conflict, second.id) == (True, first.id)
    found = row(connection, "mine")
    assert (found["state"], found["superseded_by"]) == ("cancelled", first.id)
    assert found["unique_key"] is None
    mine = welcome.AsyncResult("mine")
    assert mine.state == "REVOKED"
    assert str(mine.result) == f"a duplicate of job {first.id}"


@pytest.mark.parametrize(
    ("state", "back"),
    [
        ("executing", lambda database, id: settle(database, requeued(ClaimKey(id, 1)))),
        ("executing", lambda database, id: settle(database, released(ClaimKey(id, 1)))),
        (
            "executing",
            lambda database, id: settle(database, retried(ClaimKey(id, 1), 60.0, "{}")),
        ),
        ("executing", lambda database, id: settle(database, snoozed(ClaimKey(id, 1), 60.0))),
        ("executing", lambda database, claim: database.claims.rescue_jobs()),
        (
            "executing",
            lambda database, claim: database.claims.release_unknown_jobs(
                UUID(int=1), ["celery"], []
            ),
        ),
        ("completed", lambda database, claim: jobs(database).retry()),
        ("discarded", lambda database, claim: jobs(database).retry()),
    ],
)
def test_neither_a_retry_nor_a_rescue_makes_two_of_a_kind(
    define: Define, connection: Connection, database: Database, state: str, back: Any
):
    """The second was published while the first did not count; now that would come back."""
    welcome = define(states="waiting")
    first = welcome.delay(7)
    set_row(connection, first.id, state=state, acks_late=True, **IN_STATE[state])
    second = welcome.delay(7)
    assert not second.conflict
    back(database, row(connection, first.id)["id"])
    found = row(connection, first.id)
    assert states(connection)[second.id] == "available"
    assert found["state"] == ("cancelled" if state == "executing" else state)
    if state == "executing":
        assert found["errors"][-1]["message"] == f"superseded by {second.id}"
        assert first.state == "REVOKED"


def test_a_job_that_is_put_in_line_again_takes_its_key_back(
    define: Define, connection: Connection, database: Database
):
    """Also where its successor, which has ended, gave the key to a third."""
    welcome = define(states="incomplete")
    first = welcome.delay(7)
    set_row(connection, first.id, state="discarded", **IN_STATE["discarded"])
    second = welcome.delay(7)
    set_row(connection, second.id, state="completed", **IN_STATE["completed"])
    assert jobs(database).filter(id=first).retry() == [first.id]
    assert welcome.delay(7).id == first.id
    set_row(connection, first.id, state="discarded", **IN_STATE["discarded"])
    third = welcome.delay(7)
    assert not third.conflict
    assert jobs(database).retry() == []
    set_row(connection, third.id, state="discarded", **IN_STATE["discarded"])
    assert len(jobs(database).retry()) == 1


def test_of_those_that_publish_and_put_in_line_again_at_once_one_succeeds(
    define: Define, connection: Connection, database: Database
):
    """The retry waits for the publisher's lock, and does not see what it has published."""
    welcome = define(states="incomplete")
    for user_id in range(20):
        first = welcome.delay(user_id)
        set_row(connection, first.id, state="discarded", **IN_STATE["discarded"])
        barrier = threading.Barrier(2)

        def publish(user_id: int = user_id, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            welcome.delay(user_id)

        thread = threading.Thread(target=publish)
        thread.start()
        barrier.wait()
        jobs(database).filter(id=first).retry()
        thread.join()
        assert list(states(connection).values()).count("available") == user_id + 1


def test_a_job_that_retries_itself_gives_way_to_the_one_that_waits(
    define: Define, connection: Connection, database: Database
):
    welcome = define(states="waiting")
    first = welcome.delay(7)
    set_row(connection, first.id, state="executing", **IN_STATE["executing"])
    second = welcome.delay(7)
    holder = Fence(UUID(int=1), 1)
    for eta in (None, 60):
        assert database.jobs.insert_job(new_job(first.id, eta=eta), by_holder(holder))
        assert states(connection) == {first.id: "cancelled", second.id: "available"}
        set_row(
            connection, first.id, state="executing", finished_at=None, superseded_by=second.id,
            **IN_STATE["executing"],
        )  # fmt: skip


def test_a_retry_keeps_the_key_and_nobody_gets_in_between(
    define: Define, connection: Connection, database: Database
):
    welcome = define()
    first = welcome.delay(7)
    claim = ClaimKey(row(connection, first.id)["id"], 1)
    for outcome in (
        requeued(claim),
        released(claim),
        retried(claim, 0.0, "{}"),
        snoozed(claim, 60.0),
    ):
        set_row(connection, first.id, state="executing", due_at=None, **IN_STATE["executing"])
        assert welcome.delay(7).id == first.id
        settle(database, outcome)
        assert welcome.delay(7).id == first.id
    database.claims.stage_jobs(10)
    assert welcome.delay(7).id == first.id


def settle(database: Database, outcome: Outcome) -> None:
    assert database.claims.settle_jobs(UUID(int=1), [outcome]) == []


def test_a_group_with_duplicates_comes_to_an_end(define: Define, connection: Connection):
    welcome = define()
    result = group(welcome.s(1), welcome.s(2), welcome.s(1)).apply_async()
    assert [states(connection)[each.id] for each in result.results] == [
        "available", "available", "cancelled",
    ]  # fmt: skip
    assert [each.state for each in result.results] == ["PENDING", "PENDING", "REVOKED"]


def test_a_duplicate_first_step_ends_its_chain(define: Define, connection: Connection):
    welcome = define()
    first = welcome.delay(1)
    last = chain(welcome.si(1), welcome.si(2)).apply_async()
    assert last.parent.state == "REVOKED"
    assert states(connection) == {first.id: "available", last.parent.id: "cancelled"}


def test_a_call_may_say_otherwise(define: Define):
    welcome = define()
    first = welcome.delay(7)
    assert not welcome.apply_async((7,), unique=False).conflict
    assert welcome.apply_async((7,), unique=Unique(period=5)).id == first.id
    assert not welcome.apply_async((7,), unique=Unique(fields=["task"], period=5)).conflict
    assert welcome.s(9).set(unique={"fields": ["task"]}).apply_async().conflict
    # What it leaves out is the task's.
    narrow = define("narrow", keys=["user_id"], period=None)
    first = narrow.delay(7, "en")
    assert narrow.apply_async((7, "de"), unique={"period": 1000}).id == first.id


def test_a_job_keeps_its_key_when_it_is_published_again_by_its_id(
    define: Define, connection: Connection
):
    welcome = define()
    welcome.apply_async((7,), task_id="mine")
    assert not welcome.apply_async((7,), task_id="mine").conflict
    set_row(connection, "mine", state="discarded", **IN_STATE["discarded"])
    assert not welcome.apply_async((7,), task_id="mine").conflict
    assert states(connection) == {"mine": "available"}
    assert welcome.delay(7).id == "mine"


def test_what_is_named_is_replaced_in_the_job_that_waits(define: Define, connection: Connection):
    welcome = define(keys=["user_id"], replace=["args", "priority", "scheduled_at", "tags", "meta"])
    first = welcome.apply_async((7, "en"), countdown=60, tags=["a"], meta={"k": 1})
    before = row(connection, first.id)
    again = welcome.apply_async((7, "de"), countdown=3600, priority=3, tags=["b"], meta={"k": 2})
    assert again.conflict
    found = row(connection, first.id)
    (arguments,) = connection.execute(
        "SELECT args, kwargs FROM pgjobs.job_details WHERE task_id = %s", (first.id,)
    ).fetchall()
    assert arguments == {"args": [7, "de"], "kwargs": {}}
    assert (found["priority"], found["tags"], found["meta"]) == (3, ["b"], {"k": 2})
    assert (found["due_at"] - before["due_at"]).total_seconds() == pytest.approx(3540, abs=5)
    headers = decode_envelope(found["message"], found["queue"]).headers
    assert (headers["id"], headers["root_id"]) == (first.id, first.id)
    assert states(connection) == {first.id: "scheduled"}
    welcome.delay(7, "fr")
    assert row(connection, first.id)["state"] == "available"


def test_what_is_replaced_may_depend_on_the_state_and_never_of_what_runs(
    define: Define, connection: Connection
):
    welcome = define(fields=["task", "args"], replace={"scheduled": ["queue"]})
    first = welcome.apply_async((7,), queue="a")
    assert welcome.apply_async((7,), queue="b").conflict
    assert row(connection, first.id)["queue"] == "a"
    set_row(connection, first.id, state="scheduled", **IN_STATE["scheduled"])
    welcome.apply_async((7,), queue="b")
    assert row(connection, first.id)["queue"] == "b"
    set_row(connection, first.id, state="executing", due_at=None, **IN_STATE["executing"])
    welcome.apply_async((7,), queue="c")
    assert row(connection, first.id)["queue"] == "b"


def test_what_begins_before_it_is_replaced_is_not_the_last_word(
    define: Define, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    """It is claimed between the look at it and the change: what was to be replaced was lost."""
    welcome = define(keys=["user_id"], states="waiting", replace=["args"])
    first = welcome.delay(7, "en")
    replace_job = UniqueJobs.replace_job

    def claim_and_replace(*args: Any) -> bool:
        set_row(connection, first.id, state="executing", **IN_STATE["executing"])
        return replace_job(*args)

    monkeypatch.setattr(UniqueJobs, "replace_job", claim_and_replace)
    again = welcome.delay(7, "de")
    assert not again.conflict
    assert states(connection) == {first.id: "executing", again.id: "available"}


def test_a_unique_job_runs_once_although_the_answer_to_its_publish_was_lost(
    define: Define, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    """It has finished when it is sent again: it is no new job."""
    welcome = define(states="incomplete")
    run = Database.run

    def run_and_cut(self: Database, *transactions: Any) -> Any:
        rows = run(self, *transactions)
        if any(call.prepared.name == b"insert_unique_job" for call in transactions[0]):
            monkeypatch.setattr(Database, "run", run)
            connection.execute("UPDATE pgjobs.jobs SET state = 'completed', finished_at = now()")
            raise psycopg.OperationalError("cut off")
        return rows

    monkeypatch.setattr(Database, "run", run_and_cut)
    result = welcome.delay(7)
    assert not result.conflict
    assert states(connection) == {result.id: "completed"}


def test_a_period_that_no_date_can_hold_is_for_ever(define: Define):
    for period in (1e300, 10**400, timedelta.max):
        assert Unique(period=period).period is None
    welcome = define(unique={"period": 50 * 365 * 86_400.0})
    assert welcome.delay(7).id == welcome.delay(7).id


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"period": 0}, "period must be seconds above 0"),
        ({"period": "60"}, "period must be seconds above 0"),
        ({"fields": []}, "at least one field"),
        ({"fields": ["arg"]}, "did you mean 'args'"),
        ({"fields": "args"}, "must be a list of names"),
        ({"fields": ["task"], "keys": ["x"]}, "fields names neither"),
        ({"states": ["availible"]}, "did you mean 'available'"),
        ({"states": "everything"}, "or one of all, incomplete"),
        ({"states": []}, "at least one state"),
        ({"replace": ["task"]}, "replace cannot name 'task'"),
        ({"replace": {"executing": ["args"]}}, "not 'executing'"),
    ],
)
def test_what_means_nothing_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(InvalidOption, match=message):
        Unique(**options)


def test_a_slip_of_an_option_is_named_with_the_one_that_was_meant(define: Define):
    with pytest.raises(UnknownOption, match="unique has no option 'key'; did you mean 'keys'"):
        define(unique={"key": ["a"]}).delay(1)


def test_a_header_that_somebody_made_up_is_refused_and_nothing_is_published(
    app: Celery, connection: Connection
):
    for unique in ({"key": "xyz"}, {"key": "00"}, 7):
        with pytest.raises(MessageRefused, match="unique is not what a task would publish"):
            app.send_task("x", headers={"pgjobs": {"unique": unique}})
    assert states(connection) == {}

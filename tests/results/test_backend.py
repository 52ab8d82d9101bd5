"""What is stored reads back as Celery's own backends do it; most of it side by side with Redis."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery, states
from celery.app.task import Context
from celery.exceptions import Ignore, TaskRevokedError

from ..conftest import Connection
from ..support.getters import new
from ..support.holders import execute, hold

MakeApp = Callable[..., Celery]


@pytest.fixture
def app(make_app: MakeApp) -> Celery:
    app = make_app()

    @app.task(shared=False, name="work", bind=True)
    def work(self: Any, *args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    @app.task(shared=False, name="again", bind=True, max_retries=3)
    def again(self: Any) -> None:
        raise self.retry(exc=KeyError("later"), countdown=60)

    @app.task(shared=False, name="state_failure", bind=True)
    def state_failure(self: Any) -> None:
        meta = {"exc_type": "ValueError", "exc_message": "bad row", "exc_module": "builtins"}
        self.update_state(state="FAILURE", meta=meta)
        raise Ignore

    return app


def request(**fields: Any) -> Context:
    """The request of a task that came through a broker which is not ours."""
    return Context({
        "id": "", "task": "theirs", "args": [1], "kwargs": {"a": 2}, "hostname": "w@elsewhere",
        "retries": 2, "delivery_info": {"routing_key": "mail"}, **fields,
    })  # fmt: skip


def row(connection: Connection, task_id: str) -> dict[str, Any]:
    found = connection.execute("SELECT * FROM pgjobs.jobs WHERE task_id = %s", [task_id]).fetchone()
    assert found, f"no row for {task_id}"
    return found


# States and values


def test_an_id_that_nobody_knows_is_pending(either: MakeApp):
    result = new(either())
    assert (result.state, result.status, result.result, result.info) == (
        "PENDING", "PENDING", None, None,
    )  # fmt: skip
    assert (result.ready(), result.successful(), result.failed()) == (False,) * 3
    assert (result.traceback, result.date_done, result.name, result.queue) == (None,) * 4


@pytest.mark.parametrize("task_id", ["a b/ü", "x" * 300, "{1,2}", 'with "quotes" and \\'])
def test_any_text_is_an_id(either: MakeApp, task_id: str):
    app = either()
    app.backend.forget(task_id)
    assert app.AsyncResult(task_id).state == "PENDING"
    app.backend.mark_as_done(task_id, 1)
    assert app.AsyncResult(task_id).get(timeout=5) == 1


@pytest.mark.parametrize("task_id", ["a\0b", "\ud800"])
def test_an_id_that_no_row_can_have_is_pending(make_app: MakeApp, task_id: str):
    """From a URL, say: an id of somebody's own making is no server error."""
    app = make_app()
    assert app.AsyncResult(task_id).state == "PENDING"
    app.AsyncResult(task_id).forget()


def test_a_uuid_is_an_id_too(make_app: MakeApp):
    app, task_id = make_app(), uuid4()
    assert app.AsyncResult(task_id).state == "PENDING"
    app.backend.mark_as_done(str(task_id), 5)
    assert app.AsyncResult(task_id).result == 5


@pytest.mark.parametrize(
    "value",
    [
        None, 0, False, "", [], {}, "ü\0😀", "lone \ud800", 2**70, {"a": [1, {"b": None}]},
        datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc), UUID(int=7),
        b"\x00\xff", "x" * 3_000_000,
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_a_value_comes_back_as_it_was(either: MakeApp, value: Any, serializer: str):
    app = either(result_serializer=serializer, accept_content=[serializer])
    result = new(app)
    app.backend.mark_as_done(result.id, value)
    assert result.get(timeout=5) == value
    assert result.state == "SUCCESS"
    assert result.successful()


def test_nan_and_infinity_come_back(either: MakeApp):
    app = either()
    result = new(app)
    app.backend.mark_as_done(result.id, [float("nan"), float("inf")])
    nan, infinity = result.get(timeout=5)
    assert math.isnan(nan)
    assert infinity == float("inf")


def test_an_async_result_as_a_value_becomes_a_tuple(either: MakeApp):
    app = either()
    result, child = new(app), new(app)
    app.backend.mark_as_done(result.id, child)
    assert result.get(timeout=5) == [[child.id, None], None]


def test_a_finished_result_says_when_it_was_done(either: MakeApp):
    app = either()
    result = new(app)
    before = datetime.now(timezone.utc) - timedelta(seconds=2)
    app.backend.store_result(result.id, {"done": 1}, "PROGRESS")
    assert result.date_done is None
    app.backend.mark_as_done(result.id, 1)
    done = app.AsyncResult(result.id).date_done
    assert done.utcoffset() == timedelta(0)
    assert before < done < datetime.now(timezone.utc) + timedelta(seconds=2)


@pytest.mark.parametrize("state", ["PROGRESS", "STARTED", "my own state", "RECEIVED"])
def test_a_state_of_ones_own_is_visible_with_its_data(either: MakeApp, state: str):
    app = either()
    result = new(app)
    app.backend.store_result(result.id, {"done": 1}, state)
    assert (result.state, result.info) == (state, {"done": 1})
    assert not result.ready()
    app.backend.store_result(result.id, {"done": 2}, state)
    assert result.info == {"done": 2}
    app.backend.store_result(result.id, None, state)
    assert result.info is None


def test_what_is_written_after_success_is_ignored(either: MakeApp):
    app = either()
    result = new(app)
    app.backend.mark_as_done(result.id, 1)
    app.backend.mark_as_failure(result.id, KeyError("late"))
    app.backend.store_result(result.id, {}, "PROGRESS")
    app.backend.mark_as_done(result.id, 2)
    assert (result.state, result.result) == ("SUCCESS", 1)


def test_a_revoked_task_says_why(either: MakeApp):
    app = either()
    result = new(app)
    app.backend.mark_as_revoked(result.id, "not needed")
    assert result.state == "REVOKED"
    with pytest.raises(TaskRevokedError, match="not needed"):
        result.get(timeout=5)


def test_whether_a_result_exists_is_known(either: MakeApp):
    app = either()
    result = new(app)
    if not hasattr(result, "exists"):
        pytest.skip("new in Celery 5.7")
    assert not result.exists()
    app.backend.store_result(result.id, None, "SENT")
    assert result.exists()
    app.backend.mark_as_done(result.id, None)
    assert result.exists()
    result.forget()
    assert not app.AsyncResult(result.id).exists()


def test_group_and_parent_are_part_of_what_is_stored(either: MakeApp):
    app = either()
    result = new(app)
    app.backend.mark_as_done(result.id, 1, request(id=result.id, group="g", parent_id="p"))
    meta = app.backend.get_task_meta(result.id)
    assert (meta["group_id"], meta["parent_id"]) == ("g", "p")


def test_children_come_back_as_results(either: MakeApp):
    app = either()
    result, child = new(app), new(app)
    parent = request(id=result.id)
    parent.children.append(child)
    app.backend.mark_as_done(result.id, 1, parent)
    app.backend.mark_as_done(child.id, 2)
    assert result.children == [child]
    assert [value for _, value in result.collect(timeout=5)] == [1, 2]


def test_a_success_is_remembered_where_a_cache_is_configured(
    make_app: MakeApp, connection: Connection
):
    app = make_app(result_cache_max=10)
    result = new(app)
    app.backend.mark_as_done(result.id, 1)
    assert app.AsyncResult(result.id).state == "SUCCESS"
    connection.execute("DELETE FROM pgjobs.jobs")
    assert app.AsyncResult(result.id).state == "SUCCESS"
    app.backend.reload_task_result(result.id)
    assert app.AsyncResult(result.id).state == "PENDING"


def test_a_finished_result_can_be_forgotten(either: MakeApp):
    app = either()
    result = new(app)
    app.backend.mark_as_done(result.id, 1)
    assert result.get(timeout=5) == 1
    result.forget()
    assert result.state == "PENDING"
    result.forget()


# Jobs: results that stand on a claim


def test_a_waiting_job_is_pending_and_survives_being_forgotten(app: Celery, connection: Connection):
    result = app.send_task("work")
    assert result.state == "PENDING"
    app.backend.store_result(result.id, None, "SENT")
    assert result.state == "SENT"
    result.forget()
    assert result.state == "PENDING"
    assert row(connection, result.id)["state"] == "available"
    assert hold(app).id == result.id


def test_a_state_stored_before_the_task_is_published_does_not_swallow_it(
    app: Celery, connection: Connection
):
    """Publishers note that a task is on its way, to tell unknown ids from waiting ones."""
    app.backend.store_result("mine", {"by": "me"}, "SENT")
    app.send_task("work", task_id="mine")
    assert row(connection, "mine")["state"] == "available"
    assert app.AsyncResult("mine").state == "SENT"
    held = hold(app)
    assert held.id == "mine"
    app.backend.mark_as_done("mine", 1, held)
    assert (row(connection, "mine")["attempt"], app.AsyncResult("mine").get()) == (1, 1)


def test_what_a_running_job_reports_is_visible_at_once(app: Celery, connection: Connection):
    result = app.send_task("work")
    held = hold(app)
    assert result.state == "PENDING"
    app.backend.store_result(result.id, {"pid": 1}, states.STARTED, request=held)
    assert (result.state, result.info) == ("STARTED", {"pid": 1})
    app.backend.store_result(result.id, {"done": 1}, "PROGRESS", request=held)
    assert (result.state, result.info) == ("PROGRESS", {"done": 1})
    assert row(connection, result.id)["state"] == "executing"
    app.backend.mark_as_failure(result.id, KeyError("no"), request=held)
    assert result.state == "FAILURE"
    assert row(connection, result.id)["reported_state"] is None


def test_a_task_may_report_for_another(app: Celery):
    """A child tells how far its parent's work has come."""
    parent = app.send_task("work")
    held_parent = hold(app)
    app.send_task("work")
    held = hold(app)
    app.backend.store_result(parent.id, {"done": 1}, "PROGRESS", request=held)
    assert (parent.state, parent.info) == ("PROGRESS", {"done": 1})
    app.backend.mark_as_done(parent.id, 5, request=held_parent)
    assert parent.get(timeout=5) == 5


def test_a_retry_is_visible_with_its_exception(app: Celery, connection: Connection):
    result = app.send_task("again")
    execute(app, hold(app))
    assert result.state == "RETRY"
    assert isinstance(result.result, KeyError)
    assert result.result.args == ("later",)
    assert "again" in result.traceback
    assert not result.ready()
    stored = row(connection, result.id)
    assert stored["state"] == "retryable"
    assert [(e["attempt"], e["type"]) for e in stored["errors"]] == [(1, "KeyError")]


def test_each_retry_of_a_task_of_another_broker_is_kept(app: Celery, connection: Connection):
    task_id = str(uuid4())
    for attempt in range(3):
        request = Context(id=task_id, task="work", retries=attempt, delivery_info={})
        app.backend.store_result(task_id, None, "STARTED", request=request)
        app.backend.mark_as_retry(task_id, ValueError(f"no {attempt}"), request=request)
        assert app.AsyncResult(task_id).state == "RETRY"
    (row,) = connection.execute("SELECT state, attempt, errors FROM pgjobs.jobs").fetchall()
    assert (row["state"], row["attempt"]) == ("executing", 3)
    assert [error["attempt"] for error in row["errors"]] == [1, 2, 3]


def test_a_failure_that_the_task_states_itself_stands(app: Celery, connection: Connection):
    result = app.send_task("state_failure")
    failed, _, _ = execute(app, hold(app))
    assert failed
    with pytest.raises(ValueError, match="bad row"):
        result.get(timeout=5)
    assert row(connection, result.id)["errors"][0]["message"] == "bad row"


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED", "RETRY", "PROGRESS"])
@pytest.mark.parametrize(
    "loss",
    ["claimed_by = gen_random_uuid()", "attempt = 0, claimed_by = NULL, state = 'available'"],
    ids=["taken", "put back"],
)
def test_what_a_lost_claim_leaves_is_not_written_and_the_log_says_so(
    app: Celery, connection: Connection, caplog: pytest.LogCaptureFixture, state: str, loss: str
):
    result = app.send_task("work")
    held = hold(app)
    connection.execute(f"UPDATE pgjobs.jobs SET {loss}")
    before = row(connection, result.id)
    value = KeyError("no") if state in states.EXCEPTION_STATES else 1
    with caplog.at_level(logging.WARNING):
        app.backend.store_result(result.id, value, state, request=held)
    assert row(connection, result.id) == before
    assert result.id in caplog.text
    assert f"{state} was not written" in caplog.text


def test_a_job_that_somebody_finishes_by_hand_is_finished(app: Celery, connection: Connection):
    """``backend.store_result`` by an operator, as one does on Redis; the worker changes nothing."""
    waiting, running = app.send_task("work"), app.send_task("work", countdown=60)
    held = hold(app)
    for result in (waiting, running):
        app.backend.store_result(result.id, 7, "SUCCESS")
        assert result.get(timeout=5) == 7
    app.backend.mark_as_done(waiting.id, 8, request=held)
    assert app.AsyncResult(waiting.id).result == 7


# Extended


def test_extended_results_tell_what_was_called(either: MakeApp):
    app = either(result_extended=True)
    result = new(app)
    app.backend.mark_as_done(result.id, 1, request(id=result.id))
    assert (result.name, result.args, result.kwargs) == ("theirs", [1], {"a": 2})
    assert (result.queue, result.worker, result.retries) == ("mail", "w@elsewhere", 2)


def test_results_tell_nothing_of_the_call_without_that(either: MakeApp):
    app = either()
    result = new(app)
    app.backend.mark_as_done(result.id, 1, request(id=result.id))
    assert (result.name, result.args, result.kwargs) == (None, None, None)
    assert (result.queue, result.worker, result.retries) == (None, None, None)


@pytest.mark.parametrize(
    "options", [{}, {"serializer": "pickle"}, {"compression": "gzip"}], ids=str
)
def test_a_job_tells_what_was_called_out_of_its_message(make_app: MakeApp, options: dict[str, Any]):
    app = make_app(result_extended=True, accept_content=["json", "pickle"])
    result = app.send_task("work", (1, "ü\0"), {"a": {"b": 2}}, **options)
    assert (result.state, result.name, list(result.args)) == ("PENDING", "work", [1, "ü\0"])
    app.backend.mark_as_done(result.id, 1, hold(app))
    assert (result.name, list(result.args), result.kwargs) == ("work", [1, "ü\0"], {"a": {"b": 2}})
    assert (result.queue, result.worker, result.retries) == ("celery", "holder@test", 0)


def test_arguments_that_may_not_be_read_are_left_out(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
):
    app = make_app(result_extended=True, accept_content=["json", "pickle"])
    result = app.send_task("work", (1,), serializer="pickle")
    app.backend.mark_as_done(result.id, 1, hold(app))
    reader = make_app(result_extended=True, accept_content=["json"])
    seen = reader.AsyncResult(result.id)
    assert (seen.get(timeout=5), seen.name, seen.args) == (1, "work", None)
    assert "cannot be read back" in caplog.text


def test_stamps_are_part_of_extended_results(make_app: MakeApp):
    app = make_app(result_extended=True)
    result = app.send_task("work", headers={"stamped_headers": ["who"], "stamps": {"who": ["me"]}})
    app.backend.mark_as_done(result.id, 1, hold(app))
    meta = app.backend.get_task_meta(result.id)
    assert (meta["stamped_headers"], meta["who"]) == (["who"], ["me"])

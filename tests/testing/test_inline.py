"""Mode inline: what is published runs there, as by a worker with nothing else to do."""

from __future__ import annotations

from typing import Any

import pytest
from amqp.exceptions import RecoverableConnectionError
from celery import Celery, chain, chord, current_app, group, signals
from celery.exceptions import ChordError
from kombu.exceptions import ContentDisallowed

from pgjobs_celery import PgTask, Snooze, bulk
from pgjobs_celery.errors import NeverEnds
from pgjobs_celery.testing import all_enqueued, assert_enqueued, testing


@pytest.fixture
def total(app: Celery) -> Any:
    """The sum of a list."""

    @app.task(name="proj.total", shared=False)
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    return total


def test_chains_groups_and_chords_go_on(app: Celery, add: Any, total: Any):
    with testing(app, "inline"):
        assert chain(add.s(1), add.s(2), add.s(3)).delay().get() == 8
        assert group(add.s(n) for n in range(3)).delay().get() == [2, 3, 4]
        assert chord([add.s(n) for n in range(3)])(total.s()).get() == 9
        assert chain(group(add.s(1), add.s(2)), total.s(), add.s(1)).delay().get() == 8


def test_a_chain_may_be_of_any_length(app: Celery, add: Any):
    with testing(app, "inline"):
        assert chain(add.s(0, 1), *[add.s(1)] * 500).delay().get() == 501


def test_links_and_error_links_are_run(app: Celery, add: Any):
    called = []

    @app.task(name="proj.note", shared=False)
    def note(what: Any) -> None:
        called.append(what)

    with testing(app, "inline"):
        add.apply_async((1,), link=note.s())
        add.apply_async(("a",), link_error=note.si("failed"))
    assert called == [3, "failed"]


def test_the_request_is_a_workers(app: Celery):
    seen: dict[str, Any] = {}

    @app.task(bind=True, name="proj.look", shared=False)
    def look(self: Any, items: Any) -> None:
        request = self.request
        seen.update(
            id=request.id,
            eager=request.is_eager,
            direct=request.called_directly,
            queue=request.delivery_info["routing_key"],
            headers=request.headers.get("tenant"),
            items=items,
            app=current_app.main,
        )

    with testing(app, "inline"):
        result = look.apply_async(((1, 2),), queue="q", headers={"tenant": 7})
    assert seen == {
        "id": result.id,
        "eager": False,
        "direct": False,
        "queue": "q",
        "headers": 7,
        "items": [1, 2],
        "app": "proj",
    }


def test_the_signals_of_a_run_are_sent(app: Celery, add: Any):
    sent = []

    def note(signal: Any = None, **_: Any) -> None:
        sent.append(signal.name)

    names = ("task_prerun", "task_success", "task_failure", "task_postrun")
    for name in names:
        getattr(signals, name).connect(note)
    try:
        with testing(app, "inline"):
            add.delay(1)
            add.delay("a")
    finally:
        for name in names:
            getattr(signals, name).disconnect(note)
    ended = [name.removeprefix("task_") for name in sent]
    assert ended == ["prerun", "success", "postrun", "prerun", "failure", "postrun"]


def test_an_exception_is_in_the_result_as_from_a_worker(app: Celery, add: Any):
    with testing(app, "inline"):
        result = add.delay("a")
        assert result.state == "FAILURE"
        with pytest.raises(TypeError):
            result.get()


def test_an_exception_is_raised_where_it_is_to_be_propagated(app: Celery, add: Any):
    with testing(app, "inline", propagate=True), pytest.raises(TypeError):
        add.delay("a")


def test_a_tasks_connection_error_is_not_taken_for_the_brokers(make_app: Any):
    app = make_app()
    app.conf.task_publish_retry = True
    ran = []

    @app.task(name="proj.lost", shared=False)
    def lost() -> None:
        ran.append(1)
        raise RecoverableConnectionError("lost")

    with testing(app, "inline", propagate=True), pytest.raises(RecoverableConnectionError):
        lost.delay()
    assert ran == [1]


def test_what_bulk_collects_runs_at_its_end(app: Celery, add: Any):
    with testing(app, "inline"):
        with bulk():
            result = add.delay(1)
            assert result.state == "PENDING"
        assert result.get() == 3


def test_a_task_of_a_chord_that_fails_fails_its_body(app: Celery, add: Any, total: Any):
    with testing(app, "inline"):
        result = chord([add.s(1), add.s("a")])(total.s())
        assert isinstance(result.result, ChordError)


def test_retries_run_until_they_end(app: Celery):
    @app.task(bind=True, max_retries=3, name="proj.plain", shared=False)
    def plain(self: Any, good: int) -> int:
        if self.request.retries < good:
            raise self.retry(exc=ValueError(self.request.retries), countdown=3600)
        return int(self.request.retries)

    @app.task(base=PgTask, bind=True, max_attempts=3, name="proj.ours", shared=False)
    def ours(self: Any, good: int) -> int:
        if self.request.attempt < good:
            raise ValueError(self.request.attempt)
        return int(self.request.attempt)

    with testing(app, "inline"):
        assert plain.delay(2).get() == 2
        assert ours.delay(3).get() == 3
        assert repr(plain.delay(9).result) == "ValueError(3)"
        assert repr(ours.delay(9).result) == "ValueError(3)"
        # A job is one, however often it runs.
        assert_enqueued(ours, count=2)


def test_one_that_retries_for_ever_is_stopped(app: Celery):
    @app.task(base=PgTask, name="proj.later", shared=False)
    def later() -> None:
        raise Snooze(1)

    with testing(app, "inline"), pytest.raises(NeverEnds, match="has run 100 times"):
        later.delay()


def test_what_a_task_publishes_runs_when_it_has_ended(app: Celery):
    order = []

    @app.task(name="proj.child", shared=False)
    def child(name: str) -> None:
        order.append(name)

    @app.task(name="proj.parent", shared=False)
    def parent() -> None:
        child.delay("child")
        order.append("parent")

    with testing(app, "inline"):
        parent.delay()
        assert order == ["parent", "child"]
        [job] = all_enqueued(child)
        assert job.parent_id == all_enqueued(parent)[0].task_id


def test_a_task_may_wait_for_another(app: Celery, add: Any):
    @app.task(name="proj.parent", shared=False)
    def parent() -> int:
        return int(add.delay(1).get(disable_sync_subtasks=False))

    with testing(app, "inline"):
        assert parent.delay().get() == 3


def test_a_task_may_replace_itself(app: Celery, add: Any):
    @app.task(bind=True, name="proj.self", shared=False)
    def itself(self: Any) -> Any:
        return self.replace(add.s(1) | add.s(1))

    with testing(app, "inline"):
        assert itself.delay().get() == 4


def test_an_overridden_call_sees_the_request(app: Celery):
    class Base(app.Task):  # type: ignore[name-defined,misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    @app.task(bind=True, base=Base, name="proj.called", shared=False)
    def called(self: Any) -> Any:
        return self.request.id

    with testing(app, "inline"):
        result = called.delay()
        assert result.get() == result.id


def test_a_task_of_another_program_is_only_recorded(app: Celery):
    with testing(app, "inline"):
        app.send_task("elsewhere.task", (1,))
        assert_enqueued("elsewhere.task", args=[1])


def test_what_workers_would_refuse_is_refused(app: Celery, add: Any):
    with testing(app, "inline"), pytest.raises(ContentDisallowed):
        add.apply_async((1,), serializer="pickle")


def test_what_has_expired_does_not_run(app: Celery, add: Any):
    with testing(app, "inline"):
        assert add.apply_async((1,), expires=-1).state == "REVOKED"

"""Groups and chords on real workers: the body comes once, with what the header came to."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import celery
import pytest
from celery import Celery, chain, chord, group
from celery.canvas import StampingVisitor
from celery.exceptions import ChordError
from celery.result import AsyncResult, GroupResult

from ..support.waiting import wait_for
from . import tasks
from .conftest import StartWorker, Worker
from .rows import Rows
from .tasks import add, identity, tsum


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share a worker, and so the database."""
    return module_url


@pytest.fixture(scope="module", autouse=True)
def running(module_worker: StartWorker) -> Worker:
    """One worker for all tests."""
    return module_worker(concurrency=2)


def get(result: AsyncResult, timeout: float = 10.0) -> Any:
    return result.get(timeout=timeout)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


# -- what the body gets --------------------------------------------------------------------------


def test_the_body_gets_the_results_in_the_order_of_the_header(app: Celery, rows: Rows):
    result = chord([add.s(number, 1) for number in range(20)])(identity.s())
    assert get(result) == list(range(1, 21))
    # It has a header task for its parent, as if that had published it, which it has.
    info = get(chord([add.s(1, 1), add.s(2, 2)])(tasks.request_info.si()))
    assert info["parent_id"] in {
        row["task_id"]
        for row in rows.select("SELECT task_id FROM pgjobs.jobs WHERE task = %s", add.name)
    }
    assert rows.select("SELECT * FROM pgjobs.jobs WHERE task = 'celery.chord_unlock'") == []


CANVASES = {
    "a group in the header": (
        lambda: chord([group(add.s(1, 1), add.s(2, 2)), add.s(3, 3)], identity.s()),
        [4, 2, 6],
    ),
    "a chain in the header": (
        lambda: chord([add.s(1, 1) | add.s(2), add.s(3, 3)], identity.s()),
        [4, 6],
    ),
    "a chain that ends in a group": (
        lambda: chord([chain(add.s(1, 1), group(add.s(2), add.s(3))), add.s(3, 3)], identity.s()),
        [[4, 5], 6],
    ),
    "a chord in the header": (
        lambda: chord([chord([add.s(1, 1), add.s(2, 2)], tsum.s()), add.s(1, 1)], identity.s()),
        [6, 2],
    ),
    "a chord in a chord in a chord": (
        lambda: chord([chord([chord([add.s(1, 1)], tsum.s())], tsum.s())], tsum.s()),
        2,
    ),
    "a chain for a body": (lambda: chord([add.s(1, 1), add.s(2, 2)], tsum.s() | add.s(4)), 10),
    "a chord for a body": (
        lambda: chord([add.s(1, 1), add.s(2, 2)], chord([tsum.s(), tsum.s()], tsum.s())),
        12,
    ),
    "a group and then a task": (lambda: group(add.s(1, 1), add.s(2, 2)) | tsum.s() | add.s(1), 7),
    "a task, a group, a task": (lambda: add.s(1, 1) | group(add.s(1), add.s(2)) | tsum.s(), 7),
    "two chords in a row": (
        lambda: group(add.s(1, 1), add.s(2, 2)) | tsum.s() | group(add.s(1), add.s(2)) | tsum.s(),
        15,
    ),
    "an empty header": (lambda: chord([], tsum.s()), 0),
    "one task": (lambda: chord([add.s(1, 1)], tsum.s()), 2),
    "tasks that ignore their results": (
        lambda: chord([add.s(1, 1), add.s(2, 2).set(ignore_result=True)], identity.s()),
        [2, 4],
    ),
    "a task that is ignored": (
        lambda: chord([add.s(1, 1), tasks.ignore.si()], identity.s()),
        [2, None],
    ),
    "tasks that retry": (lambda: chord([tasks.retry.s(2), add.s(1, 1)], identity.s()), [2, 2]),
    "a task that is replaced": (
        lambda: chord([tasks.replace.s(1, 2), add.s(1, 1)], identity.s()),
        [3, 2],
    ),
    "a task that is replaced by a group": (
        lambda: chord([tasks.replace_by_group.s(3), add.s(1, 1)], identity.s()),
        [[1, 2, 3], 2],
    ),
    "a task that adds another": (
        lambda: chord([tasks.extend.s(3, 4), add.s(1, 1)], identity.s()),
        [0, 7, 2],
    ),
    "a generator": (
        lambda: chord((add.s(number, 1) for number in range(5)), identity.s()),
        [1, 2, 3, 4, 5],
    ),
    "starmap": (
        lambda: chord([add.starmap([(1, 1), (2, 2)]), add.s(3, 3)], identity.s()),
        [[2, 4], 6],
    ),
}


@pytest.mark.parametrize("what", CANVASES)
def test_every_canvas_ends(app: Celery, what: str):
    make, expected = CANVASES[what]
    assert get(make().apply_async()) == expected


def test_a_body_that_is_a_group(app: Celery):
    result = chord([add.s(1, 1), add.s(2, 2)], group(tsum.s(), identity.s())).apply_async()
    assert result.get(timeout=10) == [6, [2, 4]]


def test_a_header_of_a_thousand_chains(app: Celery, rows: Rows):
    header = [add.s(number, 1) | add.s(1) for number in range(1000)]
    assert get(chord(header)(tsum.s()), 60) == sum(range(1000)) + 2000


def test_stamps_reach_the_body(app: Celery, rows: Rows):
    class Visitor(StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"tenant": "acme"}

    canvas = chord([add.s(1, 1), add.s(2, 2)], tasks.request_info.si())
    canvas.stamp(Visitor())
    result = canvas.apply_async()
    get(result)
    message = json.loads(rows.get(result.id)["message"])
    assert message["headers"]["stamps"] == {"tenant": "acme"}


def test_many_chords_at_once(app: Celery):
    results = [chord([add.s(n, 1), add.s(n, 2), add.s(n, 3)])(tsum.s()) for n in range(100)]
    assert [get(result, 30) for result in results] == [3 * n + 6 for n in range(100)]


# -- replaced ------------------------------------------------------------------------------------


def test_a_task_that_is_replaced_by_a_chain_has_no_result_before_its_end(
    app: Celery, rows: Rows, tmp_path: Path
):
    result = tasks.replace_by_chain.delay(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_for((tmp_path / "started").exists)
    row = wait_for(lambda: rows.get(result.id) if rows.get(result.id)["message"] is None else None)
    assert (row["state"], row["claimed_by"].int, row["finished_at"]) == ("executing", 0, None)
    assert not result.ready()
    (tmp_path / "release").touch()
    assert get(result) == 3
    assert rows.get(result.id)["task"] == add.name


@pytest.mark.parametrize("by", ["chain", "chord", "chord in a chain", "chord in a chord"])
@pytest.mark.parametrize("is_step", [False, True], ids=["alone", "step of a chain"])
def test_what_replaces_a_task_may_end_before_the_task_itself(
    app: Celery, rows: Rows, tmp_path: Path, by: str, is_step: bool
):
    task = tasks.replace_and_linger.si(str(tmp_path / "ran"), by)
    result = (task | identity.s() if is_step else task).delay()
    assert get(result) == by
    if not is_step:
        row = rows.wait(result.id)
        assert (row["state"], row["task"]) == ("completed", tasks.record.name)
        assert "pgjobs_succeeds" not in row["message"]


@pytest.mark.parametrize("by", ["task", "chain", "chord", "chord in a chain", "chord in a chord"])
@pytest.mark.parametrize("block", ["using", "bulk"])
def test_what_replaces_a_task_is_no_part_of_a_block_that_this_ends(
    app: Celery, tmp_path: Path, block: str, by: str
):
    path = tmp_path / "ran"
    assert get(tasks.replace_in_block.delay(str(path), by, block)) == by
    assert [json.loads(line)["value"] for line in lines(path)] == [by]


def test_a_task_that_was_added_to_a_chord_in_vain_is_not_waited_for(app: Celery):
    assert get(chord([tasks.extend_in_vain.s(3), add.s(1, 1)])(identity.s())) == [3, 2]


def test_a_task_that_is_replaced_by_what_fails_fails(app: Celery):
    result = tasks.replace_by_failure.delay()
    with pytest.raises(tasks.CustomError):
        get(result)


# -- failures ------------------------------------------------------------------------------------


def test_a_task_that_fails_fails_the_body_with_its_exception(app: Celery, rows: Rows):
    result = chord([add.s(1, 1), tasks.fail.s("no", 7)])(tsum.s())
    wait_for(result.ready)
    assert result.state == "FAILURE"
    body = result.result
    failed = next(
        r
        for r in rows.select("SELECT * FROM pgjobs.jobs WHERE group_id = %s", result.parent.id)
        if r["state"] == "discarded"
    )
    assert isinstance(body, ChordError)
    assert str(body) == f"Dependency {failed['task_id']} raised CustomError('no', 7)"
    # To who asks for the result the exception of the header's task comes first, as on Redis.
    with pytest.raises(tasks.CustomError):
        result.get(timeout=10)
    assert rows.get(result.id)["state"] == "discarded"


def test_all_that_comes_after_a_failure_fails(app: Celery, rows: Rows):
    canvas = chord([tasks.fail.si(), add.s(1, 1)], tsum.s() | add.s(1) | add.s(2))
    result = canvas.apply_async()
    wait_for(result.ready)
    assert result.state == "FAILURE"
    assert isinstance(result.result, ChordError)


def test_a_chain_that_fails_on_its_way_fails_the_chord(app: Celery):
    result = chord([tasks.fail.si() | add.si(1, 1), add.s(1, 1)])(tsum.s())
    wait_for(result.ready)
    assert isinstance(result.result, ChordError)


def test_a_nested_chord_that_fails_fails_the_outer_one(app: Celery):
    result = chord([chord([tasks.fail.si()], tsum.s()), add.s(1, 1)])(tsum.s())
    wait_for(result.ready)
    assert isinstance(result.result, ChordError)


@pytest.mark.parametrize("kind", ["new", "old"])
def test_errbacks_run_once(app: Celery, tmp_path: Path, kind: str):
    path = tmp_path / "errors"
    errback = (
        tasks.note_failure.s(str(path)) if kind == "new" else tasks.record.si(str(path), "failed")
    )
    body = tsum.s().on_error(errback)
    result = chord([tasks.fail.si(), tasks.fail.si(), add.s(1, 1)])(body)
    wait_for(lambda: result.ready() and lines(path))
    assert result.state == "FAILURE"
    time.sleep(0.5)
    assert len(lines(path)) == 1


def test_an_errback_that_celery_links_to_a_nested_chord_too_runs_once(app: Celery, tmp_path: Path):
    path = tmp_path / "errors"
    inner = chord([tasks.fail.si(), add.si(1, 1)], identity.si("body"))
    canvas = chord([add.si(1, 1), inner], identity.s())
    canvas.link_error(tasks.record.si(str(path), "failed"))
    result = canvas.delay()
    wait_for(lambda: result.ready() and lines(path))
    time.sleep(0.5)
    assert len(lines(path)) == 1


def test_a_body_that_cannot_be_published_fails(app: Celery):
    result = chord([add.s(1, 1)], tsum.s().set(serializer="no such serializer")).apply_async()
    wait_for(result.ready)
    assert isinstance(result.result, ChordError)
    assert "Callback error" in str(result.result)


def test_a_task_that_is_cancelled_while_it_waits_fails_the_chord(app: Celery, rows: Rows):
    from pgjobs_celery import jobs

    result = chord([add.s(1, 1), add.s(2, 2).set(countdown=600)])(tsum.s())
    waiting = wait_for(
        lambda: rows.select(
            "SELECT task_id FROM pgjobs.jobs WHERE state = 'scheduled' AND group_id = %s",
            result.parent.id,
        )
    )
    assert jobs(app).filter(id=waiting[0]["task_id"]).cancel(reason="not wanted")
    wait_for(result.ready, 30)
    assert isinstance(result.result, ChordError)
    assert "TaskRevokedError('not wanted')" in str(result.result)


def test_a_task_that_kills_its_process_fails_the_chord(app: Celery):
    result = chord([tasks.die.si(), add.s(1, 1)])(tsum.s())
    wait_for(result.ready, 30)
    assert isinstance(result.result, ChordError)
    assert "WorkerLostError" in str(result.result)


def test_a_rejected_task_fails_the_chord(app: Celery):
    result = chord([tasks.reject.si(), add.s(1, 1)])(tsum.s())
    wait_for(result.ready, 30)
    assert isinstance(result.result, ChordError)


# -- groups --------------------------------------------------------------------------------------


def test_a_group_is_saved_restored_and_deleted(app: Celery):
    result = group(add.s(1, 1), group(add.s(2, 2), add.s(3, 3)) | tsum.s()).apply_async()
    result.save()
    other = Celery(
        "other", broker=app.conf.broker_url, backend=app.conf.broker_url, set_as_current=False
    )
    restored = GroupResult.restore(result.id, app=other)
    assert restored == result
    assert restored.get(timeout=10) == [2, 10]
    restored.delete()
    assert GroupResult.restore(result.id, app=app) is None
    other.close()


def test_an_empty_group_is_saved(app: Celery):
    result = GroupResult("empty", [], app=app)
    result.save()
    assert GroupResult.restore("empty", app=app).results == []


def test_a_group_of_a_thousand(app: Celery):
    result = group(add.s(number, 1) for number in range(1000)).apply_async()
    assert result.get(timeout=60) == list(range(1, 1001))


@pytest.mark.skipif(
    celery.VERSION < (5, 7), reason="publishing it takes Celery minutes, with any broker"
)
def test_ten_groups_of_25_in_a_row(app: Celery):
    canvas = group(identity.si(1) for _ in range(25))
    for _ in range(9):
        canvas = canvas | tsum.s() | group(identity.s() for _ in range(25))
    assert canvas.apply_async().get(timeout=60) == [25**9] * 25

"""``self.transaction()`` in real workers: the task's rows, its outcome and what it publishes."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group

from ..conftest import Connection
from ..support.callers import KINDS
from ..support.ledgers import Ledger
from ..support.proxies import Proxy
from ..support.waiting import wait_for
from . import effects
from .conftest import StartWorker, Worker
from .rows import Rows

AIO = {"CELERY_CUSTOM_WORKER_POOL": "pgjobs_celery.worker.aio:TaskPool"}

#: What ends the first attempt in the block, and leaves the job to the second.
AGAIN = ("fail", "kill within", "snooze", "retry", "break", "undo", "commit", "nest", "encode",
         "replace", "lose")  # fmt: skip
#: What comes after the commit, and changes nothing.
AFTER = ("fail after", "snooze after", "retry after", "replace after", "twice", "another",
         "kill after", "leave after", "cancel after", "reject after")  # fmt: skip


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The tests share their workers, and so the database."""
    return module_url


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("said") / "signals"


@pytest.fixture(scope="module", autouse=True)
def running(module_worker: StartWorker, url: str, said: Path) -> dict[str, Worker]:
    """A worker of each kind, for a queue of its own."""
    options: dict[str, Any] = {
        "app": "tests.e2e.effects",
        "env": {"PGJOBS_TEST_SIGNALS": str(said)},
    }
    return {
        "prefork": module_worker(queues=["prefork", "celery"], **options),
        "threads": module_worker(pool="threads", queues=["threads"], **options),
        "aio": module_worker(
            pool="custom", queues=["aio"], **{**options, "env": {**options["env"], **AIO}}
        ),
    }


def signals_of(said: Path, task_id: str) -> list[list[Any]]:
    lines = [json.loads(line) for line in said.read_text().splitlines()]
    return [[name, state] for name, each, state, _ in lines if each == task_id]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queue", ["prefork", "aio"])
def test_rows_outcome_and_follower_come_together_over_every_connection(
    kind: str, queue: str, effects_app: Any, rows: Rows, ledger: Ledger
):
    result = effects.book_anyhow.apply_async((kind,), {"fails": True}, queue=queue)
    row = rows.wait(result.id)
    assert (row["state"], row["attempt"]) == ("completed", 2), row["errors"]
    assert result.get(timeout=10) == kind
    assert ledger.notes(result.id) == [(2, kind)]
    assert ledger.followers(result.id) == 1


@pytest.mark.parametrize("queue", ["prefork", "threads"])
@pytest.mark.parametrize("how", AGAIN)
def test_an_attempt_that_fails_in_the_block_leaves_nothing(
    how: str, queue: str, effects_app: Any, rows: Rows, ledger: Ledger
):
    if how == "kill within" and queue == "threads":
        pytest.skip("kills the worker")
    result = effects.book.apply_async((how,), queue=queue)
    row = rows.wait(result.id)
    assert row["state"] == "completed", row["errors"]
    attempt = 1 if how == "snooze" else 2
    assert ledger.notes(result.id) in ([(attempt, how)], [(row["attempt"], how)])
    assert ledger.followers(result.id) == 1
    assert result.get(timeout=10) == {"how": how}


@pytest.mark.parametrize(
    ("how", "state"), [("cancel", "cancelled"), ("discard", "discarded"), ("reject", "discarded")]
)
def test_an_end_in_the_block_leaves_nothing(
    how: str, state: str, effects_app: Any, rows: Rows, ledger: Ledger
):
    result = effects.book.apply_async((how,), queue="prefork")
    assert rows.wait(result.id)["state"] == state
    assert (ledger.notes(result.id), ledger.followers(result.id)) == ([], 0)


@pytest.mark.parametrize("queue", ["prefork", "threads"])
@pytest.mark.parametrize("how", AFTER)
def test_nothing_after_the_commit_changes_the_outcome(
    how: str, queue: str, effects_app: Any, rows: Rows, ledger: Ledger, running: dict[str, Worker]
):
    if how == "kill after" and queue == "threads":
        pytest.skip("kills the worker")
    link = effects.follow.s().set(task_id=f"link-{how}-{queue}".replace(" ", "-"))
    result = effects.book.apply_async((how,), queue=queue, link=link)
    row = rows.wait(result.id)
    assert (row["state"], row["attempt"]) == ("completed", 1)
    assert result.get(timeout=10) == {"how": how}
    # The worker has heard of its end by the time that it ends another.
    rows.wait(effects.follow.apply_async(queue=queue).id)
    row = rows.get(result.id)
    assert (row["state"], row["attempt"], row["errors"]) == ("completed", 1, [])
    assert ledger.notes(result.id) == [(1, how)]
    assert ledger.followers(result.id) == 2
    assert rows.wait(link.options["task_id"])["state"] == "completed"


def test_signals_are_those_of_a_success(effects_app: Any, rows: Rows, said: Path):
    result = effects.book.apply_async(("",), queue="prefork")
    rows.wait(result.id)
    wait_for(lambda: len(signals_of(said, result.id)) == 2)
    assert signals_of(said, result.id) == [["task_success", None], ["task_postrun", "SUCCESS"]]


def test_a_run_whose_claim_was_lost_ends_without_a_failure(
    effects_app: Any, rows: Rows, said: Path
):
    result = effects.book.apply_async(("lose",), queue="prefork")
    rows.wait(result.id)
    wait_for(lambda: len(signals_of(said, result.id)) == 3)
    assert [state for name, state in signals_of(said, result.id) if name == "task_postrun"] == [
        "IGNORED", "SUCCESS",
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["", "kill after", "fail after", "leave after"])
def test_an_ignored_result_stays_ignored(
    how: str, effects_app: Any, rows: Rows, ledger: Ledger, running: dict[str, Worker]
):
    before = running["prefork"].log.count("is not ours any more")
    result = effects.ignored.apply_async((how,), queue="prefork")
    row = rows.wait(result.id)
    rows.wait(effects.follow.apply_async(queue="prefork").id)
    row = rows.get(result.id)
    assert (row["state"], row["result"], row["result_type"]) == ("completed", None, None)
    assert ledger.notes(result.id) == [(1, how)]
    assert running["prefork"].log.count("is not ours any more") == before


def test_it_is_refused_before_the_body(effects_app: Any, rows: Rows):
    row = rows.wait(effects.early.apply_async(queue="prefork").id)
    assert row["state"] == "discarded"
    assert "belongs into the body" in row["errors"][0]["message"]


@pytest.mark.parametrize("queue", ["prefork", "aio"])
def test_a_soft_time_limit_in_the_block_rolls_back(
    queue: str, effects_app: Any, rows: Rows, ledger: Ledger
):
    if queue == "aio":
        pytest.skip("its tasks that block have no limits")
    result = effects.limited.apply_async(queue=queue)
    assert rows.wait(result.id)["state"] == "completed"
    assert ledger.notes(result.id) == [(2, "limited")]


def test_a_hard_time_limit_after_the_commit_changes_nothing(
    effects_app: Any, rows: Rows, ledger: Ledger, running: dict[str, Worker]
):
    result = effects.overtime.apply_async(queue="prefork")
    rows.wait(result.id)
    wait_for(lambda: "SIGKILL" in running["prefork"].log.partition(result.id)[2])
    rows.wait(effects.follow.apply_async(queue="prefork").id)
    row = rows.get(result.id)
    assert (row["state"], row["errors"]) == ("completed", [])
    assert result.get(timeout=10) == "in time"


@pytest.mark.parametrize("queue", ["prefork", "aio"])
def test_a_job_that_is_terminated_in_the_block_leaves_nothing(
    queue: str, effects_app: Any, rows: Rows, ledger: Ledger, tmp_path: Path
):
    started = tmp_path / "started"
    result = effects.book_slowly.apply_async((str(started),), queue=queue)
    wait_for(started.exists)
    assert result.revoke(terminate=True)
    assert rows.wait(result.id)["state"] == "cancelled"
    assert ledger.notes(result.id) == []


# Successors


def canvas(task: Any, queue: str) -> Any:
    """Everything that Celery publishes when a task has ended."""
    follow = effects.follow.s()
    step = task.s(5).set(queue=queue, priority=3)
    step.link(follow.clone().set(task_id=f"{task.name}-{queue}-link1"))
    step.link(follow.clone().set(task_id=f"{task.name}-{queue}-link2", queue="celery"))
    step.link(
        group(
            follow.clone().set(task_id=f"{task.name}-{queue}-group1"),
            follow.clone().set(task_id=f"{task.name}-{queue}-group2"),
        )
    )
    return chain(
        step,
        follow.clone().set(task_id=f"{task.name}-{queue}-step1"),
        follow.clone().set(task_id=f"{task.name}-{queue}-step2"),
    )


def without_ids(text: str) -> str:
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "an id", text)


def shape(row: dict[str, Any], task: str) -> dict[str, Any]:
    """A row, but for what differs with each job."""
    message = json.loads(row["message"])
    return {
        "id": row["task_id"].replace(task, ""),
        "columns": [row[name] for name in ("task", "queue", "priority", "state")],
        "body": without_ids(row["body"].decode().replace(task, "")),
        "has": [bool(row[name]) for name in ("root_id", "parent_id", "group_id")],
        "headers": sorted(message.get("headers") or ()),
    }


@pytest.mark.parametrize("queue", ["prefork", "threads", "aio"])
def test_successors_are_those_that_celery_publishes(
    queue: str, effects_app: Any, rows: Rows, connection: Connection
):
    """Fails when Celery's tracer publishes them in another way than tasks/successors.py does."""
    shapes = []
    for task in (effects.plain, effects.keep):
        result = canvas(task, queue).apply_async()
        assert result.get(timeout=30) == 5
        prefix = f"{task.name}-{queue}-"
        found = wait_for(
            lambda prefix=prefix: (
                len(
                    each := rows.select(
                        "SELECT * FROM pgjobs.jobs WHERE task_id LIKE %s"
                        " AND state = 'completed' ORDER BY task_id",
                        f"{prefix}%",
                    )
                )
                == 6
                and each
            )
        )
        first = result.parent.parent
        direct = [row for row in found if "step2" not in row["task_id"]]
        assert {row["parent_id"] for row in direct} == {first.id}
        assert {row["root_id"] for row in found} == {first.id}
        children = rows.get(first.id)["children"]
        assert children is not None
        shapes.append(([shape(row, task.name) for row in found], len(json.loads(children))))
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("ignore", [False, True])
def test_a_chord_counts_its_members_and_gets_their_values(
    ignore: bool, effects_app: Any, rows: Rows
):
    header = [effects.keep.s(n).set(queue="prefork", ignore_result=ignore) for n in range(5)]
    assert chord(header, effects.follow.s()).apply_async().get(timeout=30) == [0, 1, 2, 3, 4]


# A commit that is cut off

Cut = Callable[[Proxy], None]
CUTS: dict[str, tuple[Cut, int]] = {
    "before": (lambda proxy: proxy.cut_question("COMMIT"), 2),
    "before, and the server hears nothing": (
        lambda proxy: proxy.cut_question("COMMIT", keeps_server=True), 2,
    ),
    "after": (lambda proxy: proxy.cut_answer("COMMIT"), 1),
    "after the outcome was written": (lambda proxy: proxy.cut_answer("pg_current_xact_id"), 2),
    "before the outcome was written": (lambda proxy: proxy.cut_question("pg_current_xact_id"), 2),
}  # fmt: skip


@pytest.mark.parametrize("queue", ["prefork", "threads"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_commit_that_is_cut_off_is_resolved(
    cut: str, queue: str, url: str, effects_app: Any, rows: Rows, ledger: Ledger
):
    inflict, attempt = CUTS[cut]
    with Proxy(url) as proxy:
        inflict(proxy)
        result = effects.book.apply_async(("", proxy.url), queue=queue)
        row = rows.wait(result.id)
        wait_for(lambda: proxy.cuts == 1)  # the row may be there before
    assert (row["state"], row["attempt"]) == ("completed", attempt), row["errors"]
    assert ledger.notes(result.id) == [(attempt, "")]
    assert ledger.followers(result.id) == 1
    assert result.get(timeout=10) == {"how": ""}


@pytest.mark.parametrize("cut", ["before", "after", "before, and the server hears nothing"])
@pytest.mark.parametrize("queue", ["prefork", "aio"])
@pytest.mark.parametrize(
    "kind",
    ["psycopg-async", "sqlalchemy-psycopg2-session", "sqlalchemy-async-asyncpg-session"],
)
def test_so_it_is_over_other_connections(
    kind: str, queue: str, cut: str, url: str, effects_app: Any, rows: Rows, ledger: Ledger
):
    inflict, attempt = CUTS[cut]
    with Proxy(url) as proxy:
        inflict(proxy)
        result = effects.book_anyhow.apply_async((kind, proxy.url), queue=queue)
        row = rows.wait(result.id)
        wait_for(lambda: proxy.cuts == 1)  # the row may be there before
    assert (row["state"], row["attempt"]) == ("completed", attempt), row["errors"]
    assert ledger.notes(result.id) == [(attempt, kind)]
    assert ledger.followers(result.id) == 1


def test_a_worker_that_is_killed_after_the_commit_has_completed_the_job(
    module_worker: StartWorker, effects_app: Any, rows: Rows, ledger: Ledger, url: str
):
    worker = module_worker(
        app="tests.e2e.effects", pool="solo", queues=["alone"], conf={"pgjobs_lease": 3.0}
    )
    result = effects.book.apply_async(("kill after",), queue="alone")
    row = rows.wait(result.id)
    worker.process.wait(30)
    # Its node is buried, and the job is not rescued.
    wait_for(lambda: worker.name not in rows.nodes().values(), 60)
    row = rows.get(result.id)
    assert (row["state"], row["attempt"], row["errors"]) == ("completed", 1, [])
    assert ledger.notes(result.id) == [(1, "kill after")]
    assert worker.process.returncode == -signal.SIGKILL


def test_a_cold_shutdown_after_the_commit_does_not_put_the_job_back(
    module_worker: StartWorker, effects_app: Any, rows: Rows, ledger: Ledger
):
    worker = module_worker(app="tests.e2e.effects", queues=["cold"])
    result = effects.book.apply_async(("linger",), queue="cold")
    rows.wait(result.id)
    worker.send(signal.SIGQUIT)
    worker.process.wait(60)
    row = rows.get(result.id)
    assert (row["state"], row["attempt"], row["errors"]) == ("completed", 1, [])
    assert ledger.notes(result.id) == [(1, "linger")]

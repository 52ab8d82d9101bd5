"""``audit(app)``: each action is recorded once, under the right name, with what it does."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import psycopg
import pytest
from celery import Celery

from pgjobs_celery import acting_as, audit, flows, jobs, queues, schedules, signal, using
from pgjobs_celery.beat.by_hand import publish_by_hand
from pgjobs_celery.control import remote
from pgjobs_celery.control.audit import ACTIONS
from pgjobs_celery.control.operations import Operations
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows import filtered
from pgjobs_celery.db.rows.audit import NAMED, AuditEntry
from pgjobs_celery.errors import InvalidOption, PermissionMissing
from pgjobs_celery.job.rows import Bucket
from tests.support.rows import alive, put

from ..conftest import Connection


@pytest.fixture
def app(make_app: Callable[..., Celery], database: Database) -> Celery:
    app = make_app(pgjobs_actor="the app")
    app.task(report, name="report")
    return app


def report() -> None:
    """A task to be scheduled."""


def entries(app: Any) -> list[AuditEntry]:
    return audit(app).list(None)


def only(app: Any) -> AuditEntry:
    [entry] = entries(app)
    return entry


def delete_queue(app: Celery) -> None:
    with app.connection_for_write() as connection:
        connection.default_channel.queue_delete("celery")


Action = Callable[[Celery], object]

#: On the job "waits" in the queue celery: the words of the audit for each.
ON_JOBS: dict[str, tuple[Action, dict[str, Any]]] = {
    "cancel_jobs": (
        lambda app: jobs(app).filter(id="waits").cancel("a mistake", terminate=True, signal=9),
        {"reason": "a mistake", "signal": "SIGKILL"},
    ),
    "retry_jobs": (lambda app: jobs(app).filter(id="waits").retry(), {}),
    "delete_jobs": (lambda app: jobs(app).filter(id="waits").delete(), {}),
    "signal_job": (
        lambda app: signal(app, "waits", "approved", "a payload") and ["waits"],
        {"signal": "approved"},
    ),
    "reschedule_jobs": (
        lambda app: jobs(app).filter(id="waits").reschedule(countdown=0),
        {"countdown": 0.0},
    ),
    "prioritize_jobs": (
        lambda app: jobs(app).filter(id="waits").set_priority(7),
        {"priority": 7},
    ),
    "move_jobs": (lambda app: jobs(app).filter(id="waits").move("slow"), {"to": "slow"}),
}

#: On the queue celery with three jobs, and the number that is recorded.
ON_QUEUES: dict[str, tuple[Action, int, dict[str, Any]]] = {
    "pause_queue": (lambda app: queues(app).pause("celery"), 0, {}),
    "resume_queue": (lambda app: queues(app).resume("celery"), 0, {}),
    "limit_queue": (lambda app: queues(app).limit("celery", 5), 0, {"concurrency": 5}),
    "purge_queue": (lambda app: app.control.purge(), 3, {}),
    "delete_queue": (delete_queue, 3, {}),
}

#: On the rules of the queue celery, or of the task report.
ON_RULES: dict[str, tuple[Action, dict[str, Any]]] = {
    "share_queue": (
        lambda app: queues(app)["celery"].fair("kwargs.tenant", ageing=60),
        {"by": "kwargs.tenant", "ageing": 60.0},
    ),
    "weigh_key": (lambda app: queues(app)["celery"].weight("7", 3), {"key": "7", "weight": 3.0}),
    "bound_queue": (
        lambda app: queues(app)["celery"].max_depth(5, on_full="wait", wait=2),
        {"max_depth": 5, "on_full": "wait", "wait": 2.0},
    ),
    "reset_queue": (lambda app: queues(app)["celery"].reset(), {}),
    "set_flow": (lambda app: flows(app).set("rate/task/report", "100/m"), {}),
    "reset_flow": (lambda app: flows(app).reset("rate/task/report"), {}),
    "pause_jobs": (lambda app: flows(app).pause(task="report"), {}),
    "resume_jobs": (lambda app: flows(app).resume(task="report"), {}),
}

#: On the entry "nightly".
ON_SCHEDULES: dict[str, tuple[Action, int]] = {
    "add_schedule": (lambda app: schedules(app).add("nightly", "report", 60), 0),
    "put_schedule": (lambda app: schedules(app).put("nightly", "report", 60), 0),
    "pause_schedule": (lambda app: schedules(app).pause("nightly"), 0),
    "resume_schedule": (lambda app: schedules(app).resume("nightly"), 0),
    "repair_schedule": (lambda app: schedules(app).repair("nightly"), 0),
    "run_schedule": (lambda app: schedules(app).run("nightly"), 1),
    "delete_schedule": (lambda app: schedules(app).delete("nightly"), 0),
}


#: On the worker "w@a", which does not live: it is written down before it is told.
ON_WORKERS: dict[str, tuple[Action, dict[str, Any]]] = {
    "shutdown_worker": (lambda app: remote.shut_down(app, "w@a"), {"worker": "w@a"}),
    "grow_pool": (lambda app: remote.resize_pool(app, "w@a", 2, 0.1), {"worker": "w@a", "n": 2}),
    "shrink_pool": (lambda app: remote.resize_pool(app, "w@a", -1, 0.1), {"worker": "w@a", "n": 1}),
}


#: On an action on many jobs.
ON_OPERATIONS: dict[str, Callable[[Operations, str], object]] = {
    "stop_operation": Operations.stop,
    "resume_operation": Operations.resume,
}


def prepare(app: Celery, action: str) -> None:
    """Do what the action needs before it; not recorded."""
    if action == "resume_queue":
        queues(app).pause("celery")
    if action == "reset_flow":
        flows(app).set("rate/task/report", "100/m")
    if action == "resume_jobs":
        flows(app).pause(task="report")
    if action.endswith("_schedule") and action != "add_schedule":
        schedules(app).put("nightly", "report", 3600)
    if action == "resume_schedule":
        schedules(app).pause("nightly")
    with psycopg.connect(audit(app)._rows._session.conninfo) as connection:
        connection.execute("DELETE FROM pgjobs.audit")


@pytest.mark.parametrize("action", ON_JOBS)
def test_an_action_on_a_job_is_recorded_once(app, database, action):
    put(database, "waits", "other", eta=60)
    act, details = ON_JOBS[action]
    assert act(app) == ["waits"]
    entry = only(app)
    assert (entry.action, entry.actor, entry.via) == (action, "the app", "program")
    assert (entry.jobs, entry.task_ids, entry.details) == (1, ["waits"], details)
    # Moved jobs are in their new queue already, and the filter named none.
    # And who sends a signal need not know the job.
    assert entry.queue == (None if action in ("move_jobs", "signal_job") else "celery")
    assert f"PID {os.getpid()}" in entry.client
    assert abs(datetime.now(timezone.utc) - entry.at) < timedelta(minutes=1)


@pytest.mark.parametrize("action", ON_QUEUES)
def test_an_action_on_a_queue_is_recorded_once(app, database, action):
    put(database, "a", "b", "c")
    prepare(app, action)
    act, count, details = ON_QUEUES[action]
    with acting_as("the app"):  # whose settings a channel does not know
        act(app)
    entry = only(app)
    assert (entry.action, entry.actor, entry.queue) == (action, "the app", "celery")
    assert (entry.jobs, entry.details) == (count, details)
    assert entry.via == ("control" if count else "program")
    act(app)  # changes nothing any more
    assert entries(app) == [entry]


@pytest.mark.parametrize("action", ON_RULES)
def test_a_change_of_a_rule_is_recorded_once(app, database, action):
    prepare(app, action)
    act, details = ON_RULES[action]
    act(app)
    entry = only(app)
    assert (entry.action, entry.actor, entry.jobs) == (action, "the app", 0)
    assert entry.details.items() >= details.items()


@pytest.mark.parametrize("action", ON_SCHEDULES)
def test_an_action_on_an_entry_is_recorded_once(app, action):
    prepare(app, action)
    act, count = ON_SCHEDULES[action]
    done = act(app)
    entry = only(app)
    assert (entry.action, entry.actor, entry.schedule) == (action, "the app", "nightly")
    assert (entry.app, entry.jobs) == ("tests", count)
    if action == "run_schedule":
        assert entry.task_ids == [done.id]


@pytest.mark.parametrize("action", ON_WORKERS)
def test_what_a_worker_was_told_is_recorded_once(app, database, action):
    database.nodes.beat_node(UUID(int=1), "w@a", [], 3600.0)
    act, details = ON_WORKERS[action]
    act(app)
    entry = only(app)
    assert (entry.action, entry.actor, entry.jobs) == (action, "the app", 0)
    assert entry.details == details


def test_a_job_that_is_published_by_hand_is_recorded_with_it_or_not_at_all(app, database):
    result = publish_by_hand(app, "report", options={"queue": "slow"})
    entry = only(app)
    assert (entry.action, entry.actor, entry.jobs) == ("publish_jobs", "the app", 1)
    assert (entry.task_ids, entry.details) == ([result.id], {"task": "report"})
    (job,) = jobs(app)
    assert (job.task_id, job.args, job.queue, job.meta) == (
        result.id, [], "slow", {"by_hand": True},
    )  # fmt: skip
    for args, options in (([7], {}), ([], {"tags": 7})):
        with pytest.raises(InvalidOption):
            publish_by_hand(app, "report", args, options=options)
    assert entries(app) == [entry]


@pytest.mark.parametrize("action", ON_OPERATIONS)
def test_a_word_to_an_operation_is_recorded_under_the_name_of_who_said_it(app, database, action):
    put(database, "waits")
    operations = Operations(database, app)
    with acting_as("who began"):
        id = operations.begin("cancel", "").id
    ON_OPERATIONS[action](operations, id)
    entry = only(app)
    assert (entry.action, entry.actor, entry.jobs) == (action, "the app", 0)
    assert entry.details == {"operation": id}
    operations.go_on(id)
    cancelled, told = entries(app)
    assert (told, cancelled.action) == (entry, "cancel_jobs")
    ON_OPERATIONS[action](operations, id)  # changes nothing any more
    assert entries(app) == [cancelled, told]


def test_every_action_is_tried_here():
    by_hand = {"publish_jobs", "drop_jobs"}  # the latter in tests/publishing/test_admission.py
    tried = {*ON_JOBS, *ON_QUEUES, *ON_RULES, *ON_SCHEDULES, *ON_WORKERS, *ON_OPERATIONS, *by_hand}
    assert tried == ACTIONS.keys()


def test_of_filters_by_values_the_keys_are_recorded(app, database):
    given = {"user": {"id": 7, "token": "s3cret"}}
    put(database, "waits", body=json.dumps([["s3cret"], given, {}]).encode(), meta='{"pin": 1234}')
    chosen = jobs(app).filter(args=["s3cret"], kwargs=given, meta={"pin": 1234}, queue="celery")
    assert chosen.cancel() == ["waits"]
    assert only(app).filters == (
        "args=[...], kwargs={'user': {'id': ..., 'token': ...}}, meta={'pin': ...}, queue='celery'"
    )


def test_what_changes_nothing_is_not_recorded(app, database):
    put(database, "waits")
    assert jobs(app).filter(id="unknown").cancel() == []
    assert jobs(app).filter(id="waits").move("celery") == []
    assert queues(app).resume("celery") is False
    queues(app).limit("celery", None)
    assert schedules(app).pause("unknown") is False
    assert app.control.purge() == 1  # this one does
    assert [entry.action for entry in entries(app)] == ["purge_queue"]


@pytest.mark.parametrize("command", ["revoke", "terminate"])
def test_a_revoke_is_recorded_with_the_name_of_its_sender(app, database, command):
    put(database, "waits", "other")
    with acting_as("alice"):
        getattr(app.control, command)(["waits", "never published"])
    entry = only(app)
    assert (entry.action, entry.actor, entry.via) == ("cancel_jobs", "alice", "control")
    assert entry.jobs == 2  # one of them will be cancelled when it is published
    assert entry.details["command"] == "revoke"
    assert ("signal" in entry.details) is (command == "terminate")
    assert audit(app).list(job="never published") == audit(app).list(job="waits") == [entry]


def test_a_result_that_is_revoked_is_recorded(app, database):
    put(database, "waits")
    app.AsyncResult("waits").revoke()
    assert only(app).task_ids == ["waits"]


def test_an_action_in_batches_is_one_entry_of_a_row_for_each(
    app, database, connection, monkeypatch
):
    monkeypatch.setattr(filtered, "BATCH", 120)
    ids = [f"job {number}" for number in range(300)]
    put(database, *ids)
    jobs(app).filter(queue="celery", state="available").cancel("all")
    entry = only(app)
    assert (entry.jobs, entry.queue, len(entry.task_ids)) == (300, "celery", NAMED)
    assert entry.filters == "queue='celery', state='available'"
    rows = connection.execute("SELECT jobs, batch FROM pgjobs.audit ORDER BY id").fetchall()
    assert [(row["jobs"], row["batch"]) for row in rows] == [(120, 0), (120, 1), (60, 2)]
    # One that no row names is found by the time at which it was cancelled.
    for id in ("job 0", "job 119", "job 299"):
        assert audit(app).list(job=id) == [entry]
    assert "by the app" in jobs(app).get("job 119").explain().text
    (found,) = connection.execute(
        "SELECT actions FROM pgjobs.job_details WHERE task_id = 'job 9'"
    ).fetchall()
    assert [each["actor"] for each in found["actions"]] == ["the app"]


def test_what_is_rolled_back_leaves_no_record(app, database, url):
    put(database, "waits")
    schedules(app).put("nightly", "report", 3600)
    before = entries(app)
    with psycopg.connect(parse_url(url)) as connection:
        with using(connection):
            assert jobs(app).filter(id="waits").cancel() == ["waits"]
            assert schedules(app).pause("nightly")
            assert len(entries(app)) == len(before) + 2  # seen inside
        assert entries(app) == before
        connection.rollback()
    assert entries(app) == before
    assert jobs(app).get("waits").state == "available"


def test_what_is_committed_is_recorded_with_it(app, database, url):
    put(database, "waits")
    with psycopg.connect(parse_url(url)) as connection:
        with using(connection):
            jobs(app).filter(id="waits").cancel()
        assert entries(app) == []
    assert only(app).jobs == 1


KILLED = """
import os, sys
from celery import Celery
from pgjobs_celery import jobs, queues
from pgjobs_celery.db.rows.audit import Action, Audit

def die(*args, **kwargs):
    os.kill(os.getpid(), 9)

app = Celery("killed", broker=sys.argv[1])
Audit.record_action = die
if sys.argv[2] == "cancel":
    jobs(app).filter(id="waits").cancel()
else:
    Action.values = die
    queues(app).pause("celery")
"""


@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_a_kill_between_the_change_and_its_record_leaves_neither(app, database, url, verb):
    put(database, "waits")
    killed = subprocess.run([sys.executable, "-c", KILLED, url, verb], check=False)
    assert killed.returncode == -9
    assert jobs(app).get("waits").state == "available"
    assert not queues(app).get("celery").is_paused
    assert entries(app) == []


def test_a_role_that_may_not_write_the_audit_changes_nothing(app, database, connection):
    put(database, "waits")
    jobs(app).count()  # has been looked at, as by a process that a GRANT was taken from
    connection.execute("CREATE ROLE pgjobs_unheard LOGIN")
    try:
        connection.execute("GRANT USAGE ON SCHEMA pgjobs TO pgjobs_unheard")
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA pgjobs TO pgjobs_unheard")
        connection.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA pgjobs TO pgjobs_unheard")
        theirs = Database(f"{database.conninfo} options='-c role=pgjobs_unheard'", database.options)
        selection = jobs(theirs).filter(id="waits")
        assert selection.count() == 1
        connection.execute("REVOKE INSERT ON pgjobs.audit FROM pgjobs_unheard")
        with pytest.raises(PermissionMissing, match="audit"):
            selection.cancel()
        theirs.close()
    finally:
        connection.execute("DROP OWNED BY pgjobs_unheard; DROP ROLE pgjobs_unheard")
    assert jobs(app).get("waits").state == "available"


# Names


def name_of(app: Celery) -> str:
    queues(app).pause("celery")
    queues(app).resume("celery")
    first, second = entries(app)[:2]
    assert first.actor == second.actor
    return first.actor


def test_the_innermost_name_counts(app):
    with acting_as("outer"):
        with acting_as("inner"):
            assert name_of(app) == "inner"
        assert name_of(app) == "outer"
    assert name_of(app) == "the app"


def test_a_function_names_the_actor_of_each_action(make_app):
    names = iter(["first", None])
    app = make_app(pgjobs_actor=lambda: next(names))
    queues(app).pause("celery")
    queues(app).resume("celery")
    assert [entry.actor for entry in entries(app)][1] == "first"
    assert "@" in entries(app)[0].actor  # the process, where the function knows none


def test_a_function_that_fails_stops_the_action(make_app):
    def fails() -> str:
        raise LookupError("no user")

    app = make_app(pgjobs_actor=fails)
    with pytest.raises(LookupError, match="no user"):
        queues(app).pause("celery")
    assert not queues(app).get("celery").is_paused


def test_without_any_name_it_is_the_user_of_the_system_and_the_program(make_app, monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    actor = name_of(make_app())
    user, _, rest = actor.partition("@")
    assert user
    assert rest.endswith(")")


def test_in_a_task_it_is_the_task(make_app, database):
    app = make_app()
    put(database, "waits")

    @app.task(name="tidy", shared=False)
    def tidy() -> None:
        jobs(app).filter(id="waits").cancel()

    tidy.apply(task_id="the tidy one")
    entry = only(app)
    assert entry.actor == "task tidy"
    assert "task the tidy one on" in entry.client


def test_asyncio_tasks_act_for_who_has_started_them(app):
    async def act() -> str:
        return await asyncio.create_task(inner())

    async def inner() -> str:
        return name_of(app)

    with acting_as("alice"):
        assert asyncio.run(act()) == "alice"


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", 7, None, "x" * 256])
def test_what_is_no_name_is_refused(app, make_app, name):
    with pytest.raises(InvalidOption, match=r"acting_as\(\) must"), acting_as(name):
        pass
    if name is not None and name != 7:
        with pytest.raises(InvalidOption, match="pgjobs_actor must"):
            queues(make_app(pgjobs_actor=name)).pause("celery")


EVIL = "O'Brien\"; DROP TABLE x;--\r\nroot\x1b]0;owned\x07\N{RIGHT-TO-LEFT OVERRIDE}nimda"


def test_a_name_may_hold_whatever_it_likes(app, database):
    put(database, "waits")
    with acting_as(EVIL):
        queues(app).pause(EVIL)
        jobs(app).filter(id="waits").cancel(EVIL)
    newest, first = entries(app)
    assert newest.actor == first.actor == first.queue == EVIL
    assert newest.details == {"reason": EVIL}
    assert audit(app).list(actor=EVIL, queue=EVIL) == [first]
    assert jobs(app).get("waits").explain().text.isprintable()


# Look


def test_actions_are_found_by_each_of_their_words(app, database):
    put(database, "a", "b")
    with acting_as("alice"):
        jobs(app).filter(id="a").cancel()
    with acting_as("bob"):
        queues(app).pause("slow")
    schedules(app).put("nightly", "report", 60)
    made, paused, cancelled = entries(app)
    log = audit(app)
    assert log.list(actor="alice") == log.list(job="a") == log.list(queue="celery") == [cancelled]
    assert log.list(action="pause_queue") == log.list(queue="slow") == [paused]
    assert log.list(schedule="nightly") == [made]
    assert log.list(job="b") == log.list(actor="nobody") == []
    assert log.list(1) == [made]
    assert log.list(since=3600) == log.list(since=paused.at - timedelta(hours=1)) == entries(app)
    assert log.list(since=paused.at) == [made, paused]
    assert log.list(before=paused) == [cancelled]
    assert [*log] == entries(app)


def test_what_cannot_be_asked_for_is_refused(app):
    with pytest.raises(InvalidOption, match="no action 'pause_queu'; did you mean 'pause_queue'"):
        audit(app).list(action="pause_queu")
    with pytest.raises(InvalidOption, match="limit must be a whole number"):
        audit(app).list(-1)
    with pytest.raises(InvalidOption, match="since must be"):
        audit(app).list(since="yesterday")


# Explain


def test_explain_names_who_has_paused_the_queue(app, database):
    put(database, "waits", "later", eta=None)
    put(database, "due", eta=3600)
    with acting_as("alice"):
        queues(app).pause("celery")
    with acting_as("bob"):
        queues(app).pause("celery")  # paused already
    found = jobs(app).get("waits").explain()
    assert found.kind == "queue_paused"
    assert " by alice: no worker begins" in found.text
    assert found.details["paused_by"] == "alice"
    assert " by alice, too." in jobs(app).get("due").explain().text


def test_explain_names_who_has_cancelled_a_job(app, database):
    put(database, "a", "b", "c")
    with acting_as("alice"):
        jobs(app).filter(id="a").cancel("a mistake")
        app.control.revoke("unpublished")
    with acting_as("bob"):
        app.control.purge()
    assert "cancelled by alice at" in jobs(app).get("a").explain().text
    assert "cancelled by bob at" in jobs(app).get("b").explain().text
    assert "revoked by alice at" in jobs(app).get("unpublished").explain().text
    assert jobs(app).get("c").explain().details["cancelled_by"] == "bob"


def test_explain_names_who_has_told_a_running_job_to_stop(app, database):
    put(database, "runs")
    alive(database, UUID(int=1))
    database.claims.claim_jobs(UUID(int=1), "node", [Bucket("celery")], 1)
    with acting_as("alice"):
        jobs(app).filter(id="runs").cancel("enough")
    found = jobs(app).get("runs").explain()
    assert found.kind == "running"
    assert "told to stop by alice (enough) at" in found.text


def test_explain_blames_nobody_for_what_happened_before_there_was_an_audit(
    app, database, connection
):
    put(database, "a", "b")
    jobs(app).filter(id="a").cancel()
    queues(app).pause("celery")
    connection.execute("DELETE FROM pgjobs.audit")
    assert " by " not in jobs(app).get("a").explain().text
    found = jobs(app).get("b").explain()
    assert "The audit does not tell who paused it." in found.text
    assert found.details["paused_by"] is None


def test_a_job_that_was_put_in_line_again_is_not_blamed_on_who_cancelled_it(app, database):
    put(database, "a")
    with acting_as("alice"):
        jobs(app).filter(id="a").cancel()
    jobs(app).filter(id="a").retry()
    assert "alice" not in jobs(app).get("a").explain().text
    actions = [(entry.actor, entry.action) for entry in audit(app).list(job="a")]
    assert actions == [("the app", "retry_jobs"), ("alice", "cancel_jobs")]


# How it is looked up


def test_what_is_old_is_pruned(app, database, connection: Connection):
    queues(app).pause("celery")
    queues(app).resume("celery")
    assert database.audit.prune_audit(3600, 10) == 0
    connection.execute("UPDATE pgjobs.audit SET at = now() - interval '2 hours' WHERE batch = 0")
    assert database.audit.prune_audit(3600, 1) == 1
    assert database.audit.prune_audit(3600, 10) == 1
    assert entries(app) == []

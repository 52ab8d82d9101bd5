"""``jobs(app).get(id).explain()`` of rows that were made as programs make them."""

from __future__ import annotations

import copy
import pickle
import re
import shlex
from collections.abc import Callable
from uuid import UUID

import psycopg
import pytest
from celery import Celery, chord
from psycopg.conninfo import make_conninfo

from pgjobs_celery import PgTask, Unique, jobs, using
from pgjobs_celery.cli.database import RIGHTS
from pgjobs_celery.cli.main import pgjobs
from pgjobs_celery.config import Options
from pgjobs_celery.control.explain import decide, explain
from pgjobs_celery.control.explanation import KINDS, Explanation
from pgjobs_celery.db.database import Database, OutOfTime
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows.explain import Lock
from pgjobs_celery.job.job import Job
from pgjobs_celery.job.outcome import (
    cancelled,
    completed,
    discarded,
    error_entry,
    replaced,
    retried,
)
from pgjobs_celery.job.rows import Bucket, Claim
from tests.support.rows import put

from ..conftest import Connection
from .test_explain import CASES

A, B = UUID(int=1), UUID(int=2)


def why(database: Database, task_id: str = "a") -> Explanation:
    found = explain(database, task_id)
    assert found is not None
    assert found.kind in KINDS
    assert found.text.isprintable()
    return found


def lives(database: Database, node: UUID = A, *names: str, lease: float = 3600.0) -> None:
    """A worker that consumes from these queues has just sent a heartbeat."""
    database.nodes.beat_node(node, f"w{node.int}@web", list(names or ("celery",)), lease)


def claim(database: Database, node: UUID = A, queue: str = "celery") -> Claim:
    ((claimed,), _) = database.claims.claim_jobs(node, f"w{node.int}@web", [Bucket(queue)], 1)
    return claimed


def older(connection: Connection, seconds: int = 60) -> None:
    """Every job was published so much earlier."""
    connection.execute(
        "UPDATE pgjobs.jobs SET inserted_at = inserted_at - %s * interval '1 second', "
        "scheduled_at = scheduled_at - %s * interval '1 second'",
        (seconds, seconds),
    )


def test_a_job_with_an_eta_is_not_due(database):
    put(database, "a", eta=200)
    found = why(database)
    assert found.kind == "not_due"
    assert found.text.startswith("It waits for its time: it is due at 2")
    assert "in 3 min 20 s" in found.text or "in 3 min 19 s" in found.text
    assert found.remedy == "celery -A proj pgjobs reschedule a --in 0"
    assert found.details["state"] == "scheduled"


def test_a_found_job_explains_itself(database):
    put(database, "a", eta=60)
    job = jobs(database).get("a")
    assert job.explain().kind == "not_due"
    for plain in (copy.copy(job), pickle.loads(pickle.dumps(job))):
        assert type(plain) is Job
        assert plain.task_id == "a"
    jobs(database).filter(id="a").delete()
    assert job.explain().kind == "no_row"
    assert explain(database, "a") is None
    assert explain(database, "a\0") is None


def test_a_job_that_failed_waits_for_its_retry(database):
    put(database, "a")
    lives(database)
    error = error_entry("KeyError", "'x'\x1b[31m", "Traceback", "builtins")
    database.claims.settle_jobs(A, [retried(claim(database), 60, error)])
    found = why(database)
    assert found.kind == "retry_waiting"
    assert found.text.startswith("Attempt 1 of 20 failed on w1@web (KeyError: 'x'\ufffd[31m); the")
    assert found.details["error"]["type"] == "KeyError"
    assert "traceback" not in found.details["error"]
    jobs(database).filter(id="a").reschedule(countdown=0)
    assert why(database).kind == "about_to_begin"


def test_a_due_job_that_nobody_stages_tells_of_maintenance(database, connection):
    put(database, "a", eta=60)
    connection.execute("UPDATE pgjobs.jobs SET due_at = now() - interval '5 seconds'")
    assert why(database).kind == "not_due"
    connection.execute("UPDATE pgjobs.jobs SET due_at = now() - interval '5 minutes'")
    lives(database)
    found = why(database)
    assert (found.kind, found.remedy) == ("no_maintenance", "celery -A proj pgjobs maintain")
    assert "1 worker of any queue is alive" in found.text
    assert found.details["live_nodes"] == 1
    database.claims.stage_jobs(10)
    assert why(database).kind == "idle_workers" or why(database).kind == "about_to_begin"


def test_a_session_that_has_locked_the_row_is_named(database, connection, monkeypatch):
    put(database, "a", "b")
    lives(database)
    with psycopg.connect(database.conninfo, application_name="pgAdmin\x07") as other:
        other.execute("SELECT FROM pgjobs.jobs WHERE task_id = 'a' FOR UPDATE")
        assert why(database).kind == "about_to_begin", "a claim is as short"
        monkeypatch.setattr("pgjobs_celery.control.explain.LOCK_SECONDS", 0.0)
        found = why(database)
        pid = other.info.backend_pid
        assert found.kind == "row_locked"
        assert f"A session (PID {pid}, application pgAdmin" in found.text
        assert "FOR UPDATE" in found.text
        assert found.details["session"]["pid"] == pid
        assert found.details["session"]["state"] == "idle in transaction"
        assert found.remedy == f'psql -c "SELECT pg_terminate_backend({pid})"'
        assert why(database, "b").kind == "about_to_begin" or why(database, "b").kind == "in_line"
        other.execute("LOCK TABLE pgjobs.jobs IN SHARE MODE")
        assert "has locked the table of the jobs" in why(database, "b").text
    assert why(database).kind == "about_to_begin"


def test_a_lock_of_the_whole_table_is_not_waited_for(database, monkeypatch):
    put(database, "a")
    monkeypatch.setattr("pgjobs_celery.control.explain.ANSWER_SECONDS", 0.5)
    with psycopg.connect(database.conninfo) as other:
        other.execute("LOCK TABLE pgjobs.jobs")
        with pytest.raises(OutOfTime):
            explain(database, "a")


def test_a_job_that_must_not_begin_any_more_has_expired(database, connection):
    put(database, "a")
    connection.execute("UPDATE pgjobs.jobs SET expires_at = now() - interval '1 minute'")
    assert why(database).kind == "expired"
    lives(database)
    reason = "expired: its queue held it for too long"
    database.claims.settle_jobs(A, [cancelled(claim(database), reason)])
    found = why(database)
    assert found.kind == "expired"
    assert "It had to begin by 20" in found.text


def test_a_paused_queue_is_named_with_its_time_and_remedy(database):
    put(database, "a", queue="my mail")
    database.limits.pause_queue("my mail")
    found = why(database)
    assert found.kind == "queue_paused"
    assert found.text.startswith("Queue my mail is paused since 20")
    assert found.remedy == "celery -A proj pgjobs resume 'my mail'"
    database.limits.resume_queue("my mail")
    assert why(database).kind == "no_consumer"


def test_a_queue_without_a_worker_tells_of_the_last(database, connection):
    put(database, "a", "b")
    lives(database, B, "mail")
    found = why(database)
    assert found.kind == "no_consumer"
    assert "do not show one that did. 1 worker of other queues is alive." in found.text
    assert found.remedy == "celery -A proj worker -Q celery"
    lives(database)
    database.claims.settle_jobs(A, [completed(claim(database))])
    database.nodes.delete_node(A)
    found = why(database, "b")
    assert found.kind == "no_consumer"
    assert "w1@web was the last to end a job of it" in found.text
    assert found.details["worker"] == "w1@web"
    lives(database)
    connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = now() - interval '3 days'")
    found = why(database, "b")
    assert "The last that did was w1@web: its last heartbeat came at 20" in found.text
    assert "3 days ago. No other worker is alive, either." in found.text
    lives(database)
    assert why(database, "b").kind == "about_to_begin"


def test_a_full_limit_names_the_jobs_that_hold_it(database):
    put(database, "a", "b", "c", "d")
    lives(database)
    claim(database)
    claim(database)
    database.limits.limit_queue("celery", 2)
    found = why(database, "c")
    assert found.kind == "limit_full"
    assert "is limited to 2 at once, and 2 jobs of it are running: a on w1@web, b on" in found.text
    assert [each["task_id"] for each in found.details["oldest"]] == ["a", "b"]
    assert "behind 1 job." in why(database, "d").text
    database.limits.limit_queue("celery", 3)
    found = why(database, "d")
    assert found.kind == "in_line"
    assert "2 jobs of it are running of 3 at once, the oldest since 20" in found.text
    database.limits.limit_queue("celery", None)
    assert why(database, "c").kind == "about_to_begin"


def test_a_limit_of_nothing_is_full(database):
    put(database, "a")
    lives(database)
    database.limits.limit_queue("celery", 0)
    assert why(database).kind == "limit_full"


def test_a_job_in_line_tells_its_position(database):
    put(database, "a", "b", "c")
    put(database, "other", queue="mail")
    put(database, "first", priority=0)
    put(database, "last", priority=3)
    lives(database)
    claim(database)
    found = why(database, "last")
    assert found.kind == "in_line"
    assert found.text.startswith("It is at position 4 of queue celery, behind 3 jobs. 1 job of it")
    assert "is running, the oldest since 20" in found.text
    assert "on w1@web; 1 worker consumes from it." in found.text
    assert (found.details["ahead"], found.details["running"]) == (3, 1)


def test_a_position_is_counted_up_to_ten_thousand(database, connection):
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, message) "
        "SELECT 'm' || n, 'task', 'celery', 'm' FROM generate_series(1, 10001) AS n"
    )
    put(database, "a")
    lives(database)
    found = why(database)
    assert found.text.startswith("It is in queue celery behind more than 10,000 jobs.")
    assert (found.details["ahead"], found.details["ahead_is_more"]) == (10_000, True)


def test_a_walk_that_ends_before_the_job_says_at_least(database, monkeypatch):
    monkeypatch.setattr("pgjobs_celery.db.rows.explain.DEPTH", 2)
    put(database, "a", "b", "c")
    lives(database)
    claim(database)
    found = why(database, "c")
    assert found.text.startswith("It is in queue celery behind at least 1 job. At least 1 job of")
    assert found.details["ahead_is_more"] is True
    assert why(database, "b").kind == "about_to_begin"


def test_the_next_in_line_tells_of_busy_and_of_idle_workers(database, connection):
    put(database, "a", "b")
    lives(database)
    claim(database)
    assert why(database, "b").kind == "about_to_begin"
    older(connection)
    found = why(database, "b")
    assert found.kind == "at_capacity"
    assert "is busy: w1@web holds 1 job, the oldest since 20" in found.text
    assert found.details["holds"] == {"w1@web": 1}
    lives(database, B)
    found = why(database, "b")
    assert found.kind == "idle_workers"
    assert "which w2@web consumes from without holding a job" in found.text


def test_work_on_other_queues_keeps_a_worker_busy(database, connection):
    put(database, "other", queue="mail")
    put(database, "a")
    lives(database, A, "celery", "mail")
    claim(database, queue="mail")
    older(connection)
    assert why(database).details["holds"] == {"w1@web": 1}


def test_a_healthy_running_job_is_not_accused(database, connection):
    """Whatever holds for those that wait: paused, limited, expired, locked."""
    put(database, "a", "b")
    lives(database, lease=13.0)
    claim(database)
    database.limits.limit_queue("celery", 0)
    database.limits.pause_queue("celery")
    connection.execute("UPDATE pgjobs.jobs SET expires_at = now() - interval '1 minute'")
    with psycopg.connect(database.conninfo) as other:
        other.execute("SELECT FROM pgjobs.jobs FOR UPDATE")
        found = why(database)
    assert found.kind == "running"
    assert found.text.startswith("It runs or is about to: w1@web has had it since 20")
    assert "attempt 1 of 20, and sent its last heartbeat 0 s ago." in found.text
    assert found.remedy is None
    jobs(database).filter(id="a").cancel("no longer needed")
    found = why(database)
    assert found.kind == "running"
    assert re.search(r"It was told to stop by \S+ .*\(no longer needed\) at 20", found.text)


def test_a_silent_worker_may_be_dead_and_a_dead_one_is(database, connection):
    put(database, "a")
    lives(database, lease=13.0)
    claim(database)
    silence = "UPDATE pgjobs.nodes SET heartbeat_at = now() - %s * interval '1 s' WHERE node = %s"
    connection.execute(silence, (8, A))
    found = why(database)
    assert found.kind == "worker_silent"
    assert "sent its last heartbeat 8 s ago. If it stays silent" in found.text
    assert "in 5 s; it then goes back in line." in found.text
    connection.execute(silence, (20, A))
    assert why(database).kind == "no_maintenance"
    lives(database, B, "mail")
    found = why(database)
    assert found.kind == "held_by_dead_worker"
    assert "w1@web, which has the job, is dead: its last heartbeat came 20 s ago." in found.text
    assert "7 s ago. A live worker takes it within seconds." in found.text
    connection.execute(silence, (120, A))
    found = why(database)
    assert (found.kind, found.remedy) == ("no_maintenance", "celery -A proj pgjobs maintain")
    connection.execute("UPDATE pgjobs.jobs SET acks_late = false")
    assert "it is then discarded, because it was acknowledged" in why(database).text
    database.claims.rescue_jobs()
    found = why(database)
    assert found.kind == "worker_lost"
    assert found.remedy == "celery -A proj pgjobs retry a"
    jobs(database).filter(id="a").retry()
    assert why(database).kind == "no_consumer"


def test_a_worker_without_a_row_is_dead(database, connection):
    put(database, "a")
    lives(database)
    claim(database)
    connection.execute("DELETE FROM pgjobs.nodes")
    lives(database, B)
    found = why(database)
    assert found.kind == "held_by_dead_worker"
    assert "is dead: w1@web has no node row any more." in found.text


def test_a_replaced_task_awaits_its_result(database):
    put(database, "a")
    lives(database)
    database.claims.settle_jobs(A, [replaced(claim(database))])
    assert why(database).kind == "awaits_result"


def test_an_ended_job_tells_how(database):
    put(database, "done", "failed", "unknown", "itself")
    lives(database)
    error = error_entry("KeyError", "x" * 300, None, "builtins")
    unknown = error_entry("NotRegistered", "'tasks.add'", None, "celery.exceptions")
    outcomes = [
        completed(claim(database)),
        discarded(claim(database), error),
        discarded(claim(database), unknown),
        cancelled(claim(database), "has no address"),
    ]
    assert database.claims.settle_jobs(A, outcomes) == []
    found = why(database, "done")
    assert (found.kind, found.remedy) == ("completed", None)
    assert found.text.startswith("It has succeeded on w1@web at 20")
    assert found.text.endswith("in attempt 1 of 20.")
    found = why(database, "failed")
    assert found.kind == "discarded"
    assert found.text.endswith(f"in attempt 1 of 20: KeyError: {'x' * 190}....")
    assert found.remedy == "celery -A proj pgjobs retry failed"
    found = why(database, "unknown")
    assert found.kind == "unknown_task"
    assert found.text.startswith("w1@web does not know the task tasks.add")
    found = why(database, "itself")
    assert found.kind == "cancelled"
    assert found.text.endswith("in attempt 1 on w1@web: has no address.")


def test_a_cancelled_job_tells_why(database):
    put(database, "a", "b")
    jobs(database).filter(id="a").cancel("expired subscription")
    found = why(database)
    assert found.kind == "cancelled"
    assert found.text.endswith("before it had begun: expired subscription.")
    assert found.details["reason"] == "expired subscription"
    jobs(database).filter(id="b").cancel()
    assert why(database, "b").text.endswith("before it had begun, without a reason.")


def test_a_revoke_before_publishing_is_told(database, make_app: Callable[..., Celery]):
    app = make_app()
    app.control.revoke("a")
    found = why(database)
    assert found.kind == "revoked_before_publishing"
    app.send_task("tasks.add", task_id="a")
    found = why(database)
    assert found.kind == "revoked_before_publishing"
    assert found.remedy == "celery -A proj pgjobs delete a"
    jobs(database).filter(id="a").delete()
    app.send_task("tasks.add", task_id="a")
    assert why(database).kind == "no_consumer"


def test_a_duplicate_and_a_superseded_job_name_the_other(database, make_app):
    app = make_app()
    rule = Unique(period=None, states=["scheduled", "available"])

    @app.task(base=PgTask, unique=rule, name="tasks.once", shared=False)
    def once() -> None:
        """Do nothing."""

    once.apply_async(task_id="a")
    once.apply_async(task_id="b")
    found = why(database, "b")
    assert found.kind == "duplicate"
    assert "it is a duplicate of job a, which" in found.text
    assert found.remedy == "celery -A proj pgjobs explain a"
    lives(database)
    claimed = claim(database)
    once.apply_async(task_id="c")
    assert why(database).kind == "running"
    error = error_entry("KeyError", "'x'", None, "builtins")
    database.claims.settle_jobs(A, [retried(claimed, 60, error)])
    found = why(database)
    assert found.kind == "superseded"
    assert found.text.startswith("Job c took over its unique key, and stands for it")
    assert found.details["other"] == "c"


def test_the_body_of_a_chord_tells_what_it_waits_for(database, make_app):
    app = make_app()
    app.set_current()

    @app.task(name="tasks.part", shared=False)
    def part() -> None:
        """Do nothing."""

    result = chord([part.s(), part.s(), part.s()])(part.s())
    waiting = [each.id for each in result.parent.results]
    lives(database)
    database.claims.settle_jobs(A, [completed(claim(database))])
    found = why(database, result.id)
    assert found.kind == "waits_for_chord"
    assert f"and 2 of the 3 tasks of its header have not finished: {waiting[1]} (av" in found.text
    assert found.details["unfinished"] == dict.fromkeys(waiting[1:], "available")
    assert found.remedy == f"celery -A proj pgjobs explain {waiting[1]}"


def test_times_that_python_cannot_hold_do_no_harm(database, connection):
    put(database, "a", "b", "c", eta=60)
    lives(database)
    connection.execute("UPDATE pgjobs.jobs SET due_at = 'infinity' WHERE task_id = 'a'")
    assert why(database).kind == "not_due"
    connection.execute(
        "UPDATE pgjobs.jobs SET due_at = NULL, state = 'available', expires_at = '-infinity', "
        "inserted_at = '-infinity', scheduled_at = 'infinity' WHERE task_id = 'b'"
    )
    assert why(database, "b").kind == "expired"
    connection.execute("UPDATE pgjobs.jobs SET expires_at = NULL WHERE task_id = 'b'")
    assert why(database, "b").kind == "about_to_begin"
    claim(database)
    for moment in ("infinity", "-infinity"):
        connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = %s", (moment,))
        why(database, "b")


def test_a_role_that_only_looks_is_told_of_locks_that_last(database, connection, url, monkeypatch):
    """It does not see since when a foreign session holds them, so it looks twice."""
    put(database, "a")
    lives(database)
    monkeypatch.setattr("pgjobs_celery.control.explain.LOCK_SECONDS", 0.1)
    role = "pgjobs_explains"
    grants = (
        f"CREATE ROLE {role} LOGIN PASSWORD 'secret'",
        f"GRANT USAGE ON SCHEMA pgjobs TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA pgjobs TO {role}",
    )
    for statement in grants:
        connection.execute(statement)
    theirs = Database(make_conninfo(parse_url(url), user=role, password="secret"), Options())
    theirs.rights = RIGHTS["explain"]
    try:
        assert why(theirs).kind == "about_to_begin"
        with psycopg.connect(database.conninfo, application_name="report") as other:
            other.execute("SELECT FROM pgjobs.jobs WHERE task_id = 'a' FOR UPDATE")
            found = why(theirs)
            pid = other.info.backend_pid
        assert found.kind == "row_locked"
        assert f"A session (PID {pid}, application report, user " in found.text
        assert found.details["session"]["query_start"] is None
    finally:
        theirs.close()
        connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_the_lock_of_a_claim_is_not_blamed_on_a_session(database, connection, monkeypatch):
    """One that is gone at the second look, for a role that cannot see how old it is."""
    put(database, "a")
    monkeypatch.setattr("pgjobs_celery.control.explain.LOCK_SECONDS", 0.0)
    locks = iter([Lock(1), None, Lock(1), Lock(2)])
    monkeypatch.setattr(database.explain, "explain_lock", lambda task_id: next(locks))
    assert why(database).kind == "no_consumer"
    assert why(database).kind == "no_consumer"


def test_a_job_that_is_claimed_while_its_facts_are_read_is_not_accused(database, monkeypatch):
    put(database, "a")
    lives(database)
    read = database.explain.explain_line

    def claimed_meanwhile(*place):
        line = read(*place)
        claim(database)
        return line

    monkeypatch.setattr(database.explain, "explain_line", claimed_meanwhile)
    assert why(database).kind == "running"


def test_each_remedy_is_a_command_that_exists():
    """Of the explanations of the table of cases."""
    for facts, _, _ in CASES:
        words = shlex.split(decide(facts).remedy or "celery worker")
        if words[:4] == ["celery", "-A", "proj", "pgjobs"]:
            command = pgjobs.commands[words[4]]
            with command.make_context(words[4], words[5:]):
                pass
        else:
            assert words[0] in ("celery", "psql")


def test_a_job_that_is_not_committed_is_for_nobody_to_run(database, make_app):
    app = make_app()
    settings = "SELECT current_setting('enable_seqscan'), current_setting('jit')"
    with psycopg.connect(database.conninfo) as caller, using(caller):
        before = caller.execute(settings).fetchone()
        app.send_task("tasks.add", task_id="a")
        found = jobs(app).get("a").explain()
        assert found.kind == "no_row"
        assert found.text.endswith("or the transaction that published it is not committed.")
        assert caller.execute(settings).fetchone() == before
    assert jobs(app).get("a").explain().kind == "no_consumer"

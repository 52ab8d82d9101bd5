"""The doctor finds what nobody sees to, in tables, queues and settings; each remedy is tried."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from celery import Celery
from celery.bin.celery import celery as celery_command
from click.testing import CliRunner

from pgjobs_celery import jobs, queues
from pgjobs_celery.config import Options
from pgjobs_celery.control.doctor.doctor import doctor
from pgjobs_celery.control.doctor.findings import Finding, Severity
from pgjobs_celery.control.flows import Flows
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.job.rows import Bucket
from tests.support.doctoring import codes, cure, look
from tests.support.rows import new_job, put
from tests.support.waiting import wait_for

from ..conftest import Connection, close_app

A, B = UUID(int=1), UUID(int=2)
NASTY = "q\x1b[2J\n\N{RIGHT-TO-LEFT OVERRIDE}'\""


def lives(database: Database, node: UUID = A, *names: str, lease: float = 3600.0) -> None:
    """A worker that consumes from these queues has just sent a heartbeat."""
    database.nodes.beat_node(node, f"w{node.int}@web", list(names or ("celery",)), lease)


def older(connection: Connection, seconds: int = 120) -> None:
    """Every job was published so much earlier."""
    connection.execute(
        "UPDATE pgjobs.jobs SET scheduled_at = scheduled_at - %s * interval '1 second'", (seconds,)
    )


def only(found: dict[tuple[str, str], Finding]) -> Finding:
    (finding,) = found.values()
    return finding


def run_remedy(url: str, remedy: str) -> str:
    """Run a remedy of ours as it is printed, with the URL in place of the app."""
    words = shlex.split(remedy)
    assert words[:3] == ["celery", "-A", "proj"]
    with pytest.MonkeyPatch.context() as patch:  # Celery keeps both in the environment
        patch.setenv("CELERY_BROKER_URL", url)
        patch.setenv("CELERY_RESULT_BACKEND", url)
        done = CliRunner().invoke(celery_command, ["-b", url, "--result-backend", url, *words[3:]])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_database_with_nothing_in_it_is_well(database: Database) -> None:
    assert look(database) == {}


def test_jobs_in_a_queue_without_a_consumer(database: Database, connection: Connection) -> None:
    put(database, "a", "b", queue=NASTY)
    assert look(database) == {}  # since a moment
    older(connection)
    finding = only(look(database))
    assert finding.code == "queue_without_consumer"
    assert finding.details["waiting"] == 2
    lives(database, A, NASTY)
    assert look(database) == {}
    connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = now() - interval '2 hours'")
    assert codes(database) == ["dead_node", "queue_without_consumer"]


def test_a_paused_queue_with_jobs_is_a_notice(
    database: Database, connection: Connection, url: str, make_app: Callable[..., Celery]
) -> None:
    app = make_app()
    queues(app).pause("mail")
    assert look(database) == {}
    put(database, "a", queue="mail")
    older(connection)
    report = doctor(database)
    finding = only(look(database))
    assert (finding.code, finding.severity) == ("queue_paused", Severity.NOTICE)
    assert not any(each.is_wrong for each in report.findings if each.code == "queue_paused")
    run_remedy(url, finding.remedy)
    lives(database, A, "mail")
    assert look(database) == {}
    queues(app).limit("mail", 0)
    finding = only(look(database))
    assert "limit 0" in finding.evidence
    run_remedy(url, finding.remedy)
    assert look(database) == {}


def test_jobs_of_a_node_without_a_row(database: Database, connection: Connection) -> None:
    put(database, "a")
    lives(database)
    database.claims.claim_jobs(A, "w1@web", [Bucket("celery")], 1)
    assert look(database) == {}
    connection.execute("DELETE FROM pgjobs.nodes")
    finding = only(look(database))
    assert finding.code == "orphan_jobs"
    assert finding.details["orphan"] == "a"
    database.claims.rescue_jobs(dead=False)  # as maintain --once, see tests/e2e/test_doctor.py
    assert "orphan_jobs" not in codes(database)


def test_a_worker_past_its_lease(database: Database, connection: Connection) -> None:
    lives(database, A, lease=13.0)
    lives(database, B)
    connection.execute(
        "UPDATE pgjobs.nodes SET heartbeat_at = now() - interval '20 s' WHERE node = %s", [A]
    )
    assert look(database) == {}  # another one takes its jobs within seconds
    connection.execute(
        "UPDATE pgjobs.nodes SET heartbeat_at = now() - interval '50 s' WHERE node = %s", [A]
    )
    finding = only(look(database))
    assert (finding.code, finding.subject) == ("dead_node", "w1@web")
    assert "1 node lives, and does no maintenance" in finding.evidence
    connection.execute("DELETE FROM pgjobs.nodes WHERE node = %s", [B])
    assert "no node lives" in only(look(database)).evidence


def test_a_job_that_is_due_and_not_in_line(database: Database, connection: Connection) -> None:
    put(database, "a", eta=60)
    lives(database)
    connection.execute(
        "UPDATE pgjobs.jobs SET due_at = now() - interval '10 s', scheduled_at = due_at"
    )
    assert look(database) == {}
    connection.execute("UPDATE pgjobs.jobs SET due_at = now() - interval '100 s'")
    assert only(look(database)).code == "no_maintenance"
    database.claims.stage_jobs(100)
    assert look(database) == {}


def test_an_entry_that_no_beat_publishes(
    database: Database, connection: Connection, make_app: Callable[..., Celery]
) -> None:
    from pgjobs_celery import schedules

    app = make_app()
    schedules(app).put("nightly\x1b", "tests.add", 86_400)
    assert look(database) == {}
    connection.execute("UPDATE pgjobs.schedules SET next_run_at = now() - interval '10 min'")
    assert only(look(database)).code == "no_beat"
    schedules(app).pause("nightly\x1b")
    assert look(database) == {}


def test_messages_that_nobody_takes(database: Database, connection: Connection, url: str) -> None:
    connection.execute("INSERT INTO pgjobs.queues (name) VALUES ('lonely q')")
    connection.execute(
        "INSERT INTO pgjobs.messages (durable, queue, message, body, inserted_at) "
        "SELECT n > 1, 'lonely q', '{}', '', now() - interval '20 min' FROM generate_series(1,"
        " 3) AS n"
    )
    finding = only(look(database))
    assert finding.code == "unread_messages"
    assert finding.details["waiting"] == 2  # one may be lost, and is deleted after a day
    lives(database, A, "lonely q")
    assert look(database) == {}
    connection.execute("DELETE FROM pgjobs.nodes")
    run_remedy(url, finding.remedy.partition(", or")[0])
    assert look(database) == {}


def test_messages_that_a_node_without_a_row_holds(
    database: Database, connection: Connection
) -> None:
    connection.execute(
        "INSERT INTO pgjobs.messages (durable, queue, message, body, claimed_by) "
        "VALUES (true, 'q', '{}', '', gen_random_uuid())"
    )
    finding = only(look(database))
    assert finding.code == "orphan_messages"
    cure(connection, finding.remedy)
    assert look(database) == {}


def header(database: Database, connection: Connection, size: int = 2) -> None:
    """A chord whose header has two tasks, published two minutes ago."""
    for number in range(2):
        database.jobs.insert_job(new_job(f"m{number}", group_id="g'"))
    connection.execute("UPDATE pgjobs.jobs SET group_index = right(task_id, 1)::integer")
    connection.execute(
        "INSERT INTO pgjobs.groups (group_id, body, size, inserted_at) "
        "VALUES ('g''', '', %s, now() - interval '2 min')",
        [size],
    )
    lives(database)


def test_a_chord_that_lacks_a_task(
    database: Database, connection: Connection, make_app: Callable[..., Celery]
) -> None:
    header(database, connection)
    assert look(database) == {}
    jobs(make_app()).filter(id="m0").cancel()
    jobs(make_app()).filter(id="m0").delete()
    finding = only(look(database))
    assert (finding.code, finding.subject) == ("chord_incomplete", "g'")
    assert "1 of them have no row" in finding.evidence
    cure(connection, finding.remedy.partition("; ")[2])
    assert look(database) == {}


def test_a_complete_chord_whose_body_is_not_published(
    database: Database, connection: Connection
) -> None:
    header(database, connection)
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'completed', finished_at = now() - interval '90 s'"
    )
    assert only(look(database)).code == "chord_not_published"
    connection.execute("UPDATE pgjobs.jobs SET finished_at = now() - interval '5 s'")
    assert look(database) == {}


def test_a_chord_that_was_never_published_in_full(
    database: Database, connection: Connection
) -> None:
    header(database, connection)
    connection.execute(
        "UPDATE pgjobs.groups SET size = NULL, inserted_at = now() - interval '2 hours'"
    )
    finding = only(look(database))
    assert (finding.code, finding.severity) == ("chord_unsized", Severity.NOTICE)
    cure(connection, finding.remedy.partition("; ")[2])
    assert look(database) == {}


def test_rows_that_a_hand_has_written(database: Database, connection: Connection) -> None:
    """Times without end, names that would deceive: what there is to say is said."""
    header(database, connection)
    put(database, "a", queue=NASTY)
    put(database, "b", eta=60)
    for text in (
        "UPDATE pgjobs.jobs SET scheduled_at = '-infinity', inserted_at = 'infinity'",
        "UPDATE pgjobs.jobs SET due_at = '-infinity' WHERE due_at IS NOT NULL",
        "UPDATE pgjobs.jobs SET state = 'completed', finished_at = 'infinity' WHERE due_at IS NULL",
        "UPDATE pgjobs.groups SET inserted_at = '-infinity'",
        "UPDATE pgjobs.nodes SET heartbeat_at = '-infinity'",
        "INSERT INTO pgjobs.messages (durable, queue, message, body, inserted_at) "
        "VALUES (true, 'q', '{}', '', '-infinity')",
        "INSERT INTO pgjobs.limits (queue, paused_at) VALUES ('celery', '-infinity'), "
        "('mail', 'infinity')",
    ):
        connection.execute(text)
    put(database, "c", queue="celery")
    put(database, "d", queue="mail")
    found = codes(database)
    assert "not_looked_at" not in found
    assert found == ["queue_paused", "unread_messages"]


def test_many_findings_of_one_kind_are_a_few(database: Database, connection: Connection) -> None:
    for number in range(25):
        put(database, f"j{number}", queue=f"q{number:02}")
    older(connection)
    found = look(database)
    assert len(found) == 11
    more = found["queue_without_consumer", "15 more"]
    assert more.evidence.startswith("15 more: q10, q11")
    assert more.details["subjects"][-1] == "q24"


# Tables


@pytest.fixture(scope="module")
def apart(make_migrated: Callable[[], str]) -> str:
    return parse_url(make_migrated())


@pytest.fixture
def dba(apart: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(apart, autocommit=True) as connection:
        connection.execute("ALTER TABLE pgjobs.entries SET (autovacuum_enabled = off)")
        yield connection


FILL = "INSERT INTO pgjobs.entries SELECT n::text::bytea, 'x' FROM generate_series(1, 20000) AS n"
EXPECTED = {"table_autovacuum_off", "storage_options"}


def test_dead_rows_that_no_vacuum_removes(apart: str, dba: psycopg.Connection[Any]) -> None:
    database = Database(apart, Options())
    limits = {"dead": 0.5, "fewest_dead": 100, "vacuum": 0.0}
    assert set(codes(database, **limits)) == EXPECTED
    with psycopg.connect(apart) as busy:  # at its end a session reports all that it did
        busy.execute(FILL)
        busy.execute("DELETE FROM pgjobs.entries")
    found = wait_for(
        lambda: {
            key: each for key, each in look(database, **limits).items() if key[0] not in EXPECTED
        }
    )
    assert set(found) == {("vacuum_behind", "entries")}
    cure(dba, found["vacuum_behind", "entries"].remedy)
    wait_for(lambda: set(codes(database, **limits)) == EXPECTED)


def test_tables_and_indexes_that_are_mostly_empty(apart: str, dba: psycopg.Connection[Any]) -> None:
    database = Database(apart, Options())
    limits = {"bloat_bytes": 200_000}
    assert set(codes(database, **limits)) == EXPECTED
    dba.execute(FILL)
    dba.execute("DELETE FROM pgjobs.entries WHERE value = 'x' AND key <> '19999'")
    dba.execute("VACUUM (ANALYZE, TRUNCATE off) pgjobs.entries")
    found = {key: each for key, each in look(database, **limits).items() if key[0] not in EXPECTED}
    assert set(found) == {("table_bloat", "entries"), ("index_bloat", "entries_pkey")}
    assert all(each.severity is Severity.NOTICE for each in found.values())
    cure(dba, found["index_bloat", "entries_pkey"].remedy)
    assert ("index_bloat", "entries_pkey") not in look(database, **limits)
    cure(dba, found["table_bloat", "entries"].remedy)
    assert set(codes(database, **limits)) == EXPECTED


# Settings

REDIS = "redis://:t0p@localhost/0"
#: Settings, the code and the subject of the only finding about them.
SETTINGS: list[tuple[dict[str, Any], str, str]] = [
    ({"broker_transport_options": {"visibility_timeout": 3600}}, "setting_ignored",
     "broker_transport_options: visibility_timeout"),
    ({"result_backend_transport_options": {"retry_policy": {}}}, "setting_ignored",
     "result_backend_transport_options: retry_policy"),
    ({"broker_transport_options": {"poll_intervall": 1}}, "setting_ignored",
     "broker_transport_options: poll_intervall"),
    ({"broker_heartbeat": 10}, "setting_ignored", "broker_heartbeat"),
    ({"redis_socket_timeout": 5.0}, "setting_ignored", "redis_socket_timeout"),
    ({"worker_prefetch_multiplier": 1}, "setting_ignored", "worker_prefetch_multiplier"),
    ({"task_queue_max_priority": 10}, "setting_ignored", "task_queue_max_priority"),
    ({"task_reject_on_worker_lost": True}, "worker_lost_ignored", "task_reject_on_worker_lost"),
    ({"result_expires": None}, "jobs_kept_for_ever", "result_expires"),
    ({"result_backend": REDIS}, "results_elsewhere", "result_backend"),
    ({"result_backend_transport_options": {"schema": "other"}}, "results_elsewhere",
     "result_backend"),
    ({"task_always_eager": True}, "always_eager", "task_always_eager"),
    ({"broker_connection_retry": False}, "no_reconnect", "broker_connection_retry"),
    ({"broker_use_ssl": True}, "ssl_setting_ignored", "broker_use_ssl"),
    ({"pgjobs_lease": 3, "pgjobs_heartbeat_interval": 1}, "lease_short", "pgjobs_lease"),
    ({"worker_enable_remote_control": False}, "remote_control_off",
     "worker_enable_remote_control"),
    ({"pgjobs_leese": 3}, "settings_refused", ""),
    ({"broker_transport_options": {"pool_size": 0}}, "settings_refused", ""),
]  # fmt: skip
#: Settings that are as good as others.
WELL: list[dict[str, Any]] = [
    {},
    {"task_acks_late": True, "task_reject_on_worker_lost": True},
    {"result_expires": None, "pgjobs_prune_max_age": 3600},
    {"result_expires": 3600, "task_time_limit": 30, "worker_concurrency": 4},
    {"broker_transport_options": {"priority_order": "desc"}, "task_queue_max_priority": 10},
    {"broker_transport_options": {"max_retries": 3}, "broker_connection_retry_on_startup": True},
    {"result_backend": None},
]


@pytest.mark.parametrize(("conf", "code", "subject"), SETTINGS, ids=lambda value: str(value)[:40])
def test_a_setting_that_has_no_effect_or_hurts(
    database: Database,
    make_app: Callable[..., Celery],
    conf: dict[str, Any],
    code: str,
    subject: str,
) -> None:
    found = look(database, make_app(**conf))
    assert set(found) == {(code, subject)}
    assert "t0p" not in str(found)
    remaining = {"pgjobs_prune_max_age": 60} if code == "jobs_kept_for_ever" else {}
    assert look(database, make_app(**remaining)) == {}


@pytest.mark.parametrize("conf", WELL, ids=str)
def test_settings_that_are_well(
    database: Database, make_app: Callable[..., Celery], conf: dict[str, Any]
) -> None:
    assert look(database, make_app(**conf)) == {}


def test_without_an_app_its_settings_are_left_out(database: Database) -> None:
    assert doctor(database).left_out == {"settings": "no app was named"}


def test_a_family_that_fails_does_not_end_the_others(database: Database) -> None:
    def fails() -> list[Finding]:
        raise ZeroDivisionError

    report = doctor(database, more={"entries": fails})
    found = {each.code: each for each in report.findings}
    assert found["not_looked_at"].subject == "entries"
    assert "ZeroDivisionError" in found["not_looked_at"].evidence


def test_an_app_on_another_broker_hears_nothing_of_it(database: Database, url: str) -> None:
    app = Celery("other", broker="redis://localhost/0", backend=url, set_as_current=False)
    app.conf.broker_heartbeat = 10
    assert look(database, app) == {}
    close_app(app)
    assert parse_url(url) == database.conninfo


def test_pauses_without_an_end_and_rules_that_let_nothing_begin(database, connection, url):
    lives(database, A, "mail")
    rules = Flows(database)
    rules.set("rate/queue/mail", "0/m")
    rules.set("running/queue/mail", 3, by="tenant")
    rules.pause(task="shop.send")
    rules.pause(key="7", queue="mail")
    rules.pause(tag="import", until=3600)
    put(database, "a", queue="mail")
    lane = ["rate/queue/mail", "running/queue/mail=null"]
    connection.execute(
        "UPDATE pgjobs.jobs SET lane = %s, priority = priority | 256", ("\n".join(lane),)
    )
    connection.execute(
        "INSERT INTO pgjobs.lanes (queue, lane, pass, gates) VALUES ('mail', %s, 0, %s)",
        ("\n".join(lane), lane),
    )
    assert codes(database) == ["key_missing", "rule_allows_none"]
    connection.execute("UPDATE pgjobs.pauses SET paused_at = paused_at - interval '2 days'")
    found = look(database)
    paused = [each for (code, _), each in found.items() if code == "jobs_paused"]
    assert len(paused) == 2
    for each in paused:
        assert "for 2 days" in each.evidence or "48 h" in each.evidence
        run_remedy(url, each.remedy)
    assert [each.kind for each in rules.pauses()] == ["tag"]
    run_remedy(url, found["rule_allows_none", "rate/queue/mail"].remedy)
    assert codes(database) == ["key_missing"]
    assert "kwargs.tenant" in found["key_missing", "running/queue/mail"].evidence

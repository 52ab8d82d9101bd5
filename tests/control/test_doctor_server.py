"""The doctor finds what is wrong with a server and its sessions; each remedy is tried."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgjobs_celery.config import Options
from pgjobs_celery.control.doctor.doctor import doctor
from pgjobs_celery.control.doctor.server import decide_link, decide_server
from pgjobs_celery.control.doctor.thresholds import DEFAULT
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import Target, parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.db.rows.doctor import Link, Looks
from pgjobs_celery.embedded import EmbeddedServer
from tests.support.doctoring import codes, cure, look
from tests.support.poolers import transaction_pooler
from tests.support.waiting import wait_for

time_machine = pytest.importorskip("time_machine")

#: Things that a test may only do to a server of its own.
SETTINGS = {"max_connections": 30, "max_prepared_transactions": 5, "wal_level": "logical"}

#: How the settings of the server, or of the role, were changed.
CAUSES = [
    ("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf()", "fsync_off", "fsync"),
    ("ALTER SYSTEM SET full_page_writes = off; SELECT pg_reload_conf()",
     "full_page_writes_off", "full_page_writes"),
    ("ALTER SYSTEM SET autovacuum = off; SELECT pg_reload_conf()", "autovacuum_off", "autovacuum"),
    ("ALTER SYSTEM SET track_counts = off; SELECT pg_reload_conf()",
     "autovacuum_off", "track_counts"),
    ("ALTER ROLE postgres SET synchronous_commit = off",
     "synchronous_commit_off", "synchronous_commit"),
    ("ALTER ROLE postgres SET default_transaction_isolation = 'repeatable read'",
     "isolation_level", "default_transaction_isolation"),
    ("ALTER ROLE postgres SET statement_timeout = '2s'",
     "statement_timeout_short", "statement_timeout"),
    ("ALTER ROLE postgres SET default_transaction_read_only = on",
     "read_only", "default_transaction_read_only"),
]  # fmt: skip


def migrated(url: str) -> str:
    """Migrate the database of a URL; its connection string."""
    conninfo = parse_url(url)
    with migrations.session(conninfo) as connection:
        migrations.migrate(connection, "pgjobs")
    return conninfo


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(settings=SETTINGS) as server:
        migrated(server.url)
        yield server


@contextmanager
def copy_of(primary: EmbeddedServer) -> Iterator[EmbeddedServer]:
    """A standby, with the feedback that lets its queries hold the primary's rows."""
    settings = {"hot_standby_feedback": "on", "wal_receiver_status_interval": 1}
    standby = EmbeddedServer(settings={**SETTINGS, **settings})
    try:
        # As in start(), for one that begins empty; this one begins as a copy.
        standby._prepare_folder()
        code, output = standby._call(
            "pg_basebackup", "--write-recovery-conf", "--checkpoint=fast", "--no-sync",
            "--dbname", parse_url(primary.url),
        )  # fmt: skip
        assert code == 0, output
        standby.start()
        yield standby
    finally:
        standby.close()


@pytest.fixture
def database(own_server: EmbeddedServer) -> Iterator[Database]:
    database = Database(parse_url(own_server.url), Options())
    yield database
    database.close()


@pytest.fixture
def open_one(own_server: EmbeddedServer) -> Iterator[Callable[..., psycopg.Connection]]:
    """A factory of sessions, autocommit; all are closed at the end."""
    with ExitStack() as stack:

        def open_one(**params: object) -> psycopg.Connection:
            conninfo = make_conninfo(parse_url(own_server.url), **params)
            return stack.enter_context(closing(psycopg.connect(conninfo, autocommit=True)))

        yield open_one


Open = Callable[..., psycopg.Connection]


def run(connection: psycopg.Connection, text: str) -> None:
    for statement in text.split("; "):
        connection.execute(sql.SQL(statement))


@pytest.mark.parametrize(("plant", "code", "subject"), CAUSES, ids=lambda value: value[:50])
def test_a_setting_that_matters_is_found_and_the_remedy_helps(
    database: Database, open_one: Open, plant: str, code: str, subject: str
) -> None:
    hand = open_one()
    run(hand, plant)
    # A reload takes effect in each session at its next statement, a moment later.
    found = wait_for(
        lambda: {key: each for key, each in everything(database).items() if key[0] == code}
    )
    assert set(found) == {(code, subject)}
    cure(hand, found[code, subject].remedy)
    wait_for(lambda: not everything(database))


def everything(database: Database) -> dict[tuple[str, str], object]:
    """The findings, those included that the suite's own server has."""
    return {(each.code, each.subject): each for each in doctor(database).findings}


def test_a_session_that_stays_in_a_transaction_is_named(database: Database, open_one: Open) -> None:
    other, hand = open_one(application_name="forgotten\x1b[2J"), open_one()
    other.execute("BEGIN")
    other.execute("SELECT 1")
    found = look(database, transaction=0.0)
    assert set(found) == {("long_transaction", f"PID {other.info.backend_pid}")}
    (finding,) = found.values()
    assert "is idle in transaction" in finding.evidence
    assert "application forgotten" in finding.evidence
    cure(hand, finding.remedy)
    assert look(database, transaction=0.0) == {}


def test_a_session_that_holds_old_rows_is_named(database: Database, open_one: Open) -> None:
    other, hand = open_one(), open_one()
    other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    other.execute("SELECT 1")
    (finding,) = look(database, transaction=0.0).values()
    assert finding.code == "xmin_held_by_session"
    assert finding.details["pid"] == other.info.backend_pid
    assert look(database) == {}  # it has been there for a moment only
    cure(hand, finding.remedy)
    assert look(database, transaction=0.0) == {}


def test_a_prepared_transaction_is_named(database: Database, open_one: Open) -> None:
    hand = open_one()
    for text in ("BEGIN", "SELECT pg_current_xact_id()", "PREPARE TRANSACTION 'it''s'"):
        hand.execute(text)
    (finding,) = look(database, transaction=0.0).values()
    assert (finding.code, finding.subject) == ("prepared_transaction", "it's")
    cure(hand, finding.remedy)
    assert look(database, transaction=0.0) == {}


def test_a_slot_that_holds_old_rows_is_named(database: Database, open_one: Open) -> None:
    hand = open_one()
    hand.execute("SELECT pg_create_logical_replication_slot('forgotten', 'test_decoding')")
    for _ in range(5):
        hand.execute("SELECT pg_current_xact_id()")
    (finding,) = look(database, xmin_age=3).values()
    assert (finding.code, finding.subject) == ("xmin_held_by_slot", "forgotten")
    cure(hand, finding.remedy)
    assert look(database, xmin_age=3) == {}


def test_a_standby_and_what_holds_rows_there(
    own_server: EmbeddedServer, database: Database, open_one: Open
) -> None:
    """On the primary the old query is found; the standby is one, until it is promoted."""
    hand = open_one()
    with copy_of(own_server) as standby:
        there = Database(parse_url(standby.url), Options())
        (finding,) = look(there).values()
        assert finding.code == "standby"
        with closing(psycopg.connect(there.conninfo, autocommit=True)) as query:
            query.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            query.execute("SELECT 1 FROM pgjobs.jobs")
            for _ in range(5):
                hand.execute("SELECT pg_current_xact_id()")
            found = wait_for(lambda: look(database, xmin_age=3))
            assert {code for code, _ in found} == {"xmin_held_by_standby"}
        wait_for(lambda: not look(database, xmin_age=3))
        promote = finding.remedy.partition(": ")[2]
        with closing(psycopg.connect(there.conninfo, autocommit=True)) as operator:
            cure(operator, promote)
        assert look(there) == {}


def test_a_locked_table_is_named_and_the_rest_is_looked_at(
    database: Database, open_one: Open
) -> None:
    other, hand = open_one(), open_one()
    other.execute("BEGIN")
    other.execute("LOCK TABLE pgjobs.jobs, pgjobs.nodes")
    began = time.monotonic()
    found = look(database)
    assert time.monotonic() - began < 20
    subject = f"PID {other.info.backend_pid}"
    assert {("table_locked", subject), ("not_looked_at", "work")} <= set(found)
    assert {code for code, _ in found} == {"table_locked", "not_looked_at"}
    assert "has locked jobs, nodes" in found["table_locked", subject].evidence
    assert "lock timeout" in found["not_looked_at", "work"].evidence
    cure(hand, found["table_locked", subject].remedy)
    assert look(database) == {}


def test_a_lock_of_a_moment_is_no_finding(database: Database, open_one: Open) -> None:
    with Looks(database) as looks:
        other = open_one()
        other.execute("BEGIN")
        other.execute("LOCK TABLE pgjobs.entries")
        assert looks.list_locks()
        calls = []

        def again(*_: object) -> list[object]:
            calls.append(1)
            if len(calls) > 1:
                other.execute("ROLLBACK")
            return found(looks)

        found = Looks.list_locks
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Looks, "list_locks", again)
            report = doctor(database)
    assert "table_locked" not in {each.code for each in report.findings}


def test_a_role_that_is_near_its_limit(database: Database, open_one: Open) -> None:
    hand = open_one()
    hand.execute('CREATE ROLE "few \x1b" LOGIN CONNECTION LIMIT 4')
    try:
        theirs = Database(make_conninfo(database.conninfo, user="few \x1b"), Options())
        taken = [open_one(user="few \x1b") for _ in range(2)]
        with Looks(theirs) as looks:
            assert list(decide_server(looks.examine_server(), DEFAULT)) == []
            third = open_one(user="few \x1b")
            (finding,) = decide_server(looks.examine_server(), DEFAULT)
        assert (finding.code, finding.subject) == ("connections_near_limit", "role")
        assert finding.evidence.startswith("4 of 4 connections of role few")
        for each in (*taken, third):
            each.close()
    finally:
        wait_for(
            lambda: (
                not hand.execute("SELECT FROM pg_stat_activity WHERE usename ~ '^few'").fetchall()
            )
        )
        hand.execute('DROP ROLE "few \x1b"')


def test_a_server_and_a_database_that_are_nearly_full(database: Database, open_one: Open) -> None:
    hand = open_one()
    name = hand.info.dbname
    hand.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 3").format(sql.Identifier(name)))
    wait_for(lambda: ("connections_near_limit", "database") not in look_once(database, open_one, 0))
    found = look_once(database, open_one, 1)
    assert ("connections_near_limit", "database") in found
    cure(hand, found["connections_near_limit", "database"].remedy)
    assert look_once(database, open_one, 1) == {}
    found = look_once(database, open_one, 24)
    assert set(found) == {("connections_near_limit", "max_connections")}
    assert "of the server are in use" in found["connections_near_limit", "max_connections"].evidence
    wait_for(lambda: not look_once(database, open_one, 0))


def look_once(database: Database, open_one: Open, more: int) -> dict[tuple[str, str], object]:
    """The findings about the server while so many more connections are open."""
    taken = [open_one() for _ in range(more)]
    with Looks(database) as looks:
        found = {
            (each.code, each.subject): each
            for each in decide_server(looks.examine_server(), DEFAULT)
        }
    for each in taken:
        each.close()
    return found


def test_the_queue_of_notifications_fills(open_one: Open) -> None:
    small = {"max_notify_queue_pages": 64}
    if not open_one().execute("SELECT FROM pg_settings WHERE name = %s", [*small]).fetchall():
        pytest.skip("before PostgreSQL 17 this queue is 8 GB")
    with EmbeddedServer(settings={"fsync": "off", **small}) as server:
        fill_notifications(Database(migrated(server.url), Options()))


def fill_notifications(database: Database) -> None:
    with (
        closing(psycopg.connect(database.conninfo, autocommit=True)) as hand,
        closing(psycopg.connect(database.conninfo, autocommit=True)) as deaf,
    ):
        deaf.execute("LISTEN deaf")
        deaf.execute("BEGIN")
        deaf.execute("SELECT 1")
        for _ in range(40):
            hand.execute("SELECT pg_notify('deaf', repeat('x', 7000))")
        (finding,) = look(database).values()
        assert finding.code == "notify_queue_filling"
        cure(hand, finding.remedy)
        assert look(database) == {}


def test_a_clock_that_is_wrong_here(database: Database) -> None:
    with time_machine.travel(datetime.now(timezone.utc) + timedelta(hours=2), tick=True):
        found = look(database)
    (finding,) = found.values()
    assert finding.code == "clock_skew"
    assert "2 h 0 min ahead of" in finding.evidence
    assert look(database) == {}


def test_no_server(own_server: EmbeddedServer) -> None:
    report = doctor(Database("host=127.0.0.1 port=1 dbname=x password=t0p", Options()))
    (finding,) = report.findings
    assert finding.code == "no_connection"
    assert "t0p" not in str(report)
    assert "work" in report.left_out


def test_a_server_that_does_not_answer(own_server: EmbeddedServer) -> None:
    """A port that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        options = Options(connect_timeout=1)
        report = doctor(Database(f"host=127.0.0.1 port={port} dbname=x", options))
        assert time.monotonic() - began < 20
    assert [each.code for each in report.findings] == ["no_connection"]


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (Link("/var/run", "", False, "prefer"), None),
        (Link("", "", False, "prefer"), None),
        (Link("localhost", "127.0.0.1", False, "prefer"), None),
        (Link("localhost", "::1", False, "prefer"), None),
        (Link("db", "10.0.0.5", False, "prefer"), "not_encrypted"),
        (Link("db", "10.0.0.5", True, "require"), "server_not_verified"),
        (Link("db", "10.0.0.5", True, "prefer"), "server_not_verified"),
        (Link("db", "10.0.0.5", True, "verify-full"), None),
    ],
)
def test_a_connection_that_others_can_read(link: Link, expected: str | None) -> None:
    assert [each.code for each in decide_link(link)] == ([expected] if expected else [])


def test_a_server_that_this_package_does_not_work_with(database: Database) -> None:
    with Looks(database) as looks:
        server = looks.examine_server()
    old = server._replace(version_number=130_012, version="13.12", encoding="LATIN1")
    found = {each.code for each in decide_server(old, DEFAULT)}
    assert found == {"server_too_old", "encoding_not_utf8"}


# A pooler in between


@pytest.fixture
def pooler(own_server: EmbeddedServer) -> Iterator[str]:
    """The URL of a pgbouncer that pools transactions, and carries no prepared statements."""
    with transaction_pooler(own_server.url) as url:
        yield url


def test_a_pooler_in_transaction_mode_is_detected_and_its_settings_help(
    own_server: EmbeddedServer, pooler: str
) -> None:
    conninfo = parse_url(pooler)
    assert codes(Database(conninfo, Options())) == ["listen_not_heard", "prepared_statements_lost"]
    around = Options(listen_url=Target(own_server.url))
    assert codes(Database(conninfo, around)) == ["prepared_statements_lost"]
    assert codes(Database(conninfo, Options(listen=False, prepare=False))) == []

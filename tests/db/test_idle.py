"""Connections that nobody uses are closed, and a server without a place for one is waited for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from celery import Celery
from celery._state import _task_stack
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgjobs_celery.config import Options
from pgjobs_celery.db import places
from pgjobs_celery.db.database import Database, get_database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.failures import is_full
from pgjobs_celery.errors import ConnectionFailed

from ..broker.test_transport_processes import in_child
from ..conftest import Connection
from ..support.waiting import wait_for


@pytest.fixture
def make(url: str) -> Iterator[Callable[..., Database]]:
    """A factory of databases as a process sees them; keywords are options."""
    made: list[Database] = []

    def make(conninfo: str = "", **options: Any) -> Database:
        made.append(Database(conninfo or parse_url(url), Options(**options)))
        return made[-1]

    yield make
    for database in made:
        database.close()


def pid(database: Database) -> int:
    """The session that the next statement goes over."""
    with database.connection() as connection:
        return connection.psycopg.info.backend_pid


def is_there(connection: Connection, session: int) -> bool:
    query = "SELECT FROM pg_stat_activity WHERE pid = %s"
    return bool(connection.execute(query, [session]).rowcount)


def closers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "pgjobs-idle"]


def test_a_connection_that_nobody_uses_is_closed(make: Any, connection: Connection):
    before = len(closers())
    database = make(idle_timeout=0.2)
    session = pid(database)
    wait_for(lambda: not is_there(connection, session))
    wait_for(lambda: len(closers()) <= before)
    assert len(database._idle) == 0
    again = pid(database)
    assert again != session
    wait_for(lambda: not is_there(connection, again))


def test_one_that_is_in_use_is_not(make: Any, connection: Connection):
    database = make(idle_timeout=0.1)
    with database.connection() as held:
        other = pid(database) if not database._idle else 0
        wait_for(lambda: not is_there(connection, other))
        assert held.run([database.call("ping")])
        assert is_there(connection, held.psycopg.info.backend_pid)


def test_those_that_are_not_needed_any_more_go_and_the_others_stay(
    make: Any, connection: Connection
):
    database = make(idle_timeout=0.5)
    with database.connection() as first, database.connection() as second:
        sessions = [each.psycopg.info.backend_pid for each in (first, second)]
    used = pid(database)
    (unused,) = {*sessions} - {used}

    def is_closed() -> bool:
        assert pid(database) == used  # and by that it stays
        return not is_there(connection, unused)

    wait_for(is_closed)


def test_none_is_closed_where_that_is_said(make: Any):
    before = len(closers())
    database = make(idle_timeout=0)
    session = pid(database)
    assert len(closers()) <= before
    assert pid(database) == session


def test_a_forked_child_closes_its_own(make: Any, url: str, connection: Connection):
    database = get_database(parse_url(url), Options(idle_timeout=0.2))
    mine = make(idle_timeout=0)
    session = pid(mine)
    pid(database)

    def child() -> None:
        pid(database)
        wait_for(lambda: len(database._idle) == 0)

    assert in_child(child) == 0
    assert is_there(connection, session)


# A full server


@pytest.fixture
def few(url: str, connection: Connection) -> Iterator[str]:
    """The conninfo of a role that may have one connection."""
    role = f"few_{uuid4().hex[:8]}"
    name = sql.Identifier(role)
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN CONNECTION LIMIT 1").format(name))
    connection.execute(sql.SQL("GRANT USAGE ON SCHEMA pgjobs TO {}").format(name))
    connection.execute(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA pgjobs TO {}").format(name))
    connection.execute(sql.SQL("GRANT ALL ON ALL SEQUENCES IN SCHEMA pgjobs TO {}").format(name))
    yield make_conninfo(parse_url(url), user=role)
    connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", [role]
    )
    connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
    connection.execute(sql.SQL("DROP ROLE {}").format(name))


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Any:
    """What this process says of a full server, as if for the first time."""
    monkeypatch.setattr(places, "_warned_at", -1e9)
    caplog.set_level(logging.WARNING)
    return lambda: [each.getMessage() for each in caplog.records if each.name == places.__name__]


def test_a_full_server_is_waited_for_and_that_is_said_once(make: Any, few: str, warned: Any):
    holder = psycopg.connect(few)
    database = make(few, connect_timeout=30)
    listening = threading.Event()

    def release() -> None:
        wait_for(warned)
        listening.set()
        holder.close()

    thread = threading.Thread(target=release)
    thread.start()
    assert database.fetch("ping")
    thread.join()
    assert listening.is_set()
    (warning,) = warned()
    assert "has no connection left: waiting for one, 30 s each time" in warning
    assert "raise max_connections" in warning


def test_it_is_not_waited_for_longer_than_for_a_server(make: Any, few: str, warned: Any):
    with psycopg.connect(few):
        database = make(few, connect_timeout=0.3)
        for _ in range(2):
            with pytest.raises(ConnectionFailed, match=r"too many connections for role.*pooler"):
                database.fetch("ping")
        with pytest.raises(ConnectionFailed, match="too many"):
            database.listen_for_results()
    assert len(warned()) == 1
    assert database.fetch("ping")


def test_one_that_another_thread_gives_back_will_do(make: Any, few: str, warned: Any):
    database = make(few, connect_timeout=30)
    found: list[int] = []
    with database.connection() as held:
        thread = threading.Thread(target=lambda: found.append(pid(database)))
        thread.start()
        wait_for(warned)
        session = held.psycopg.info.backend_pid
    thread.join()
    assert found == [session]


def test_while_it_is_full_nothing_idle_is_kept(make: Any, few: str, warned: Any, connection: Any):
    database = make(few, connect_timeout=0.2, idle_timeout=3600)
    with database.connection() as held:
        session = held.psycopg.info.backend_pid
        with pytest.raises(ConnectionFailed):
            database.listen_for_work()
    wait_for(lambda: not is_there(connection, session))


def test_a_task_waits_for_longer(make: Any, few: str, warned: Any, make_app: Callable[..., Celery]):
    database = make(few, connect_timeout=0.1)
    holder = psycopg.connect(few)
    task = make_app().task(database.fetch, name="task", shared=False)

    def release() -> None:
        wait_for(warned)
        holder.close()

    thread = threading.Thread(target=release)
    thread.start()
    # As a worker's process runs it.
    _task_stack.push(task)
    task.push_request(called_directly=False, is_eager=False)
    try:
        assert database.fetch("ping")
    finally:
        task.pop_request()
        _task_stack.pop()
        thread.join()
    assert "60 s each time" in warned()[0]


@pytest.mark.parametrize(
    "text",
    [
        "FATAL:  sorry, too many clients already",
        "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
        'FATAL:  too many connections for database "x"',
        "FATAL:  no more connections allowed (max_client_conn)",
        "FATAL:  MaxClientsInSessionMode: max clients reached - in Session mode",
        "FATAL:  Max client connections reached",
    ],
)
def test_what_servers_and_poolers_say_when_they_are_full(text: str):
    assert is_full(psycopg.OperationalError(text))
    assert not is_full(psycopg.OperationalError("FATAL:  password authentication failed"))

"""One Database for all in a process: a bounded pool, made anew after a fork, checked once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from pgjobs_celery.config import Options
from pgjobs_celery.db.connection import CONNECTION_ERRORS, Connection
from pgjobs_celery.db.database import Database, get_database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import SchemaMissing
from tests.support.rows import put, states
from tests.support.waiting import wait_for

pytestmark = pytest.mark.usefixtures("alone")


def pid(connection: Connection) -> int:
    return connection.psycopg.info.backend_pid


def sessions(database: Database) -> list[int]:
    """The server's sessions of this package in the database."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'pgjobs-celery'"
        )
        return [row[0] for row in rows]


def end_sessions(database: Database) -> None:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        for session in sessions(database):
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", (session,))


def sized(database: Database, size: int) -> Database:
    return Database(database.conninfo, replace(database.options, pool_size=size))


# -- the pool ------------------------------------------------------------------------------------


def test_nothing_is_connected_before_it_is_used():
    database = Database("host=nowhere.invalid", Options())
    parts = [
        database.jobs,
        database.claims,
        database.results,
        database.messages,
        database.routes,
        database.nodes,
    ]
    assert all(parts)
    database.close()


def test_the_last_connection_given_back_is_the_first_to_be_used(database):
    with database.connection() as first, database.connection() as second:
        assert pid(first) != pid(second)
    for _ in range(3):
        with database.connection() as again:
            assert again is first
            with database.connection() as other:
                assert other is second


def test_a_pool_never_has_more_than_its_size_and_waits_for_one(database):
    database = sized(database, 3)
    most, now, lock = 0, 0, threading.Lock()
    barrier = threading.Barrier(12)

    def use(_: int) -> int:
        nonlocal most, now
        barrier.wait()
        for _ in range(5):
            with database.connection() as connection:
                with lock:
                    now += 1
                    most = max(most, now)
                connection.run([database.call("next_due")])
                with lock:
                    now -= 1
        return 1

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(use, range(12))) == 12
    assert 1 <= most <= 3
    assert len(sessions(database)) <= 3
    database.close()


def test_threads_each_get_their_own_rows(database):
    def work(number: int) -> None:
        for index in range(20):
            put(database, f"{number}-{index}", queue=f"q{number}")
            assert database.jobs.count_ready(f"q{number}") == index + 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_an_error_in_the_block_gives_the_connection_back(database):
    database = sized(database, 1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), database.connection():
            raise ZeroDivisionError
        with pytest.raises(psycopg.errors.UndefinedTable), database.connection() as connection:
            connection.psycopg.execute("TABLE nowhere")
    with database.connection() as connection:
        assert connection.is_usable
    assert len(sessions(database)) == 1
    database.close()


def test_close_ends_the_sessions_and_the_next_use_begins_new_ones(database):
    with database.connection(), database.connection():
        pass
    assert len(sessions(database)) == 2
    database.close()
    wait_for(lambda: not sessions(database))
    database.verify()
    assert len(sessions(database)) == 1


# -- dead connections ----------------------------------------------------------------------------


def test_dead_connections_are_found_out_once_and_replaced(database):
    with database.connection(), database.connection(), database.connection():
        pass
    end_sessions(database)
    with pytest.raises(CONNECTION_ERRORS):
        database.claims.next_due()
    assert database.claims.next_due() is None


def test_what_may_run_twice_does_not_notice_a_restart(database, connection):
    with database.connection(), database.connection(), database.connection():
        pass
    end_sessions(database)
    put(database, "a")
    assert states(connection) == {"a": "available"}


def test_retrying_tries_a_lost_connection_once_more_and_nothing_else(database):
    def failing(error: Exception) -> Callable[[], None]:
        def work() -> None:
            tries.append(1)
            raise error

        return work

    for error, count in (
        (psycopg.OperationalError("cut"), 2),
        (psycopg.InterfaceError("cut"), 2),
        (psycopg.DataError("bad"), 1),
        (ValueError("bad"), 1),
    ):
        tries: list[int] = []
        with pytest.raises(type(error)):
            database.retrying(failing(error))
        assert len(tries) == count, error
    assert database.retrying(lambda: 7) == 7


# -- the schema ----------------------------------------------------------------------------------


def test_the_schema_is_checked_once(database, monkeypatch):
    checks = []
    monkeypatch.setattr(
        "pgjobs_celery.db.session.check_schema", lambda *args, **_: checks.append(args)
    )
    with database.connection(), database.connection():
        pass
    database.close()
    database.verify()
    assert len(checks) == 1


def test_a_missing_schema_is_said_each_time_until_it_is_there(make_database):
    database = Database(parse_url(make_database()), Options())
    for _ in range(2):
        with pytest.raises(SchemaMissing, match="pgjobs migrate"):
            database.verify()
    assert sessions(database) == []


def test_everybody_who_spells_it_alike_gets_the_same_one(database):
    conninfo, options = database.conninfo, Options()
    assert get_database(conninfo, options) is get_database(conninfo, Options())
    assert get_database(conninfo, replace(options, pool_size=3)) is not get_database(
        conninfo, options
    )
    assert database.key == get_database(conninfo, options).key
    assert database.key != Database(conninfo, Options(schema="other")).key
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: get_database("dbname=x", options), range(8)))) == 1


# -- forks ---------------------------------------------------------------------------------------


def in_child(work: Callable[[], None]) -> None:
    """Run ``work`` in a forked child; it must not raise."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            print(f"in the child: {error!r}")
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_a_forked_child_opens_its_own_connections_and_leaves_the_parents_alone(database):
    database = get_database(database.conninfo, Options(pool_size=2))
    try:
        with database.connection() as held, database.connection():
            pass
        before = set(sessions(database))

        def work() -> None:
            with database.connection() as connection, database.connection():
                assert pid(connection) not in before
            assert database.claims.next_due() is None
            held.close()

        with database.connection() as busy:
            in_child(work)
            assert busy.run([database.call("next_due")]) == [[]]
        assert before <= set(sessions(database))
        with database.connection() as connection:
            assert pid(connection) in before
    finally:
        database.close()


def test_a_child_holds_no_socket_of_the_parents(database):
    """Or the server would not see that the parent has died while the child lives."""
    database.verify()
    with database.connection() as connection:
        number = connection.fileno()
        target = os.readlink(f"/proc/self/fd/{number}")

        def work() -> None:
            held = []
            for name in os.listdir("/proc/self/fd"):
                try:
                    held.append(os.readlink(f"/proc/self/fd/{name}"))
                except OSError:
                    continue
            assert target not in held

        in_child(work)


def test_a_fork_while_threads_are_at_work_deadlocks_nobody(database):
    database = get_database(database.conninfo, Options(pool_size=2))
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            database.claims.next_due()

    threads = [threading.Thread(target=busy) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(5):
            in_child(database.verify)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        database.close()


def test_a_connection_that_is_well_is_used_again(database: Database, connection):
    for _ in range(20):
        database.fetch("ping")
    with database.connection() as first:
        pass
    with database.connection() as second:
        assert second is first


def test_a_patient_thread_waits_for_a_connection_before_it_opens_another(database: Database):
    database.wait_for_idle(5)
    taken, free = threading.Event(), threading.Event()

    def hold() -> None:
        with database.connection():
            taken.set()
            free.wait(5)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(5)
    threading.Timer(0.05, free.set).start()
    with database.connection() as connection:
        assert connection.is_usable
    thread.join()
    assert len(database._idle) == 1


def test_a_rollback_leaves_prepared_statements_alone(database: Database):
    """psycopg has all of a session's forgotten, once it has prepared one of its own."""
    for _ in range(10):
        database.check()
    database.fetch("ping")
    with pytest.raises(RuntimeError), database.transaction():
        raise RuntimeError
    database.fetch("ping")

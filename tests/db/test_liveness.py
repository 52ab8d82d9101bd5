"""A process that waits for an answer asks whether one will come."""

from __future__ import annotations

import os
import signal
import threading
import time

import psycopg
import pytest

from pgjobs_celery.db.connection import Connection
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.liveness import ConnectionLost

from ..support.networks import TO_CLIENT, TO_SERVER, Network

pytestmark = pytest.mark.usefixtures("server")  # whose processes are stopped


def connect(url: str, ask_after: float = 0.3) -> Connection:
    return Connection(parse_url(url), connect_timeout=2, prepare=True, ask_after=ask_after)


@pytest.mark.parametrize("lost", [TO_SERVER, TO_CLIENT])
def test_a_connection_that_has_died_without_a_word_is_given_up(url: str, lost: str) -> None:
    with Network(url) as network:
        connection = connect(network.url)
        network.swallow(lost=(lost,))
        began = time.monotonic()
        with pytest.raises(ConnectionLost, match="vanished"):
            connection.psycopg.execute("SELECT 1")
        assert time.monotonic() - began < 20
        assert not connection.is_usable


def test_a_server_that_is_gone_is_asked_in_vain(url: str) -> None:
    with Network(url) as network:
        connection = connect(network.url)
        network.swallow()
        network.close()
        with pytest.raises(ConnectionLost):
            connection.psycopg.execute("SELECT 1")


def test_what_takes_long_is_waited_for(url: str) -> None:
    connection = connect(url, ask_after=0.1)
    assert connection.psycopg.execute("SELECT 1 FROM pg_sleep(1)").fetchall() == [(1,)]
    connection.close()


def test_what_waits_for_a_lock_is_waited_for(url: str) -> None:
    connection = connect(url, ask_after=0.1)
    with psycopg.connect(parse_url(url)) as other:
        other.execute("LOCK TABLE pgjobs.jobs")
        rows: list[object] = []
        thread = threading.Thread(
            target=lambda: rows.extend(connection.psycopg.execute("TABLE pgjobs.jobs LIMIT 1"))
        )
        thread.start()
        thread.join(0.6)
        assert thread.is_alive()
    thread.join(5)
    assert not thread.is_alive()
    assert connection.is_usable
    connection.close()


def test_a_process_of_the_server_that_hangs_is_given_up(url: str) -> None:
    connection = connect(url)
    pid = connection.psycopg.info.backend_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(ConnectionLost):
            connection.psycopg.execute("SELECT 1")
    finally:
        os.kill(pid, signal.SIGCONT)


def test_who_waits_can_be_cut_off(url: str) -> None:
    connection = connect(url)
    cutter = threading.Timer(0.2, connection.liveness.cut)
    cutter.start()
    with pytest.raises(psycopg.OperationalError):
        connection.psycopg.execute("SELECT pg_sleep(5)")
    assert not connection.is_usable
    cutter.join()


def test_a_connection_is_watched_where_psycopg_is_instrumented(url: str) -> None:
    """OpenTelemetry hands out connections of psycopg's own class, then and ever after."""
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.psycopg")
    instrumentor = instrumentation.PsycopgInstrumentor()
    instrumentor.instrument()
    try:
        with Network(url) as network:
            connection = connect(network.url)
            network.swallow(lost=(TO_CLIENT,))
            with pytest.raises(ConnectionLost, match="vanished"):
                connection.psycopg.execute("SELECT 1")
    finally:
        instrumentor.uninstrument()
    test_a_connection_that_has_died_without_a_word_is_given_up(url, TO_SERVER)

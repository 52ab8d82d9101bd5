"""A connection that cannot be made says where it led and what to do, within its time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgjobs_celery.config import Options
from pgjobs_celery.db.connection import CONNECTION_ERRORS, Connection
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.failures import CannotConnect, cause
from pgjobs_celery.embedded import EmbeddedServer
from pgjobs_celery.errors import ConnectionFailed, PgJobsError

from ..support.busyness import Stopwatch

HBA = """
local all postgres trust
host all app,full 127.0.0.1/32 scram-sha-256
"""


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """The connection string of a server that asks for passwords."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = EmbeddedServer(settings={"listen_addresses": "127.0.0.1", "port": port})
    server.start()  # its data are the account's own, and so must be what it reads
    hba = Path(server.data) / "pg_hba.conf"
    hba.write_text(HBA)
    try:
        with psycopg.connect(parse_url(server.url), autocommit=True) as connection:
            connection.execute("CREATE ROLE app LOGIN PASSWORD 'right'")
            connection.execute("CREATE ROLE \"full\" LOGIN PASSWORD 'right' CONNECTION LIMIT 0")
            connection.execute("SELECT pg_reload_conf()")

        def conninfo(**params: object) -> str:
            return make_conninfo(host="127.0.0.1", port=port, dbname="postgres", **params)

        yield conninfo
    finally:
        server.close()


def failure(conninfo: str, timeout: float = 4.0) -> str:
    with pytest.raises(CannotConnect) as caught:
        Connection(conninfo, connect_timeout=timeout, prepare=True)
    error = caught.value
    assert isinstance(error, ConnectionFailed)
    assert isinstance(error, PgJobsError)
    assert isinstance(error, CONNECTION_ERRORS)
    assert "secret" not in f"{error} {error!r}"
    assert error.__suppress_context__
    return str(error)


def test_the_right_password_is_let_in(strict):
    Connection(strict(user="app", password="right"), connect_timeout=4, prepare=True).close()


def test_a_wrong_password(strict):
    text = failure(strict(user="app", password="secret"))
    assert "at app@127.0.0.1:" in text
    assert "password authentication failed" in text
    assert "check the user and the password in the URL" in text


def test_no_password(strict, monkeypatch, tmp_path):
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    assert "put the password into the URL, or use a service" in failure(strict(user="app"))


def test_a_user_whom_the_server_does_not_let_in_from_here(strict):
    text = failure(strict(user="stranger", password="secret"))
    assert "no pg_hba.conf entry" in text
    assert "let pg_hba.conf accept this user" in text


def test_no_connection_left(strict):
    text = failure(strict(user="full", password="right"))
    assert "raise max_connections, or put a pooler in between" in text


def test_an_unknown_database(server_url):
    text = failure(make_conninfo(server_url, dbname="nowhere", password="secret"))
    assert 'database "nowhere" does not exist' in text
    assert "create it, or correct the name in the URL" in text


def test_an_unknown_role(server_url):
    text = failure(make_conninfo(server_url, user="nobody_of_that_name", password="secret"))
    assert "nobody_of_that_name" in text


def test_a_refused_connection():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = failure(f"user=app password=secret host=127.0.0.1 port={port} dbname=d")
    assert f"at app@127.0.0.1:{port}/d: " in text
    assert "is the server running, and is this its host and port?" in text


def test_a_socket_directory_without_a_server(tmp_path):
    text = failure(f"host={tmp_path} dbname=d user=app password=secret")
    assert "is this its socket directory?" in text


def test_an_unknown_host():
    text = failure("host=nowhere.invalid dbname=d user=app password=secret")
    assert "check the host name in the URL" in text


def test_a_server_that_never_answers_takes_no_longer_than_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        conninfo = f"host=127.0.0.1 port={mute.getsockname()[1]} password=secret"
        watch = Stopwatch()
        assert "is the server reachable from here" in failure(conninfo, timeout=2)
        assert watch.elapsed() > 1.9
        assert watch.own() < 3.5


def test_a_timeout_in_the_url_goes_before_ours():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        conninfo = f"host=127.0.0.1 port={mute.getsockname()[1]} connect_timeout=2"
        began = time.monotonic()
        failure(conninfo, timeout=60)
        assert time.monotonic() - began < 30


def test_a_server_that_hangs_up_is_a_failed_connection():
    with socket.create_server(("127.0.0.1", 0)) as rude:
        conninfo = f"host=127.0.0.1 port={rude.getsockname()[1]} password=secret user=u"

        def hang_up() -> None:
            rude.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        assert "cannot connect to PostgreSQL at u@127.0.0.1" in failure(conninfo)


def test_no_second_connection_is_tried_where_none_could_be_made():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    database = Database(f"host=127.0.0.1 port={port}", Options())
    tries = []

    def work() -> None:
        tries.append(1)
        database.fetch("next_due")

    with pytest.raises(CannotConnect):
        database.retrying(work)
    assert len(tries) == 1


def test_what_the_server_said_is_one_line_with_its_detail(connection):
    connection.execute("CREATE TEMP TABLE t (v int PRIMARY KEY)")
    connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        connection.execute("INSERT INTO t VALUES (1)")
    assert cause(caught.value) == (
        'duplicate key value violates unique constraint "t_pkey". Key (v)=(1) already exists.'
    )

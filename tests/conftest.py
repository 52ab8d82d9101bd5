"""A real PostgreSQL for every test: PGJOBS_TEST_DSN, or an embedded server for the session."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import hypothesis
import kombu
import psycopg
import pytest
from celery import Celery
from kombu import pools
from psycopg import sql
from psycopg.rows import dict_row

from pgjobs_celery import embedded
from pgjobs_celery.config import Options
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.embedded import EmbeddedServer
from pgjobs_celery.node.nodes import close_nodes
from pgjobs_celery.publishing.laning import forget_rules

from .support.memory import find_memory
from .support.order import in_order_of_work

DSN = os.environ.get("PGJOBS_TEST_DSN", "")
#: More settings of the embedded server: ``PGJOBS_TEST_SETTINGS="work_mem=1MB jit=off"``. With
#: parallel plans forced: ``debug_parallel_query=on parallel_setup_cost=0 parallel_tuple_cost=0
#: min_parallel_table_scan_size=0 min_parallel_index_scan_size=0``.
SETTINGS = dict(
    setting.split("=", 1) for setting in os.environ.get("PGJOBS_TEST_SETTINGS", "").split()
)
#: The folder of another PostgreSQL's programs, to run the tests on: /usr/lib/postgresql/17/bin.
PROGRAMS = os.environ.get("PGJOBS_TEST_PROGRAMS", "")
if PROGRAMS:
    embedded._find_programs = lambda: Path(PROGRAMS)
REDIS_URL = os.environ.get("PGJOBS_TEST_REDIS_URL", "redis://127.0.0.1:6379/11")
RABBITMQ_URL = os.environ.get("PGJOBS_TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has it ignored by what it runs in the background, and what that runs in turn.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Hundreds of interpreters are started: without this each of them compiles the package and the tests
# again, a quarter of a second each.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# All temporary folders, so those of every server as well: ``TMPDIR=/tmp`` has them on the disk.
if "TMPDIR" not in os.environ and (memory := find_memory()):
    os.environ["TMPDIR"] = str(memory)
    tempfile.tempdir = None

# A quarter of the time that it takes to import all tests goes into looking for garbage among them.
gc.disable()

# How long an example takes says more of the machine, and of what else runs on it.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")

#: What a test may have put something into.
TABLES = (
    "jobs",  # first: see _empty()
    "messages",
    "queues",
    "exchanges",
    "bindings",
    "nodes",
    "limits",
    "slots",
    "groups",
    "entries",
    "steps",
    "waits",
    "signals",
    "receipts",
    "audit",
    "schedules",
    "totals",
    "history",
    "tally",
    "flows",
    "gates",
    "lanes",
    "arrivals",
    "rounds",
    "weights",
    "pauses",
    "lines",
)

#: A table of up to this size is emptied row by row; what is left behind is soon used again.
FEW_BYTES = 128 * 1024

Connection = psycopg.Connection[dict[str, Any]]


def pytest_xdist_auto_num_workers() -> int | None:
    """Three processes for each processor (``-n logical``): most of the time is spent waiting."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return 3 * (os.cpu_count() or 1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give out the longest files first, and tests that wait beside those that compute."""
    if hasattr(config, "workerinput"):  # of several processes
        items[:] = in_order_of_work(items)


def pytest_collection_finish() -> None:
    """Collect garbage again, but never look at what the collection of tests has left."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """The embedded server itself, for tests that restart it."""
    if DSN:
        pytest.skip("restarts the server, and PGJOBS_TEST_DSN names one that is not ours")
    # What a server that crashes has written is in the system's hands: nothing must reach the disk.
    # Its log is kept in memory, and is short.
    settings = {"max_connections": 200, "fsync": "off", "max_wal_size": "256MB"}
    with EmbeddedServer(settings={**settings, "checkpoint_warning": 0, **SETTINGS}) as server:
        yield server


@pytest.fixture
def brief_server(server: EmbeddedServer) -> EmbeddedServer:
    """``server``, to be crashed: it recovers what this test has written, not all tests before."""
    url = server.url.replace("pgjobs://", "postgresql://", 1)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    return server


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> str:
    """Where databases may be created: a ``postgresql://`` URI."""
    if DSN:
        return DSN
    url: str = request.getfixturevalue("server").url
    return url.replace("pgjobs://", "postgresql://", 1)


@pytest.fixture(scope="session")
def make_database(server_url: str) -> Iterator[Callable[..., str]]:
    """A factory of databases, empty or as another is; each call gives a ``pgjobs://`` URL."""
    names: list[str] = []

    def make_database(template: str = "template1") -> str:
        name = f"pgjobs_test_{uuid4().hex[:12]}"
        # A new connection each time: a test may have restarted the server.
        with psycopg.connect(server_url, autocommit=True) as connection:
            create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        names.append(name)
        return urlunsplit(urlsplit(server_url)._replace(scheme="pgjobs", path=f"/{name}"))

    yield make_database
    close_nodes()
    for session in _sessions.values():
        session.close()
    if not DSN:
        return  # they go with the server; dropping them one by one takes half a minute
    with psycopg.connect(server_url, autocommit=True) as connection:
        for name in names:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )


@pytest.fixture
def bare_database(make_database: Callable[[], str]) -> str:
    """The conninfo of a database with nothing in it, no schema either."""
    return parse_url(make_database())


@pytest.fixture(scope="session")
def make_migrated(make_database: Callable[..., str]) -> Callable[[], str]:
    """A factory of migrated databases, in a tenth of the time that it takes to migrate each."""
    url = make_database()
    with migrations.session(parse_url(url)) as connection:
        migrations.migrate(connection, "pgjobs")
    # Nobody connects to this one: it could not be copied meanwhile.
    return lambda: make_database(urlsplit(url).path.strip("/"))


@pytest.fixture(scope="session")
def database_url(make_migrated: Callable[[], str]) -> str:
    """A migrated database that all tests of this run share."""
    return make_migrated()


@pytest.fixture
def url(database_url: str) -> str:
    """The broker and backend URL of a migrated database with nothing in it."""
    empty_database(database_url)
    return database_url


def empty_database(url: str) -> None:
    """Remove what earlier tests have put into the tables."""
    forget_rules()
    close_nodes()  # one whose row has gone may claim nothing until its next heartbeat
    try:
        _empty(_emptying(url))
    except psycopg.OperationalError:
        if not _emptying(url).broken:
            raise
        # A test has restarted the server, or ended all of its sessions.
        del _sessions[url]
        _empty(_emptying(url))


#: The session that empties a database, by its URL. A new one reads all about the tables first,
#: which takes longer than the shortest tests.
_sessions: dict[str, psycopg.Connection[Any]] = {}


def _emptying(url: str) -> psycopg.Connection[Any]:
    """The session that empties this database."""
    if url not in _sessions:
        _sessions[url] = psycopg.connect(
            parse_url(url), autocommit=True, application_name="pgjobs-tests"
        )
    return _sessions[url]


def _empty(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction():
        # Who still holds a lock is a worker that an earlier test forgot.
        connection.execute("SET LOCAL lock_timeout = '5s'")
        connection.execute(f"LOCK TABLE {', '.join(f'pgjobs.{table}' for table in TABLES)}")
        # What is deleted from jobs may be written down in others.
        for tables in (TABLES[:1], TABLES[1:]):
            looks = [
                f"pg_table_size('pgjobs.{each}'), EXISTS (TABLE pgjobs.{each})" for each in tables
            ]
            found = connection.execute(f"SELECT {', '.join(looks)}").fetchone() or ()
            # To truncate all takes 35 ms, most of it for making the files of the indexes.
            for table, size, is_used in zip(tables, found[::2], found[1::2], strict=True):
                if is_used or size > FEW_BYTES:
                    verb = "TRUNCATE" if size > FEW_BYTES else "DELETE FROM"
                    connection.execute(f"{verb} pgjobs.{table}")


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """A plain connection to the database, autocommit, rows as dicts."""
    with psycopg.connect(parse_url(url), autocommit=True, row_factory=dict_row) as connection:
        yield connection


@pytest.fixture
def alone(url: str) -> None:
    """No session that an earlier test has left open, for tests that count them."""
    with psycopg.connect(parse_url(url), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'pgjobs-celery'"
        )


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """A test leaves none of its own behind: a worker in this process, and Django, set some.

    With a new name in it each worker of the tests after it would be started anew, not forked.
    """
    before = dict(os.environ)
    yield
    for name in {*before, *os.environ}:
        if os.environ.get(name) != before.get(name) and not name.startswith("PYTEST_"):
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """The database as one process sees it, with a pool of its own."""
    database = Database(parse_url(url), Options())
    yield database
    database.close()


@pytest.fixture
def make_app(url: str) -> Iterator[Callable[..., Celery]]:
    """A factory of Celery apps on the database; keywords are settings."""
    apps: list[Celery] = []

    def make_app(name: str = "tests", **conf: Any) -> Celery:
        app = Celery(name, broker=url, backend=url, set_as_current=False)
        app.conf.update(conf)
        apps.append(app)
        return app

    yield make_app
    for app in apps:
        close_app(app)


@pytest.fixture
def connect(url: str) -> Iterator[Callable[..., kombu.Connection]]:
    """A factory of kombu connections to the database; keywords are transport options."""
    connections: list[kombu.Connection] = []

    def connect(broker: str = "", **transport_options: Any) -> kombu.Connection:
        connections.append(kombu.Connection(broker or url, transport_options=transport_options))
        return connections[-1]

    yield connect
    for each in connections:
        each.release()


@pytest.fixture
def broker(connect: Callable[..., kombu.Connection]) -> kombu.Connection:
    """A kombu connection to the database."""
    return connect()


@pytest.fixture(params=["pgjobs", pytest.param("redis", marks=pytest.mark.peer)])
def either(request: pytest.FixtureRequest, url: str) -> Iterator[Callable[..., Celery]]:
    """A factory of apps whose backend is ours, or Redis: the same is asserted of both."""
    backend = url if request.param == "pgjobs" else request.getfixturevalue("redis_url")
    apps: list[Celery] = []

    def make_app(**conf: Any) -> Celery:
        app = Celery("tests", broker=url, backend=backend, set_as_current=False)
        app.conf.update(result_expires=60, **conf)
        apps.append(app)
        return app

    yield make_app
    for app in apps:
        close_app(app)


def close_app(app: Celery) -> None:
    """Close every connection of an app that stays imported."""
    # kombu's pools are shared by all apps with the same URL, and a closed one stays closed.
    pools.reset()
    app.close()
    app.amqp._producer_pool = None
    # Celery keeps its backend, one per thread if need be: the next test may lead it elsewhere.
    backend = app._backend_cache or getattr(app._local, "backend", None)
    close = getattr(backend, "close", None)
    if close:
        close()
    app._backend_cache = None
    vars(app._local).pop("backend", None)


@pytest.fixture(scope="session")
def redis_url() -> str:
    """A Redis to compare with, or to come from."""
    return _reachable(REDIS_URL, 6379, "Redis", "PGJOBS_TEST_REDIS_URL")


@pytest.fixture(scope="session")
def rabbitmq_url() -> str:
    """A RabbitMQ to compare with, or to come from."""
    return _reachable(RABBITMQ_URL, 5672, "RabbitMQ", "PGJOBS_TEST_RABBITMQ_URL")


def _reachable(url: str, port: int, name: str, variable: str) -> str:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or port), timeout=1).close()
    except OSError as error:
        pytest.skip(f"no {name} at {parts.hostname}:{parts.port or port} ({error}); {variable}")
    return url

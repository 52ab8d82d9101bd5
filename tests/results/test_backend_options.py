"""Where the backend connects to, how it is set, and what it says when there is nobody."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from celery import Celery
from celery.exceptions import BackendGetMetaError, BackendStoreError
from psycopg import sql

from pgjobs_celery.db.database import CONNECTION_ERRORS
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.errors import InvalidOption, PgJobsError
from pgjobs_celery.results.backend import PgBackend

from ..conftest import Connection, close_app
from ..support.holders import hold

MakeApp = Callable[..., Celery]

#: Nobody listens there.
NOBODY = "pgjobs://app:s3cret@127.0.0.1:1/app"


@pytest.fixture
def make_backend() -> Iterator[Callable[..., PgBackend]]:
    """A factory of the backends of apps; keywords are settings."""
    apps: list[Celery] = []

    def make_backend(url: str, broker: str | None = None, **conf: Any) -> PgBackend:
        app = Celery("tests", broker=broker or url, backend=url, set_as_current=False)
        app.conf.update(conf)
        apps.append(app)
        backend: PgBackend = app.backend
        return backend

    yield make_backend
    for app in apps:
        close_app(app)


MakeBackend = Callable[..., PgBackend]


@pytest.mark.parametrize(
    "url",
    [
        "pgjobs://app:s3cret@db:5433/app",
        "pgjobs+postgresql://app:s3cret@db:5433/app",
        "pgjobs://app@db:5433/app?password=s3cret",
        "pgjobs://app:s3cret@db:5433/app?sslmode=require&sslpassword=s3cret",
    ],
)
def test_the_uri_never_shows_a_password(make_backend: MakeBackend, url: str):
    backend = make_backend(url)
    for shown in (
        backend.as_uri(), backend.as_uri(include_password=True), repr(backend),
        repr(backend.database), str(vars(backend.database).get("key")),
    ):  # fmt: skip
        assert "s3cret" not in shown
    assert backend.as_uri() == "pgjobs://app@db:5433/app"


def test_the_backend_is_found_by_its_scheme(make_backend: MakeBackend, url: str):
    assert type(make_backend(url)) is PgBackend
    long = url.replace("pgjobs://", "pgjobs+postgresql://", 1)
    backend = make_backend(long)
    assert type(backend) is PgBackend
    assert backend.get_state("x") == "PENDING"


def test_backend_and_broker_share_their_connections(make_app: MakeApp):
    app = make_app()
    assert app.backend.database is app.connection_for_write().transport.database


def test_options_are_the_brokers_where_there_are_none(make_app: MakeApp):
    app = make_app(broker_transport_options={"pool_size": 3, "poll_interval": 0.5})
    assert app.backend.database.options.pool_size == 3
    assert app.backend.database is app.connection_for_write().transport.database


def test_options_of_the_backend_come_first(make_app: MakeApp):
    app = make_app(
        broker_transport_options={"pool_size": 3, "poll_interval": 0.5},
        result_backend_transport_options={"pool_size": 4},
    )
    options = app.backend.database.options
    assert (options.pool_size, options.poll_interval) == (4, 0.5)


def test_options_of_another_backend_do_not_matter(make_app: MakeApp):
    app = make_app(
        result_backend_transport_options={
            "visibility_timeout": 3600, "master_name": "m", "retry_policy": {"timeout": 5.0},
        },
    )  # fmt: skip
    assert app.backend.get_state("x") == "PENDING"


def test_an_option_that_cannot_be_used_is_refused(make_app: MakeApp):
    with pytest.raises(InvalidOption, match="pool_size"):
        make_app(result_backend_transport_options={"pool_size": "many"}).backend  # noqa: B018


def test_a_result_is_written_whatever_options_differ(make_app: MakeApp, connection: Connection):
    app = make_app(result_backend_transport_options={"pool_size": 4})
    result = app.send_task("work")
    app.backend.mark_as_done(result.id, 1, hold(app))
    assert result.get(timeout=5) == 1
    (row,) = connection.execute("SELECT state, claimed_by FROM pgjobs.jobs").fetchall()
    assert (row["state"], row["claimed_by"]) == ("completed", None)


def test_results_may_stand_in_a_schema_of_their_own(make_app: MakeApp, url: str):
    with migrations.session(parse_url(url)) as connection:
        migrations.migrate(connection, "results")
    try:
        app = make_app(result_backend_transport_options={"schema": "results"})
        result = app.send_task("work")
        held = hold(make_app())
        app.backend.mark_as_done(result.id, 1, held)
        assert result.get(timeout=5) == 1
        assert make_app().AsyncResult(result.id).state == "PENDING"
    finally:
        app.backend.database.close()
        app.backend.close()
        with psycopg.connect(parse_url(url), autocommit=True) as plain:
            plain.execute("SET lock_timeout = '5s'")
            plain.execute("DROP SCHEMA results CASCADE")


@pytest.mark.peer
def test_the_backend_serves_a_broker_that_is_not_ours(
    make_backend: MakeBackend, url: str, redis_url: str, connection: Connection
):
    backend = make_backend(url, broker=redis_url)
    backend.store_result("theirs", {"done": 1}, "PROGRESS")
    assert backend.get_state("theirs") == "PROGRESS"
    backend.mark_as_done("theirs", 5)
    assert backend.app.AsyncResult("theirs").get(timeout=5) == 5
    (row,) = connection.execute("SELECT state, message FROM pgjobs.jobs").fetchall()
    assert (row["state"], row["message"]) == ("completed", None)


def test_a_copy_in_another_process_is_the_same_backend(make_app: MakeApp):
    app = make_app()
    app.backend.mark_as_done("mine", 5)
    previous = app.set_current() or None
    try:
        copy = pickle.loads(pickle.dumps(app.backend))
        result = pickle.loads(pickle.dumps(app.AsyncResult("mine")))
    finally:
        Celery("none").set_default()
    assert previous is None
    assert type(copy) is PgBackend
    assert copy.database is app.backend.database
    assert result.get(timeout=5) == 5


def test_all_threads_share_one_backend(make_app: MakeApp):
    app = make_app()
    backends: list[Any] = [app.backend]
    threads = [threading.Thread(target=lambda: backends.append(app.backend)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(backend) for backend in backends}) == 1


# Nobody there


def test_a_server_that_is_not_there_is_named_without_the_password(make_backend: MakeBackend):
    backend = make_backend(NOBODY)
    for call in (
        lambda: backend.get_state("x"),
        lambda: backend.mark_as_done("x", 1),
        lambda: backend.forget("x"),
        lambda: backend.app.AsyncResult("x").get(timeout=0),
    ):
        with pytest.raises(CONNECTION_ERRORS) as raised:
            call()
        assert "127.0.0.1" in str(raised.value)
        assert "s3cret" not in str(raised.value)
        cause = raised.value.__cause__ or raised.value.__context__
        assert "s3cret" not in f"{cause!r}"


def test_a_database_without_tables_says_what_to_do(
    make_backend: MakeBackend, make_database: Callable[[], str]
):
    backend = make_backend(make_database())
    with pytest.raises(PgJobsError, match=r"celery .*pgjobs migrate"):
        backend.get_state("x")


def test_retries_end_after_as_many_as_are_set(make_backend: MakeBackend):
    backend = make_backend(
        NOBODY, result_backend_always_retry=True, result_backend_max_retries=2,
        result_backend_base_sleep_between_retries_ms=1,
    )  # fmt: skip
    with pytest.raises(BackendGetMetaError):
        backend.get_state("x")
    with pytest.raises(BackendStoreError):
        backend.mark_as_done("x", 1)


def test_a_result_waits_for_a_server_that_comes_back(
    make_backend: MakeBackend, make_migrated: Callable[[], str]
):
    """``result_backend_always_retry``: refused connections first, then a server."""
    url = make_migrated()
    backend = make_backend(
        url, result_backend_always_retry=True, result_backend_base_sleep_between_retries_ms=1,
        result_backend_max_sleep_between_retries_ms=50,
    )  # fmt: skip
    backend.get_state("x")
    name = str(psycopg.conninfo.conninfo_to_dict(parse_url(url))["dbname"])
    admin = psycopg.conninfo.make_conninfo(parse_url(url), dbname="postgres")
    refused = threading.Event()
    is_safe = backend.exception_safe_to_retry

    def is_safe_to_retry(exc: Exception) -> bool:
        refused.set()
        return is_safe(exc)

    backend.exception_safe_to_retry = is_safe_to_retry  # type: ignore[method-assign]
    with psycopg.connect(admin, autocommit=True) as connection:
        allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format
        connection.execute(allow(sql.Identifier(name), sql.SQL("false")))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        thread = threading.Thread(target=backend.mark_as_done, args=["x", 5])
        thread.start()
        assert refused.wait(10)
        connection.execute(allow(sql.Identifier(name), sql.SQL("true")))
        thread.join(10)
    assert backend.app.AsyncResult("x").get(timeout=5) == 5


def test_what_is_no_lost_connection_is_not_tried_again(make_app: MakeApp):
    backend = make_app().backend
    assert backend.exception_safe_to_retry(psycopg.OperationalError())
    for error in (psycopg.DataError(), ValueError(), psycopg.errors.CheckViolation()):
        assert not backend.exception_safe_to_retry(error)


def test_a_backend_that_is_closed_opens_again(make_app: MakeApp):
    app = make_app()
    task_id = str(uuid4())
    app.backend.close()
    app.backend.database.close()
    app.backend.mark_as_done(task_id, 1)
    assert app.AsyncResult(task_id).get(timeout=5) == 1

"""``pgjobs+django://alias``: which database it stands for, and when that is looked up."""

from __future__ import annotations

import pickle
from typing import Any

import kombu
import pytest
from celery import Celery
from celery.exceptions import TimeoutError as CeleryTimeoutError
from psycopg.conninfo import conninfo_to_dict

from pgjobs_celery import jobs
from pgjobs_celery.config import Options
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.django_aliases import resolve
from pgjobs_celery.db.dsn import Target, describe, first_url, parse_url
from pgjobs_celery.errors import InvalidURL, PermissionMissing

from ..conftest import Connection, close_app
from ..support.rows import states
from .conftest import BROKER, new_app

db = pytest.importorskip("django.db")


@pytest.fixture
def settings(url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What DATABASES says of ``default``, to be changed for the test."""
    given: dict[str, Any] = db.connections.settings["default"]
    monkeypatch.setattr(db.connections["default"], "settings_dict", {**given})
    changed: dict[str, Any] = db.connections["default"].settings_dict
    return changed


# The URL


@pytest.mark.parametrize(
    ("url", "alias"),
    [
        ("pgjobs+django://default", "default"),
        ("pgjobs+django://", "default"),
        ("django://jobs", "jobs"),
        ("pgjobs+django://two%20words", "two words"),
    ],
)
def test_a_url_names_an_alias(url: str, alias: str):
    assert parse_url(url) == f"django://{alias}"
    assert describe(parse_url(url)) == f"the Django alias {alias}"


@pytest.mark.parametrize(
    "url", ["pgjobs+django://app:s3cret@db/app", "pgjobs+django://default?sslmode=require"]
)
def test_a_url_that_says_more_is_refused_without_its_secrets(url: str):
    with pytest.raises(InvalidURL, match="stand in Django's DATABASES") as raised:
        parse_url(url)
    assert "s3cret" not in str(raised.value)


def test_broker_and_backend_are_one_database_and_show_the_alias(app: Celery):
    broker = app.connection_for_write()
    clone = pickle.loads(pickle.dumps(broker)).clone()
    assert broker.transport.database is clone.transport.database is app.backend.database
    assert {broker.as_uri(), clone.as_uri(), app.backend.as_uri()} == {BROKER}
    assert pickle.loads(pickle.dumps(Target(BROKER))).uri == BROKER
    assert first_url(["redis://", BROKER]) == BROKER


# The settings


def test_libpq_gets_what_it_knows_of_the_settings(settings: dict[str, Any]):
    settings.update(PASSWORD="hush hush", PORT=6543, HOST="db")
    settings["OPTIONS"] = {
        "sslmode": "require",
        "connect_timeout": 3,
        "options": "-c jit=off",
        "assume_role": "the owner",
        "isolation_level": 2,
        "server_side_binding": True,
    }
    assert conninfo_to_dict(resolve("django://default")) == {
        "dbname": settings["NAME"],
        "user": settings["USER"],
        "password": "hush hush",
        "host": "db",
        "port": "6543",
        "client_encoding": "UTF8",
        "sslmode": "require",
        "connect_timeout": "3",
        "options": "-c jit=off -c role=the\\ owner",
    }


def test_the_role_of_the_alias_is_assumed(settings: dict[str, Any], connection: Connection):
    connection.execute("DROP ROLE IF EXISTS pgjobs_test_reader")
    connection.execute("CREATE ROLE pgjobs_test_reader NOLOGIN")
    settings["OPTIONS"] = {"assume_role": "pgjobs_test_reader"}
    try:
        with pytest.raises(PermissionMissing, match="role pgjobs_test_reader may not use schema"):
            Database("django://default", Options()).verify()
    finally:
        connection.execute("DROP ROLE pgjobs_test_reader")


def test_a_server_that_is_not_there_is_named_without_the_password(settings: dict[str, Any]):
    settings.update(HOST="127.0.0.1", PORT="2", USER="shop", PASSWORD="hush")
    with pytest.raises(Exception, match=r"cannot connect to PostgreSQL at shop@127.0.0.1:2/") as e:
        kombu.Connection(BROKER).transport.database.verify()
    assert "hush" not in str(e.value)


@pytest.mark.parametrize(
    ("alias", "reason"),
    [
        ("shop", "there is no database 'shop' in Django's settings; DATABASES has default, "),
        ("lite", "the database 'lite' in Django's settings is not PostgreSQL but has the ENGINE "),
    ],
)
def test_an_alias_that_cannot_have_jobs_is_refused(url: str, alias: str, reason: str):
    app = new_app(f"pgjobs+django://{alias}")
    try:
        with pytest.raises(InvalidURL, match=reason):
            app.tasks["add"].delay(1, 1)
        with pytest.raises(InvalidURL, match=reason):
            app.connection_for_write().transport.database.verify()
    finally:
        close_app(app)


def test_an_alias_that_is_gone_keeps_no_other_result_from_being_waited_for(url: str, app: Celery):
    """A process has used an alias that Django's settings do not have, or have no longer."""
    elsewhere = new_app("pgjobs+django://elsewhere")
    try:
        with pytest.raises(InvalidURL):
            elsewhere.tasks["add"].delay(1, 1)
        result = app.tasks["add"].delay(2, 2)
        with pytest.raises(CeleryTimeoutError):
            result.get(timeout=0.01)
    finally:
        close_app(elsewhere)


# The test runner


def test_an_app_that_was_made_before_goes_to_the_test_database(app: Celery, connection: Connection):
    """The real one has no more jobs afterwards, and the test database can be dropped."""
    real = app.tasks["add"].delay(1, 1)
    name = db.connection.settings_dict["NAME"]
    db.connection.creation.create_test_db(verbosity=0)
    try:
        assert jobs(app).count() == 0
        result = app.tasks["add"].delay(2, 2)
        assert jobs(app).get(result).args == [2, 2]
        with pytest.raises(CeleryTimeoutError):
            result.get(timeout=0.01)
        db.connection.creation.clone_test_db("1", verbosity=0)
        assert jobs(app).count() == 1
        db.connection.creation.destroy_test_db(suffix="1", verbosity=0)
    finally:
        db.connection.creation.destroy_test_db(name, verbosity=0)
    assert jobs(app).get(result) is None
    assert states(connection) == {real.id: "available"}

"""Django in this process, on a database of its own that ``manage.py migrate`` has made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from celery import Celery
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from pgjobs_celery import PgTask
from pgjobs_celery.db.dsn import parse_url

from ..conftest import Connection, close_app, empty_database

django = pytest.importorskip("django")

BROKER = "pgjobs+django://default"


def database_settings(url: str) -> dict[str, Any]:
    """A database as Django's DATABASES has it."""
    params = conninfo_to_dict(parse_url(url))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": params["dbname"],
        "USER": params.get("user", ""),
        "PASSWORD": params.get("password", ""),
        "HOST": params.get("host", ""),
        "PORT": params.get("port", ""),
    }


@pytest.fixture(scope="session")
def django_url(make_database: Callable[[], str]) -> str:
    """The database of the alias ``default``, migrated; Django is set up."""
    from django.conf import settings
    from django.core.management import call_command

    url = make_database()
    default = database_settings(url)
    settings.configure(
        DATABASES={
            "default": default,
            # The same database, as another user of the settings might name it.
            "again": {**default, "AUTOCOMMIT": False},
            "lite": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
        },
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
        ],
        USE_TZ=True,
        SECRET_KEY="tests",
    )
    django.setup()
    from pgjobs_celery.db import migrations

    with migrations.session(parse_url(url)) as connection:
        migrations.migrate(connection, "pgjobs")
    call_command("migrate", verbosity=0)
    return url


@pytest.fixture
def url(django_url: str) -> Iterator[str]:
    """As everywhere, with nothing in the tables; Django's connections are closed afterwards."""
    from django.db import connections

    empty_database(django_url)
    yield django_url
    connections.close_all()


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """A plain connection, to see what others see."""
    with psycopg.connect(parse_url(url), autocommit=True, row_factory=dict_row) as connection:
        yield connection


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    """An app whose broker and backend are on the alias."""
    app = Celery("shop", broker=BROKER, backend=BROKER, set_as_current=False)

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="once", base=PgTask, unique=True)
    def once(x: int) -> int:
        return x

    yield app
    close_app(app)

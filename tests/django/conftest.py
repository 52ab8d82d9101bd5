"""Django in this process, on a database of its own that ``manage.py migrate`` has made."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from celery import Celery, _state
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from pgjobs_celery import PgTask
from pgjobs_celery.db.dsn import parse_url

from ..conftest import Connection, close_app, empty_database

django = pytest.importorskip("django")

if os.environ.get("PGJOBS_TEST_DJANGO_DRIVER") == "psycopg2":
    # Django takes psycopg where it can be imported, and here it always can.
    module = sys.modules.pop("psycopg")
    sys.modules["psycopg"] = None  # type: ignore[assignment]
    from django.db.backends.postgresql.base import Database

    sys.modules["psycopg"] = module
    assert Database.__name__ == "psycopg2"

BROKER = "pgjobs+django://default"

#: The app of the test that calls a view.
producer: dict[str, Celery] = {}


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
    processors = ("template.context_processors.request", "contrib.auth.context_processors.auth")
    settings.configure(
        DATABASES={
            "default": {**default, "ATOMIC_REQUESTS": True},
            # The same database, in other ways.
            "manual": {**default, "AUTOCOMMIT": False},
            # REPEATABLE READ to psycopg, SERIALIZABLE to psycopg2.
            "strict": {**default, "OPTIONS": {"isolation_level": 3}},
            "lite": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
        },
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
            "pgjobs_celery.django",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        *(f"django.{name}" for name in processors),
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        ALLOWED_HOSTS=["testserver"],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF="tests.django.views",
        SECRET_KEY="tests",
        USE_TZ=True,
    )
    django.setup()
    call_command("migrate", verbosity=0)
    return url


@pytest.fixture(autouse=True)
def no_current_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Celery app of an earlier test says where the jobs are, nor one of this of later ones."""
    monkeypatch.setattr(_state, "default_app", None)
    monkeypatch.setattr(_state._tls, "current_app", None)


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


def new_app(broker: str = BROKER) -> Celery:
    """An app whose broker and backend are on that alias, or whatever it is."""
    from celery.contrib.django.task import DjangoTask

    app = Celery("shop", broker=broker, backend=broker, set_as_current=False)

    @app.task(name="add", base=DjangoTask, shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="once", base=PgTask, unique=True, tags=["mail"], shared=False)
    def once(user_id: int) -> int:
        return user_id

    @app.task(name="look", shared=False)
    def look(alias: str) -> int:
        from django.db import connections

        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 7")
            return int(cursor.fetchone()[0])

    @app.task(name="total", shared=False)
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    return app


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    """The app, here as the producer."""
    producer["app"] = app = new_app()
    yield app
    close_app(app)


@pytest.fixture(scope="module")
def rendering(django_url: str) -> Iterator[None]:
    """What a page was made of is kept with it."""
    from django.test.utils import setup_test_environment, teardown_test_environment

    setup_test_environment()
    yield
    teardown_test_environment()


@pytest.fixture
def sign_in(url: str, rendering: None) -> Iterator[Any]:
    """A browser in which a member of the staff with these permissions is signed in."""
    from django.contrib.auth.models import Permission, User
    from django.test import Client

    def enter(*permissions: str) -> Any:
        user = User.objects.create_user("ada", is_staff=True, is_superuser=not permissions)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(user)
        return client

    yield enter
    User.objects.all().delete()


@pytest.fixture
def admin(sign_in: Any) -> Any:
    """The browser of who may do everything."""
    return sign_in()

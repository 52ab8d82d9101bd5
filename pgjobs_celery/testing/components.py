"""pytest-celery's components for pgjobs, with Docker: a PostgreSQL container as broker and backend.

- Features: broker, result backend, both on one server; restart and kill as of any node.
- Load it: ``pytest_plugins = ["pgjobs_celery.testing.components"]``.
- Fixtures: ``celery_pgjobs_broker`` and ``celery_pgjobs_backend`` for the parameters of
  ``celery_broker`` and ``celery_backend``; ``default_pgjobs_cls``, ``default_pgjobs_image``,
  ``default_pgjobs_env``, ``default_pgjobs_ports`` and ``default_pgjobs_command`` to override.
- The image of the workers needs ``pgjobs-celery[binary]``: see the how-to on testing.

:mod:`pgjobs_celery.testing.local_components` has the same without Docker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestBackend,
    CeleryTestBroker,
    CeleryTestContainer,
)
from pytest_docker_tools import container, fxtr

from ..db.scratch import migrate_database
from ..errors import ConnectionFailed

#: The names of the fixtures, for ``params``.
CELERY_PGJOBS_BROKER = "celery_pgjobs_broker"
CELERY_PGJOBS_BACKEND = "celery_pgjobs_backend"

PGJOBS_IMAGE = "postgres:17-alpine"
PGJOBS_PORTS = {"5432/tcp": None}
PGJOBS_ENV = {"POSTGRES_USER": "pgjobs", "POSTGRES_PASSWORD": "pgjobs", "POSTGRES_DB": "pgjobs"}
PGJOBS_CONTAINER_TIMEOUT = 60


class PgjobsContainer(CeleryTestContainer):
    """A container with a PostgreSQL server, whose database is migrated once it is ready."""

    _is_migrated = False

    @property
    def celeryconfig(self) -> dict[str, Any]:
        """The settings for broker and backend: ``url`` in the network of the containers,
        ``host_url`` from the machine that the tests run on."""
        return {
            "url": self.url,
            "host_url": self.host_url,
            "hostname": self.hostname,
            "port": self.port,
            "vhost": self.vhost,
        }

    @property
    def url(self) -> str:
        """For other containers."""
        return f"pgjobs://{self._login}@{self.hostname}/{self.vhost}"

    @property
    def host_url(self) -> str:
        """For the tests."""
        return f"pgjobs://{self._login}@localhost:{self.port}/{self.vhost}"

    @property
    def hostname(self) -> str:
        return str(self.attrs["Config"]["Hostname"])

    @property
    def port(self) -> int:
        return int(self._wait_port("5432/tcp"))

    @property
    def vhost(self) -> str:
        """The database's name."""
        return self._env["POSTGRES_DB"]

    @property
    def _login(self) -> str:
        return f"{self._env['POSTGRES_USER']}:{self._env['POSTGRES_PASSWORD']}"

    @property
    def _env(self) -> dict[str, str]:
        environment = dict(each.split("=", 1) for each in self.attrs["Config"]["Env"] or ())
        return {name: environment.get(name, default) for name, default in PGJOBS_ENV.items()}

    def ready(self) -> bool:
        """True once the server takes connections, and the database is migrated."""
        if not super().ready():
            return False
        if not self._is_migrated:
            try:
                migrate_database(self.host_url)
            except ConnectionFailed:  # the image has stopped the server once, and starts it again
                return False
            self._is_migrated = True
        return True

    @property
    def ready_prompt(self) -> str:
        """The image starts the server twice; this is the line in between."""
        return "PostgreSQL init process complete; ready for start up."

    @classmethod
    def version(cls) -> str:
        return cls.image().split(":")[-1]

    @classmethod
    def initial_env(cls) -> dict[str, str]:
        return dict(PGJOBS_ENV)

    @classmethod
    def image(cls) -> str:
        return PGJOBS_IMAGE

    @classmethod
    def ports(cls) -> dict[str, Any]:
        return dict(PGJOBS_PORTS)

    @classmethod
    def command(cls, *args: str, **_: Any) -> list[str]:
        return ["postgres", *args]


class PgjobsTestBroker(CeleryTestBroker):
    """The broker node of a test."""


class PgjobsTestBackend(CeleryTestBackend):
    """The backend node of a test."""


class PgjobsBrokerCluster(CeleryBrokerCluster):
    """Brokers of a test; more than one is a list of places to fail over to."""


class PgjobsBackendCluster(CeleryBackendCluster):
    """Backends of a test; Celery uses the first."""


@pytest.fixture
def default_pgjobs_cls() -> type[PgjobsContainer]:
    """The container's class; override it for one of your own."""
    return PgjobsContainer


@pytest.fixture
def default_pgjobs_image(default_pgjobs_cls: type[PgjobsContainer]) -> str:
    return default_pgjobs_cls.image()


@pytest.fixture
def default_pgjobs_env(default_pgjobs_cls: type[PgjobsContainer]) -> dict[str, str]:
    return default_pgjobs_cls.initial_env()


@pytest.fixture
def default_pgjobs_ports(default_pgjobs_cls: type[PgjobsContainer]) -> dict[str, Any]:
    return default_pgjobs_cls.ports()


@pytest.fixture
def default_pgjobs_command(default_pgjobs_cls: type[PgjobsContainer]) -> list[str]:
    return default_pgjobs_cls.command()


#: One for both: a job's result stands in its row.
default_pgjobs_container = container(
    image="{default_pgjobs_image}",
    ports=fxtr("default_pgjobs_ports"),
    environment=fxtr("default_pgjobs_env"),
    network="{default_pytest_celery_network.name}",
    wrapper_class=PgjobsContainer,
    timeout=PGJOBS_CONTAINER_TIMEOUT,
    command=fxtr("default_pgjobs_command"),
)


@pytest.fixture
def celery_pgjobs_broker(default_pgjobs_container: PgjobsContainer) -> Iterator[PgjobsTestBroker]:
    """The container as broker."""
    broker = PgjobsTestBroker(default_pgjobs_container)
    yield broker
    broker.teardown()


@pytest.fixture
def celery_pgjobs_backend(default_pgjobs_container: PgjobsContainer) -> Iterator[PgjobsTestBackend]:
    """The container as result backend; the broker's, where that is pgjobs as well."""
    backend = PgjobsTestBackend(default_pgjobs_container)
    yield backend
    backend.teardown()

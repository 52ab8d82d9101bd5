"""pytest-celery's components with Docker, as far as that goes without Docker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

components = pytest.importorskip("pgjobs_celery.testing.components")


@pytest.fixture
def docker() -> Any:
    """What Docker's client has of a container that runs."""
    ports = {"5432/tcp": [{"HostIp": "0.0.0.0", "HostPort": "49153"}]}
    return SimpleNamespace(
        status="running",
        attrs={
            "Config": {"Hostname": "abc123", "Env": ["POSTGRES_DB=shop", "PGDATA=/data"]},
            "NetworkSettings": {"Ports": ports},
        },
        ports=ports,
        reload=lambda: None,
    )


def test_its_urls_are_those_of_the_network_and_of_the_host(docker):
    container = components.PgjobsContainer(docker)
    container._wait_port = lambda port: 49153
    assert container.celeryconfig == {
        "url": "pgjobs://pgjobs:pgjobs@abc123/shop",
        "host_url": "pgjobs://pgjobs:pgjobs@localhost:49153/shop",
        "hostname": "abc123",
        "port": 49153,
        "vhost": "shop",
    }


def test_its_nodes_and_clusters_are_pytest_celerys(docker):
    container = components.PgjobsContainer(docker)
    container._wait_port = lambda port: 49153
    broker = components.PgjobsTestBroker(container)
    backend = components.PgjobsTestBackend(container)
    brokers = components.PgjobsBrokerCluster(broker)
    backends = components.PgjobsBackendCluster(backend)
    assert brokers.config()["host_urls"] == backends.config()["host_urls"]
    assert components.PgjobsContainer.image().startswith("postgres:")
    assert components.PgjobsContainer.initial_env()["POSTGRES_USER"] == "pgjobs"

"""A node whose notes only the test writes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgjobs_celery.config import Settings
from pgjobs_celery.db.database import Database
from pgjobs_celery.node.node import Node


@pytest.fixture
def node(database: Database) -> Iterator[Node]:
    node = Node(database)
    # What is written is written by the test, and it is the test that finds a cut connection.
    node.services.settle.linger = node.services.settle.interval = 60
    node.configure("node@host", Settings(maintenance=False, heartbeat_interval=100, lease=200))
    yield node
    node.close()

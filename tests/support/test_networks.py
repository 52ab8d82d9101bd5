"""The network of the tests ends what a real one would end."""

from __future__ import annotations

import os
import socket

import psycopg

from pgjobs_celery.db.dsn import parse_url

from ..conftest import Connection
from .networks import Network
from .waiting import wait_for


def test_the_session_of_a_client_that_dies_ends(url: str, connection: Connection) -> None:
    def is_there() -> bool:
        found = connection.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid])
        return bool(found.fetchall())

    with Network(url) as network:
        client = psycopg.connect(parse_url(network.url))
        pid = client.info.backend_pid
        assert is_there()
        # As by SIGKILL: the system closes the socket, and libpq does not say goodbye.
        with socket.socket(fileno=os.dup(client.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)
        wait_for(lambda: not is_there())
        client.close()

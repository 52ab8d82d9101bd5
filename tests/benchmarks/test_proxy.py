"""The delaying proxy delays each direction, keeps all bytes, and says how exact it is."""

from __future__ import annotations

import socket
import threading
import time

from benchmarks.proxy import answer, delaying, measured_round_trip


def test_a_round_trip_takes_as_long_as_asked_for_and_not_the_other_way_round():
    near, far = measured_round_trip(0, count=15), measured_round_trip(0.02, count=15)
    assert far >= 0.02
    assert near < far


def test_no_byte_is_lost_or_overtaken():
    sent = bytes(range(256)) * 2_000
    with socket.create_server(("127.0.0.1", 0)) as echo:
        threading.Thread(target=answer, args=(echo,), daemon=True).start()
        with (
            delaying(f"127.0.0.1:{echo.getsockname()[1]}", 0.004) as port,
            socket.create_connection(("127.0.0.1", port)) as client,
        ):
            begun = time.monotonic()
            threading.Thread(target=client.sendall, args=(sent,), daemon=True).start()
            found = bytearray()
            while len(found) < len(sent):
                found += client.recv(65_536)
            assert time.monotonic() - begun >= 0.004
    assert bytes(found) == sent


def test_the_end_of_a_connection_passes_through():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        delaying(f"127.0.0.1:{listener.getsockname()[1]}", 0) as port,
        socket.create_connection(("127.0.0.1", port)) as client,
    ):
        server, _ = listener.accept()
        with server:
            client.shutdown(socket.SHUT_WR)
            server.settimeout(30)
            assert server.recv(1) == b""
            server.sendall(b"still there")
            client.settimeout(30)
            assert client.recv(11) == b"still there"

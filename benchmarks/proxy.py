"""A TCP proxy on loopback that keeps each byte back for a while: ``python -m benchmarks.proxy``.

    python -m benchmarks.proxy 127.0.0.1:5432 0.5     # prints its port; 0.5 ms in each direction

Threads and time.sleep() rather than asyncio: its event loop wakes up on whole milliseconds. Bytes
are delayed and not slowed down: what was sent in one piece arrives in one, and any number of pieces
is on its way.
"""

import contextlib
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from benchmarks.errors import BenchmarkError
from benchmarks.processes import ROOT, kill_group

#: Bytes that are taken at a time.
PIECE = 65_536


def pump(source: socket.socket, sink: socket.socket, delay: float) -> None:
    """Pass on what comes from ``source`` when it is ``delay`` seconds old, until it ends."""
    pieces: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
    threading.Thread(target=pass_on, args=(pieces, sink), daemon=True).start()
    data = b"-"
    while data:
        try:
            data = source.recv(PIECE)
        except OSError:
            data = b""
        pieces.put((time.monotonic() + delay, data))


def pass_on(pieces: "queue.SimpleQueue[tuple[float, bytes]]", sink: socket.socket) -> None:
    """Send each piece when its time has come; an empty one ends the direction."""
    with contextlib.suppress(OSError):
        while True:
            due_at, data = pieces.get()
            if (wait := due_at - time.monotonic()) > 0:
                time.sleep(wait)
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)


def connect(target: str) -> socket.socket:
    """To ``host:port``, or to the socket of that path."""
    if target.startswith("/"):
        server = socket.socket(socket.AF_UNIX)
        server.connect(target)
        return server
    host, _, port = target.rpartition(":")
    server = socket.create_connection((host, int(port)))
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server


def serve(listener: socket.socket, target: str, delay: float) -> None:
    """Pass each connection on to ``target``, for ever."""
    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = connect(target)
        for ends in ((client, server), (server, client)):
            threading.Thread(target=pump, args=(*ends, delay), daemon=True).start()


@contextlib.contextmanager
def delaying(target: str, round_trip: float) -> Iterator[int]:
    """A proxy to a server, in a process of its own; yields its port.

    ``round_trip`` is what it adds to one, in seconds.
    """
    arguments = (target, str(round_trip / 2 * 1000))
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.proxy", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise BenchmarkError("the delaying proxy did not start")
        yield int(line)
    finally:
        kill_group(process)


def measured_round_trip(round_trip: float, count: int = 50) -> float:
    """The median seconds that a byte takes to an echo and back, through such a proxy."""
    with socket.create_server(("127.0.0.1", 0)) as echo:
        threading.Thread(target=answer, args=(echo,), daemon=True).start()
        with delaying(f"127.0.0.1:{echo.getsockname()[1]}", round_trip) as port:
            return median_trip(port, count)


def median_trip(port: int, count: int) -> float:
    taken = []
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            clock = time.perf_counter()
            client.sendall(b"x")
            client.recv(1)
            taken.append(time.perf_counter() - clock)
    return sorted(taken)[count // 2]


def answer(listener: socket.socket) -> None:
    """Send one connection's bytes back."""
    with contextlib.suppress(OSError):
        client, _ = listener.accept()
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := client.recv(PIECE):
                client.sendall(data)


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        serve(listener, sys.argv[1], float(sys.argv[2]) / 1000)


if __name__ == "__main__":
    main()

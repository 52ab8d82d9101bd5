"""Start processes, look at what they cost, and leave none behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.errors import BenchmarkError

#: The folder that holds this package: every child starts here, so that it finds ``benchmarks``.
ROOT = Path(__file__).resolve().parent.parent


def kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill the process and everything it forked; it was started as a group of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_producer(
    environment: Mapping[str, str], *arguments: str, stdin: str = "", timeout: float = 600
) -> dict[str, Any]:
    """Run one command of the system's producing program and return what it printed."""
    program = environment.get("BENCH_PROGRAM", "benchmarks.producer")
    process = subprocess.Popen(
        [sys.executable, "-m", *program.split(), *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"producer {arguments[0]}: no end after {timeout:.0f} s") from None
    finally:
        kill_group(process)
    if process.returncode != 0:
        raise BenchmarkError(f"producer {arguments[0]}: {last_line(err)}")
    answer: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return answer


def last_line(text: str) -> str:
    """The last line that says something, which is where Python puts the error.

    Below it PostgreSQL shows the place in the statement: that says nothing without the error.
    """
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line.strip("^") and not line.startswith("LINE ")]
    return said[-1] if said else "no output"


def tree(pid: int) -> list[psutil.Process]:
    """The process and all its descendants that are alive."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """User and system time of these processes and of those of their children that have ended."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            reaped = process.cpu_times()
            total += cpu_clock(process.pid) + reaped.children_user + reaped.children_system
    return total


def cpu_clock(pid: int) -> float:
    """A process's CPU time to the nanosecond, where /proc counts in hundredths of a second.

    The clock's number is Linux's: what clock_getcpuclockid(3) answers for a process.
    """
    return time.clock_gettime((~pid << 3) | 2)


def machine_cpu_seconds() -> float:
    """What all processes of this machine have used since boot."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def peak_rss(processes: Iterable[psutil.Process]) -> int:
    """The sum of each process's own peak resident set, in bytes; shared pages count in each."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1]) * 1024
    return total


def tcp_connections(processes: Iterable[psutil.Process], port: int) -> int:
    """How many sockets these processes hold to a port; one inherited by fork counts once."""
    sockets = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            for socket in process.net_connections(kind="tcp"):
                if socket.raddr and socket.raddr.port == port:
                    sockets.add((socket.laddr, socket.raddr))
    return len(sockets)

"""Name the machine and the versions that numbers are worth nothing without."""

import os
import platform
import statistics
import tempfile
import time
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.systems.redis import disk_folder

PACKAGES = ("celery", "kombu", "pgjobs-celery", "psycopg", "redis", "amqp")


def describe_machine() -> dict[str, str]:
    """Date, processor, system, Python and packages, and what a sync to disk costs."""
    system = f"{platform.system()} {platform.release()}"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    packages = (f"{name} {found}" for name in PACKAGES if (found := installed(name)))
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{cpu_model()}, {os.cpu_count()} cores, {system}",
        "load at the start": load,
        "fdatasync": f"{sync_seconds() * 1e6:.0f} µs (median of 200, 8 kB each)",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(packages),
    }


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def cpu_model() -> str:
    """The processor's name as the kernel gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def sync_seconds(repeat: int = 200) -> float:
    """The median time of fdatasync after a small write, which bounds each durable commit."""
    taken = []
    with tempfile.TemporaryFile(dir=disk_folder(), buffering=0) as file:
        for _ in range(repeat):
            file.write(bytes(8192))
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)

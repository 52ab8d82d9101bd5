"""Where temporary folders need no disk: the files of servers come and go all the time."""

from __future__ import annotations

import os
from pathlib import Path

#: Linux has a file system in memory there; a container's may be small, or run no programs.
PLACE = Path("/dev/shm")
#: Bytes that must be free: the servers of six processes took 0.1 to 0.8 GB each.
ROOM = 4 << 30


def find_memory(place: Path = PLACE, room: int = ROOM) -> Path | None:
    """``place`` if a suite's temporary folders fit there, and memory is left; else None.

    To make a database there takes a quarter of the processor time, and waits for nobody's disk.
    """
    try:
        system, memory = os.statvfs(place), Path("/proc/meminfo").read_text()
    except OSError:
        return None
    # In kilobytes, and twice the room: what runs needs memory as well.
    (available,) = (line.split()[1] for line in memory.splitlines() if "MemAvailable" in line)
    is_large = system.f_bavail * system.f_frsize >= room and int(available) * 1024 >= 2 * room
    return place if is_large and not system.f_flag & os.ST_NOEXEC else None

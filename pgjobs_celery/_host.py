"""The host of an embedded server: its account, folders, processes, and error messages."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: The account of the server when root asks for one: it exists everywhere, and owns nothing.
ACCOUNT = "nobody"
#: sun_path holds 104 bytes on macOS and the BSDs, 108 on Linux, the final NUL included.
LONGEST_SOCKET = 103


def is_dead(pid: int) -> bool:
    """True for a zombie: a process that has ended and that its parent has not yet waited for.

    Until then ``pg_ctl`` takes a killed server for a running one.
    """
    try:
        # The state follows the name, which may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        pass  # it has gone, or there is no /proc
    except OSError:
        return False
    done = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return not done.stdout.strip() or done.stdout.strip()[0] in "ZX"


def is_open_to_all(folder: Path) -> bool:
    """True if any user may walk down to ``folder``."""
    folder = folder.resolve()
    return all(part.stat().st_mode & stat.S_IXOTH for part in (folder, *folder.parents))


def give_away(folder: Path, run_as: Mapping[str, Any]) -> None:
    """Make ``folder`` and all below it the account's own, readable whatever the umask was."""
    for name, _, files in os.walk(folder):
        for entry in (Path(name), *(Path(name, file) for file in files)):
            if not entry.is_symlink():
                entry.chmod(entry.stat().st_mode | stat.S_IRUSR)
            os.chown(entry, run_as["user"], run_as["group"], follow_symlinks=False)


def fits_socket(folder: Path) -> bool:
    """True if a socket can live in ``folder``, and its name needs no quoting anywhere."""
    name = f"{folder}/.s.PGSQL.5432"
    return len(os.fsencode(name)) <= LONGEST_SOCKET and not re.search(r"[^\w./+-]", name, re.ASCII)


def quote_setting(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value).replace("\\", "\\\\").replace("'", "''")
    return f"'{text}'"


#: The remedy for a message from PostgreSQL or the system, by a text that it contains.
_REMEDIES = {
    "No space left": "free some disk space, or set TMPDIR to where there are about 100 MB",
    "Disk quota": "free some disk space, or set TMPDIR to where there are about 100 MB",
    "Read-only file system": "set TMPDIR to a folder that can be written to",
    "noexec": "set TMPDIR to a folder whose file system allows programs",
    "shared memory": "the system's shared memory is used up or limited (a container's --shm-size)",
    "semaphores": "the system's semaphores are used up (kernel.sem, kern.sysv)",
    "not permitted": "run this as an ordinary user: PostgreSQL refuses to run as root, and root "
    f"may not become {ACCOUNT!r} here",
    "Permission denied": "set TMPDIR to a folder that you may write to and run programs from",
    "version `GLIBC": "this system is older than the wheel allows: use a server of your own",
    "database files are incompatible": "another PostgreSQL made the data: remove the folder",
}


def explain(what: str, output: str) -> str:
    remedy = next((text for found, text in _REMEDIES.items() if found in output), "")
    parts = [f"the embedded PostgreSQL server {what}", f": {remedy}" if remedy else ""]
    detail = "\n".join(f"    {line}" for line in output.strip().splitlines()[-15:])
    return "".join(parts) + (f"\n{detail}" if detail else "")

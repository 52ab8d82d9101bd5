"""A pgbouncer that pools transactions, before a server of the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from .waiting import wait_for


@contextmanager
def transaction_pooler(url: str, *, prepared_statements: int = 0) -> Iterator[str]:
    """The URL of the same database through a pooler; skips where there is no pgbouncer.

    So many prepared statements it carries from one session to another.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("needs pgbouncer (Debian, Ubuntu: apt install pgbouncer)")
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if "host" not in query:
        pytest.skip("the pooler is put before an embedded server")
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o777)  # pgbouncer refuses to run as root
        (folder / "users.txt").write_text('"postgres" ""\n')
        (folder / "pgbouncer.ini").write_text(
            "[databases]\n"
            f"* = host={query['host'][0]} port={query['port'][0]}\n"
            "[pgbouncer]\npool_mode = transaction\n"
            f"max_prepared_statements = {prepared_statements}\n"
            f"listen_port = 6432\nunix_socket_dir = {folder}\nauth_type = trust\n"
            f"auth_file = {folder}/users.txt\nlogfile = {folder}/pgbouncer.log\n"
        )
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        process = subprocess.Popen(
            [program, "-q", *user, str(folder / "pgbouncer.ini")], stdin=subprocess.DEVNULL
        )
        stack.callback(process.wait)
        stack.callback(process.send_signal, signal.SIGKILL)
        wait_for((folder / ".s.PGSQL.6432").exists)
        yield f"pgjobs://postgres@{parts.path}?host={folder}&port=6432"

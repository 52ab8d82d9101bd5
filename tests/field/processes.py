"""Run a foreign program, with all that it starts, within a limit."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path


class TookTooLong(Exception):
    """The program was killed at its limit."""


def run_within(
    seconds: float, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path
) -> int:
    """Run the command, its output into ``log``; its exit code.

    Nothing that it started outlives it. Raises TookTooLong.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environ.update(env)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TookTooLong(f"not done within {seconds:.0f} s; its output: {log}") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

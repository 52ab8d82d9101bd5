"""Install products from the registry into environments of their own, below ``.field``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

from ..matrix import find_pythons
from .product import FIELD, ROOT, Environment, Skip

#: Seconds an installation may take.
LIMIT = 900


def make_environment(environment: Environment) -> Path:
    """The Python of the environment, made anew when what is to be installed has changed.

    Raises Skip where the registry cannot be reached or lacks something.
    """
    folder = FIELD / environment.name / "venv"
    python = folder / "bin" / "python"
    stamp = folder / "installed"
    wanted = f"{environment._replace(needs='')}\n{(ROOT / 'pyproject.toml').read_text()}"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([_find_python(environment), "-m", "venv", str(folder)], check=True)
    constraints = ["--constraint", environment.constraints] if environment.constraints else []
    try:
        pip_install(
            python, "--editable", f"{ROOT}[binary]", *environment.requirements, *constraints
        )
    except Skip as skip:
        raise Skip(f"{skip} (needs {environment.needs})" if environment.needs else skip) from None
    stamp.write_text(wanted)
    return python


def pip_install(python: Path, *arguments: str) -> None:
    """Install into that Python's environment; raises Skip with the reason if it fails."""
    _pip(python, "install", "--quiet", *arguments)


def unpack_source(python: Path, distribution: str, version: str, folder: Path) -> Path:
    """The unpacked source distribution of a release; raises Skip where the registry lacks it."""
    target = folder / f"{distribution}-{version}"
    if target.exists():
        return target
    downloads = folder / "downloads"
    _pip(
        python, "download", "--quiet", "--no-deps", "--no-binary", distribution,
        "--dest", str(downloads), f"{distribution}=={version}",
    )  # fmt: skip
    archives = list(downloads.glob(f"{distribution}-{version}.tar.gz"))
    if not archives:
        raise Skip(f"the registry has no source distribution of {distribution} {version}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return target


def ask_versions(python: Path, distributions: Iterable[str]) -> list[str]:
    """The installed versions, in that order."""
    code = "import sys; from importlib.metadata import version as v; print(*map(v, sys.argv[1:]))"
    asked = subprocess.run(
        [str(python), "-c", code, *distributions], capture_output=True, text=True, check=True
    )
    return asked.stdout.split()


def _pip(python: Path, *arguments: str) -> None:
    # A pip.conf or a PIP_TARGET that installs elsewhere must not get at the machine's Python.
    unwanted = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PYTHONPATH", "PYTHONHOME")
    environ = {name: value for name, value in os.environ.items() if name not in unwanted}
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    try:
        ended = subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        raise Skip(f"pip took more than {LIMIT} s") from None
    if ended.returncode:
        raise Skip(f"pip: {find_reason(ended.stderr)[:200]}")


def find_reason(errors: str) -> str:
    """The line that says why pip has failed: its own, or that of a build which it has run."""
    lines = [line.strip() for line in errors.splitlines()]
    raised = [
        line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception): |fatal error", line)
    ]
    own = [line for line in lines if "ERROR" in line]
    return [*(raised or own or lines or ["failed"])][-1]


def _find_python(environment: Environment) -> str:
    if not environment.python:
        return sys.executable
    found = find_pythons()
    if environment.python not in found:
        raise Skip(f"needs Python {environment.python}, which is not on this machine")
    return found[environment.python]

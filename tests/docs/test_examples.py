"""Run what the documents show, against a database of its own for each document.

- ``python``: a block that begins with ``# folder/name.py`` becomes that file; any other runs in one
  session for the whole document, and ``>>>`` lines are held against what stands below them.
- ``sql`` runs as it stands.
- ``console``: what follows ``$ `` runs in a shell; what stands below, if anything does, is compared
  but for numbers and widths. A worker or a beat is started and stays until the end.
- ``sh`` runs as one script.
- ``<!-- not run: reason -->`` in front of a block says why it is not run;
  ``<!-- Celery 5.6 and newer -->`` leaves it out with an older one.
"""

from __future__ import annotations

import doctest
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pgjobs_celery import embedded
from pgjobs_celery.db.dsn import describe, parse_url

from ..support.celery_process import CeleryProcess, run_celery
from .documents import DOCUMENTS, ROOT, Block, read_blocks, without_code

RUN = {"python", "sql", "sh", "console"}
SHOWN = {"text", "ini", "json", "yaml", "diff"}

#: Seconds until a worker is ready, a command ends, a block is done. A document has many of them.
LIMIT = 60.0

#: Commands that change nothing, and can be given again.
LOOKS = re.compile(r" pgjobs (?:\w+ )?list\b")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


#: There from the start, for the documents that speak of an app and do not show one.
PROJ = """\
from celery import Celery
app = Celery("proj", broker="pgjobs://localhost/app", backend="pgjobs://localhost/app")
@app.task
def add(x, y):
    return x + y
"""


class Session:
    """A reader at work: a folder, a database, a Python, and whatever runs in other terminals."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        params = conninfo_to_dict(parse_url(url))
        self.database = str(params["dbname"])
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
        path = [self._commands(), Path(sys.executable).parent]
        path += map(Path, os.environ["PATH"].split(os.pathsep))
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
            **{names[name]: str(value) for name, value in params.items() if name in names},
            "PATH": os.pathsep.join(map(str, [embedded._find_programs(), *path])),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PSQLRC": os.devnull,
            "PAGER": "cat",
        }
        self._python: subprocess.Popen[str] | None = None
        self._services: list[subprocess.Popen[bytes]] = []
        # What stands in the documents, and what is there in a test.
        self._places = {
            "pgjobs://localhost/app": f"pgjobs:///{self.database}",
            "pgjobs://app:secret@localhost/app": f"pgjobs:///{self.database}",
            "pgjobs://app@db/app": f"pgjobs:///{self.database}",
            "postgresql://localhost/app": f"postgresql:///{self.database}",
            "postgresql://app:secret@localhost/app": f"postgresql:///{self.database}",
            "postgresql+psycopg://localhost/app": f"postgresql+psycopg:///{self.database}",
            "postgresql+asyncpg://localhost/app": f"postgresql+asyncpg:///{self.database}",
            "psql app": f"psql {self.database}",
            '"NAME": "app"': f'"NAME": "{self.database}"',
            "app@localhost/app": describe(f"dbname={self.database}"),
            "localhost/app": describe(f"dbname={self.database}"),
            "app@db/app": describe(f"dbname={self.database}"),
            "8099": str(_free_port()),
        }
        (folder / "proj.py").write_text(self._localise(PROJ))

    def _commands(self) -> Path:
        """A folder with a ``celery`` command that is quick to start."""
        commands = self.folder.parent / f"{self.folder.name}-commands"
        commands.mkdir()
        command = commands / "celery"
        program = ROOT / "tests" / "support" / "lean_celery.py"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')
        command.chmod(0o755)
        return commands

    def copy(self, folder: Path) -> None:
        """Have an example's files here, as a reader has in the folder of its README."""
        for file in folder.rglob("*.py"):
            self._write(str(file.relative_to(folder)), file.read_text(encoding="utf-8"))

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._localise(text))

    def run(self, block: Block) -> None:
        getattr(self, f"run_{block.language}")(self._localise(block.text), str(block))

    def run_python(self, text: str, where: str) -> None:
        if file := re.match(r"# ([\w/]+\.py)\n", text):
            self._write(file[1], text)
            return
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, ROOT / "tests" / "docs" / "interpreter.py"],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._python.stdin
        assert self._python.stdout
        self._python.stdin.write(json.dumps([text, where]) + "\n")
        self._python.stdin.flush()
        is_right, output = json.loads(self._python.stdout.readline())
        assert is_right, f"{where}\n{output}"

    def run_sql(self, text: str, where: str) -> None:
        with psycopg.connect("", **self._connection(), autocommit=True) as connection:
            try:
                connection.execute(text.encode())
            except psycopg.Error as error:
                pytest.fail(f"{where}\n{error}")

    def run_sh(self, text: str, where: str) -> None:
        self._shell(text, where)

    def run_console(self, text: str, where: str) -> None:
        for command in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            lines = command.splitlines()
            last = next(n for n, line in enumerate(lines) if not line.endswith("\\"))
            line, expected = "\n".join(lines[: last + 1]), "\n".join(lines[last + 1 :])
            if re.search(r"\bcelery\b.* (worker|beat)\b", line):
                self._serve(line, where)
                continue
            output, end = self._shell(line, where), time.monotonic() + LIMIT
            if expected.strip():
                # A reader looks when a beat or a worker that starts has done something.
                while not is_alike(expected, output) and LOOKS.search(line):
                    if time.monotonic() > end:
                        break
                    output = self._shell(line, where)
                assert is_alike(expected, output), (
                    f"{where}: {line}\n--- shown\n{expected}\n--- printed\n{output}"
                )

    def close(self) -> None:
        for service in self._services:
            # The worker's pool, too; what it was for is over.
            with suppress(ProcessLookupError):
                os.killpg(service.pid, signal.SIGKILL)
            service.wait()
        if self._python is not None:
            self._python.kill()
            self._python.communicate()

    def _localise(self, text: str) -> str:
        for shown, real in self._places.items():
            text = text.replace(shown, real)
        return text

    def _shell(self, text: str, where: str) -> str:
        options: dict[str, Any] = {
            "cwd": self.folder,
            "env": self.env,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "timeout": LIMIT,
        }
        if words := only_celery(text):
            result = run_celery(*words, **options)
        else:
            shell = ["sh", "-e", "-c", text]
            result = subprocess.run(shell, text=True, check=False, **options)
        assert result.returncode == 0, f"{where}: {text}\n{result.stdout}"
        return result.stdout

    def _serve(self, line: str, where: str) -> None:
        # To look for others takes a worker a second.
        line = re.sub(r" worker\b", " worker --without-mingle --without-gossip", line)
        log = self.folder / f"service{len(self._services)}.log"
        with log.open("wb") as output:
            words = only_celery(line)
            start: Any = CeleryProcess if words else subprocess.Popen
            service = start(
                words or shlex.split(line),
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._services.append(service)
        end = time.monotonic() + LIMIT
        while not re.search(r" ready\.|beat: Starting", log.read_text(errors="replace")):
            assert service.poll() is None, f"{where}: {line}\n{log.read_text()}"
            assert time.monotonic() < end, f"{where}: not ready: {line}\n{log.read_text()}"
            time.sleep(0.02)

    def _connection(self) -> dict[str, Any]:
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
        params = {name: self.env[key] for name, key in names.items() if key in self.env}
        return {**params, "dbname": self.database}


def _free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def only_celery(text: str) -> list[str]:
    """The arguments of a lone ``celery`` command, which needs no shell to start; else nothing."""
    line = text.replace("\\\n", " ").strip()
    if not line.startswith("celery ") or re.search(r"[\n|;&<>$`*?#~\\]", line):
        return []
    return shlex.split(line)[1:]


def is_alike(expected: str, printed: str) -> bool:
    """True if both say the same: numbers, ids, dates and widths may differ, ``...`` is anything."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(_shape(expected), _shape(printed), flags)


def _shape(text: str) -> str:
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    text = re.sub(r"[\w.-]+@[\w.-]+", "NODE", text)
    text = re.sub(r"\d[\d.]*", "0", text)
    return re.sub(r"[-─]{2,}\+?", "-", text).strip() + "\n"


@pytest.fixture
def make_session(
    tmp_path: Path, make_database: Callable[[], str], make_migrated: Callable[[], str]
) -> Iterator[Callable[[bool], Session]]:
    sessions = []

    def make_session(is_migrated: bool) -> Session:
        sessions.append(Session(tmp_path, make_migrated() if is_migrated else make_database()))
        return sessions[-1]

    yield make_session
    for session in sessions:
        session.close()


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _to_run(path: Path) -> list[Block]:
    return [block for block in read_blocks(path) if block.language in RUN and not block.not_run]


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if _to_run(path)], ids=_name)
def test_the_examples_do_what_the_document_says(
    path: Path, make_session: Callable[[bool], Session]
):
    blocks = _to_run(path)
    migrates = ("pgjobs migrate", "manage.py migrate")
    session = make_session(not any(each in block.text for block in blocks for each in migrates))
    if (ROOT / "examples") in path.parents:
        session.copy(path.parent)
    for block in blocks:
        session.run(block)


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_every_block_is_run_or_says_why_not(path: Path):
    for block in read_blocks(path):
        assert block.language in RUN | SHOWN, f"{block}: no such language: {block.language!r}"
    indented = re.search(r"\n\n {4}\S.*", without_code(path))
    assert not indented, f"an indented block is never run: {indented and indented[0]}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_every_link_leads_somewhere(path: Path):
    for text, target in re.findall(r"\[([^]]+)\]\(([^)\s]+)\)", without_code(path)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        document = (path.parent / name).resolve() if name else path
        assert document.exists(), f"[{text}]({target})"
        if anchor:
            assert anchor in _anchors(document), f"[{text}]({target})"


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_a_worker_is_given_its_scheduler_by_the_option_that_it_has(path: Path):
    found = re.findall(r"celery\b[^`\n]*\bworker\b[^`\n]* -S\b[^`\n]*", path.read_text())
    assert not found, "-S of a worker names a file of state: write --scheduler"


def _anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", without_code(path), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_document_is_in_the_index():
    index = ROOT / "docs" / "README.md"
    linked = set(re.findall(r"\]\(([\w/.-]+\.md)\)", index.read_text()))
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert there - {"README.md"} <= linked

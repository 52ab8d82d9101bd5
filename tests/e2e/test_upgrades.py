"""Two releases side by side on one database: this one, and one that is newer by a migration."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from celery import Celery

from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from tests.support.waiting import wait_for

from ..conftest import close_app

ROOT = Path(__file__).parents[2]
CELERY = [sys.executable, "-m", "tests.support.lean_celery", "-A", "shop"]
APP = """
import os
from celery import Celery

app = Celery("shop", broker="{url}", backend="{url}")
app.conf.update(task_ignore_result=True, pgjobs_lease=3, pgjobs_heartbeat_interval=0.5)


@app.task
def note(number):
    with open("{notes}", "a") as notes:
        notes.write(f"{{number}} {{os.environ['RELEASE']}}\\n")
"""
MIGRATION = """
{breaking}-- migrate:up
ALTER TABLE pgjobs.nodes ADD COLUMN newer text;
ALTER TABLE pgjobs.jobs ADD COLUMN newer text;
-- migrate:down
ALTER TABLE pgjobs.jobs DROP COLUMN newer;
ALTER TABLE pgjobs.nodes DROP COLUMN newer;
"""


class Release:
    """A folder with an app, and with a package of its own or the one that is installed."""

    def __init__(self, name: str, folder: Path, url: str, notes: Path) -> None:
        self.name, self.folder = name, folder
        self._processes: list[subprocess.Popen[str]] = []
        folder.mkdir()
        (folder / "shop.py").write_text(APP.format(url=url, notes=notes))
        # The folder itself comes first: it is where the programs run.
        self._env = {**os.environ, "RELEASE": name, "PYTHONPATH": str(ROOT)}

    def add_migration(self, *, is_breaking: bool) -> None:
        """Be newer than what is installed."""
        for part in ("pgjobs_celery", "migrations"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, self.folder / part, ignore=ignored)
        (self.folder / "pgjobs_celery" / "_version.py").write_text('__version__ = "99.0.0"\n')
        breaking = "-- migrate:breaking\n" if is_breaking else ""
        file = self.folder / "migrations" / "9001_add_newer.sql"
        file.write_text(MIGRATION.format(breaking=breaking))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command that ends."""
        return subprocess.run(
            [*CELERY, *words], cwd=self.folder, env=self._env, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    def start(self, name: str) -> subprocess.Popen[str]:
        """A worker of that name, when it is ready."""
        log = self.folder / f"{name}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [*CELERY, "worker", "-P", "threads", "-c", "2", "-n", f"{name}@test",
                 "--without-mingle", "--without-gossip", "-l", "INFO"],
                cwd=self.folder, env=self._env, stdout=output, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        self._processes.append(process)
        wait_for(lambda: " ready." in log.read_text(), message=log.read_text)
        return process

    def stop(self) -> None:
        """End what was started."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(20)
            finally:
                process.kill()


@pytest.fixture
def fresh_url(make_database: Callable[[], str]) -> str:
    """A database at this release's version, that another release may change."""
    url = make_database()
    with migrations.session(parse_url(url)) as connection:
        migrations.migrate(connection, "pgjobs")
    return url


@pytest.fixture
def releases(tmp_path: Path, fresh_url: str) -> Iterator[tuple[Release, Release]]:
    """The one that is installed, and one that is to be made newer."""
    notes = tmp_path / "notes"
    notes.touch()
    made = [Release(name, tmp_path / name, fresh_url, notes) for name in ("old", "new")]
    yield made[0], made[1]
    for release in made:
        release.stop()


def test_a_schema_is_upgraded_under_running_workers_and_no_job_is_lost(
    releases: tuple[Release, Release], fresh_url: str, tmp_path: Path
) -> None:
    def notes() -> list[tuple[int, str]]:
        lines = (tmp_path / "notes").read_text().splitlines()
        return [(int(number), release) for number, release in map(str.split, lines)]

    def by(release: str, since: int) -> bool:
        return any(number >= since and name == release for number, name in notes())

    def publish() -> None:
        while not is_over.is_set():
            app.send_task("shop.note", (len(published),), ignore_result=True)
            published.append(len(published))
            time.sleep(0.005)

    old, new = releases
    new.add_migration(is_breaking=False)
    first = old.start("first")

    refused = new.run("worker", "-P", "solo", "--without-mingle")
    assert refused.returncode != 0
    assert "this release needs 9001: run `celery -A proj pgjobs migrate`" in refused.stderr
    assert "Traceback" not in refused.stderr

    app = Celery("shop", broker=fresh_url, set_as_current=False)
    published: list[int] = []
    is_over = threading.Event()
    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        wait_for(lambda: by("old", 0))
        done = new.run("pgjobs", "migrate")
        assert done.returncode == 0, done.stderr
        assert "up   9001_add_newer" in done.stdout
        assert "Warning" not in done.stderr
        at = len(published)
        wait_for(lambda: by("old", at))
        new.start("second")
        wait_for(lambda: by("new", at))
        old.start("third")  # as where one is scaled up, or restarted, before it is deployed anew
        at = len(published)
        first.send_signal(signal.SIGTERM)
        assert first.wait(20) == 0
        wait_for(lambda: by("old", at) and by("new", at))
    finally:
        is_over.set()
        publisher.join()
        close_app(app)
    wait_for(lambda: len(notes()) >= len(published))
    assert sorted(number for number, _ in notes()) == published
    assert "is at version 9001, from a newer release, fit for this one" in (
        old.run("pgjobs", "status").stdout
    )
    assert "nothing to do" in old.run("pgjobs", "migrate").stdout


def test_a_breaking_migration_names_the_workers_that_it_breaks(
    releases: tuple[Release, Release], fresh_url: str, tmp_path: Path
) -> None:
    old, new = releases
    new.add_migration(is_breaking=True)
    old.start("first")
    for words in (("--check",), ()):
        done = new.run("pgjobs", "migrate", *words)
        assert "alive and cannot work with the new schema: first@test (" in done.stderr
        assert done.returncode == (1 if words else 0)
    refused = old.run("worker", "-P", "solo", "--without-mingle")
    assert refused.returncode != 0
    assert "upgrade pgjobs-celery here" in refused.stderr
    # What runs goes on until its next start: it is for the operator to stop it.
    with psycopg.connect(parse_url(fresh_url), autocommit=True) as connection:
        seen = connection.execute("SELECT heartbeat_at FROM pgjobs.nodes").fetchone()
        wait_for(
            lambda: seen != connection.execute("SELECT heartbeat_at FROM pgjobs.nodes").fetchone()
        )
    new.start("second")
    warned = new.run("pgjobs", "migrate", "--to", "9001")
    assert "Warning" not in warned.stderr
    warned = new.run("pgjobs", "migrate", "--check", "--to", "1")
    assert "second@test (99.0.0)" in warned.stderr

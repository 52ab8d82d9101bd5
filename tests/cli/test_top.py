"""``celery pgjobs top`` as a person sees it: on a terminal, over a real server."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest
from celery.bin.celery import celery
from click.testing import CliRunner

from pgjobs_celery.control.overview import overview
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows import overview as overview_rows
from pgjobs_celery.job.outcome import completed, discarded, error_entry
from pgjobs_celery.job.rows import Bucket
from tests.support.rows import put
from tests.support.waiting import LIMIT, wait_for

from ..conftest import Connection

ROOT = Path(__file__).parents[2]
A = UUID(int=1)
#: The screen that a program draws beside the shell's, and the cursor: on and off.
ENTER, LEAVE, HIDE, SHOW = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25l", "\x1b[?25h"

#: Python again, with its terminal as the one from which signals come.
SEATED = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Screen:
    """A pseudo terminal with a ``top`` in it."""

    def __init__(self, url: str, width: int = 100, height: int = 24) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(width, height, theirs)
        self.modes = termios.tcgetattr(theirs)
        self._theirs = theirs
        celery = ["-m", "tests.support.lean_celery", "-b", url]
        self.process = subprocess.Popen(
            [sys.executable, "-c", SEATED, *celery, "pgjobs", "top", "--interval", "0.2"],
            cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
        )  # fmt: skip
        self.output = ""

    def resize(self, width: int, height: int, place: int | None = None) -> None:
        """Give the terminal another size; its program hears of it."""
        size = struct.pack("HHHH", height, width, 0, 0)
        fcntl.ioctl(self._ours if place is None else place, termios.TIOCSWINSZ, size)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def shows(self, *words: str) -> str:
        """Wait for a frame with all these words, and return it as text."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            self._read(0.1)
            if all(word in self.frame for word in words):
                return self.frame
        raise AssertionError(f"not {words} in\n{self.frame}")

    @property
    def frame(self) -> str:
        """What was drawn last."""
        frames = self.output.split("\x1b[H")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frames[-1])

    def end(self) -> int:
        """Wait until it has left, and return its exit code."""
        end = time.monotonic() + LIMIT
        while self.process.poll() is None and time.monotonic() < end:
            self._read(0.1)
        self._read(0.1)
        return self.process.wait(1)

    def is_as_before(self) -> bool:
        """Whether the shell has its screen, its cursor and its modes again."""
        last = {each: self.output.rfind(each) for each in (ENTER, LEAVE, HIDE, SHOW)}
        is_left = last[LEAVE] > last[ENTER] >= 0 and last[SHOW] > last[HIDE] >= 0
        return is_left and termios.tcgetattr(self._theirs) == self.modes

    def hang_up(self) -> None:
        os.close(self._ours)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for end in (self._ours, self._theirs):
            with suppress(OSError):
                os.close(end)

    def _read(self, seconds: float) -> None:
        if select.select([self._ours], [], [], seconds)[0]:
            try:
                self.output += os.read(self._ours, 65536).decode(errors="replace")
            except OSError:  # nothing has it open any more
                time.sleep(0.01)


@pytest.fixture
def top(url: str) -> Iterator[Callable[..., Screen]]:
    screens: list[Screen] = []

    def start(**size: int) -> Screen:
        screens.append(Screen(url, **size))
        return screens[-1]

    yield start
    for screen in screens:
        screen.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """``celery -b`` sets a variable, which is to be gone after the test."""
    monkeypatch.setenv("CELERY_BROKER_URL", "")


def fill(database: Database) -> None:
    """A worker that runs a job, jobs of two queues, and one that has failed."""
    database.nodes.beat_node(A, "w1@web", ["mail", "celery"], 3600.0)
    put(database, "a", "b", "c", queue="mail", task="shop.mail")
    put(database, "x", queue="nobodys", task="shop.mail")
    _, failing = database.claims.claim_jobs(A, "w1@web", [Bucket("mail")], 2)[0]
    error = error_entry("ValueError", "declined")
    database.claims.settle_jobs(A, [discarded(failing, error)])


def test_keys_pause_and_resume_and_the_screen_follows(
    top: Callable[..., Screen], database: Database, connection: Connection
) -> None:
    def paused() -> list[str]:
        rows = connection.execute("SELECT queue FROM pgjobs.limits WHERE paused_at IS NOT NULL")
        return [row["queue"] for row in rows]

    fill(database)
    screen = top()
    screen.shows("mail", "nobodys", "no worker", "w1@web", "ValueError: declined")
    # A part of a frame may have been read.
    wait_for(lambda: len(screen.shows("mail").splitlines()) == 24)
    screen.press("/mail\r\x1b[Bp")
    screen.shows("Pause mail, on all workers?")
    assert paused() == []
    screen.press("y")
    screen.shows("mail is paused", "QUEUE ~ mail")
    assert paused() == ["mail"]
    (done,) = connection.execute("SELECT action, via, queue FROM pgjobs.audit").fetchall()
    assert (done["via"], done["queue"]) == ("cli", "mail")
    screen.press("r")
    screen.shows("mail is resumed")
    assert paused() == []
    screen.press("\x1b")
    screen.shows("nobodys")
    put(database, "news", queue="fresh")
    screen.shows("fresh")
    screen.resize(60, 12)
    screen.shows("fresh")
    end = time.monotonic() + LIMIT
    while len(screen.frame.splitlines()) != 12 and time.monotonic() < end:
        screen.press(" ")
        screen.shows("q quit")
    assert max(map(len, screen.frame.splitlines())) <= 60
    screen.press("q")
    assert screen.end() == 0
    assert screen.is_as_before()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 0)]
)
def test_a_signal_ends_it_with_the_terminal_as_it_was(
    top: Callable[..., Screen], number: signal.Signals, code: int
) -> None:
    screen = top()
    screen.shows("no workers", "none lately")
    if number is signal.SIGINT:
        screen.press("\x03")
    else:
        screen.process.send_signal(number)
    assert screen.end() == code
    assert screen.is_as_before()


def test_a_terminal_that_is_closed_ends_it(top: Callable[..., Screen]) -> None:
    screen = top()
    screen.shows("no workers")
    screen.hang_up()
    assert screen.process.wait(LIMIT) != 0


def test_a_lost_server_is_told_and_found_again(
    top: Callable[..., Screen], url: str, server_url: str, database: Database
) -> None:
    name = urlsplit(url).path[1:]
    screen = top()
    screen.shows("no workers")
    database.close()
    with psycopg.connect(server_url, autocommit=True) as other:
        try:
            other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
            screen.shows("s old: cannot connect", "no workers")
        finally:
            other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    fill(database)
    assert "old:" not in screen.shows("w1@web")
    screen.press("q")
    assert screen.end() == 0


def test_without_a_terminal_it_prints_once(url: str, database: Database) -> None:
    fill(database)

    def run(*words: str) -> str:
        done = CliRunner().invoke(celery, ["-b", url, "pgjobs", "top", *words])
        assert done.exit_code == 0, done.output
        return done.output

    shown = run()
    for words in ("QUEUE", "mail", "no worker", "w1@web", "ValueError: declined", "running 1"):
        assert words in shown
    found = json.loads(run("--json"))
    assert {each["name"]: each["ready"] for each in found["queues"]} == {
        "celery": 0, "mail": 1, "nobodys": 1,
    }  # fmt: skip
    assert found["failures"][0]["error"] == "ValueError: declined"
    wrong = CliRunner().invoke(celery, ["-b", url, "pgjobs", "top", "--sort", "size"])
    assert wrong.exit_code == 2
    assert "choose one of ready, running" in wrong.output


def test_without_a_server_it_says_so_in_one_line() -> None:
    done = CliRunner().invoke(celery, ["-b", "pgjobs://u@127.0.0.1:1/x", "pgjobs", "top"])
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert done.output.count("\n") == 1


# -- what it shows ---------------------------------------------------------------------------------


def test_rates_are_taken_over_the_last_seconds_or_over_what_was_looked_at(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.nodes.beat_node(A, "w1@web", ["mail"], 3600.0)
    put(database, *(str(number) for number in range(40)), queue="mail")
    connection.execute(
        "UPDATE pgjobs.jobs SET inserted_at = now() - interval '1 h' WHERE task_id ~ '[02468]$'"
    )
    claims = database.claims.claim_jobs(A, "w1@web", [Bucket("mail")], 30)[0]
    database.claims.settle_jobs(A, [completed(claim) for claim in claims])
    (queue,) = overview(database).queues
    assert (queue.ready, queue.running, queue.consumers) == (10, 0, 1)
    assert (queue.rate_in, queue.rate_out) == (2.0, 3.0)
    connection.execute("UPDATE pgjobs.jobs SET finished_at = finished_at - interval '1 minute'")
    assert overview(database).queues[0].rate_out == 0
    connection.execute(
        "UPDATE pgjobs.jobs SET finished_at = now() - interval '2 s' WHERE finished_at IS NOT NULL"
    )
    monkeypatch.setattr(overview_rows, "NEWEST", 20)
    found = overview(database)
    assert 2 <= found.seconds < 8
    assert found.queues[0].rate_out == pytest.approx(20 / found.seconds)


def test_times_that_were_written_by_hand_hurt_nothing(
    database: Database, connection: Connection
) -> None:
    put(database, "a", "b", "c", "d")
    for id, word in (("a", "infinity"), ("b", "-infinity")):
        connection.execute(
            "UPDATE pgjobs.jobs SET state = 'discarded', finished_at = %(word)s,"
            " inserted_at = %(word)s, errors = '[3]' WHERE task_id = %(id)s",
            {"word": word, "id": id},
        )
    connection.execute("UPDATE pgjobs.jobs SET scheduled_at = 'infinity' WHERE task_id = 'c'")
    (queue,) = overview(database).queues
    assert (queue.ready, queue.failed) == (2, 0)

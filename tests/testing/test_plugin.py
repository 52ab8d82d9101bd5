"""pytest's plugin and unittest's mixin, in a pytest of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unittest
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from statistics import median

import pytest

from pgjobs_celery.testing.unittest import PgJobsMixin

ROOT = Path(__file__).parents[2]
PLUGIN = "pgjobs_celery.testing.plugin"

PROJ = """
from celery import Celery
from pgjobs_celery import PgTask

app = Celery("proj", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/0")

@app.task(base=PgTask)
def welcome(user_id):
    return f"welcome, {user_id}"

@app.task
def fail():
    raise ValueError("no")
"""

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, server_url: str) -> Run:
    """Run pytest on a file; what it printed."""

    def run(text: str, *options: str, ini: str = "pgjobs_app = proj:app", code: int = 0) -> str:
        (tmp_path / "proj.py").write_text(PROJ)
        (tmp_path / "test_it.py").write_text(text)
        (tmp_path / "pytest.ini").write_text(f"[pytest]\n{ini}\n")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *load(), *options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "PGJOBS_TEST_DSN": server_url},
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert done.returncode == code, output
        return output

    return run


def load() -> list[str]:
    """The options with which the plugin is there once, installed or not."""
    others = ["-p", "no:celery", "-p", "no:pytest_celery"]
    return others if entry_points(group="pytest11", name="pgjobs") else ["-p", PLUGIN, *others]


def test_the_plugin_is_an_entry_point():
    text = (ROOT / "pyproject.toml").read_text()
    assert f'[project.entry-points.pytest11]\npgjobs = "{PLUGIN}"' in text


def test_fixture_marker_setting_and_mixin(run):
    output = run(
        """
import asyncio, unittest
import pytest
from celery import Celery
from proj import app, fail, welcome
from pgjobs_celery.testing.unittest import PgJobsMixin
from pgjobs_celery.testing import assert_enqueued, all_enqueued

def test_manual(pgjobs):
    welcome.delay(7)
    pgjobs.assert_enqueued(welcome, kwargs={"user_id": 7})
    assert pgjobs.drain_queue() == {"completed": 1}
    with pgjobs.assert_enqueued(welcome, count=1):
        welcome.delay(8)

def test_nothing_is_left_of_another_test(pgjobs):
    assert pgjobs.all_enqueued() == []
    assert pgjobs.app is app

@pytest.mark.pgjobs(mode="inline")
def test_marked_inline(pgjobs):
    assert welcome.delay(7).get() == "welcome, 7"

@pytest.mark.pgjobs("inline", propagate=True)
def test_marked_without_the_fixture():
    with pytest.raises(ValueError, match="no"):
        fail.delay()

def test_real(pgjobs_real):
    sent = welcome.delay(7)
    pgjobs_real.assert_enqueued(welcome, args=[7])
    assert pgjobs_real.drain_queue() == {"completed": 1}
    assert sent.get(timeout=5) == "welcome, 7"

@pytest.mark.pgjobs(mode="real")
def test_marked_real_and_empty(pgjobs):
    assert pgjobs.all_enqueued() == []
    assert app.conf.broker_url.startswith("pgjobs://")
    welcome.delay(7)  # not over the connections of the test before, which are closed
    pgjobs.assert_enqueued(welcome, count=1)

def test_the_app_is_back(pgjobs):
    assert app.conf.broker_url == "redis://127.0.0.1:1/0"
    welcome.delay(1)
    assert len(pgjobs.all_enqueued()) == 1

class TestIt(PgJobsMixin, unittest.TestCase):
    pgjobs_app = app

    def setUp(self):
        welcome.delay(1)

    def test_it(self):
        self.pgjobs.assert_enqueued(welcome, count=1)
        with self.pgjobs.testing("inline"):
            assert welcome.delay(2).get() == "welcome, 2"

    def test_other(self):
        assert_enqueued(welcome, count=1)
""",
        "-q",
        "--strict-markers",
    )
    assert re.search(r"9 passed", output), output


def test_a_fixture_of_ones_own_says_which_app_or_celerys_current_one(run):
    run(
        """
import pytest
from celery import Celery
from proj import app

class TestMine:
    @pytest.fixture
    def celery_app(self):
        return Celery("mine", set_as_current=False)

    def test_mine(self, pgjobs):
        assert pgjobs.app.main == "mine"

    @pytest.mark.pgjobs(app=app)
    def test_marked(self, pgjobs):
        assert pgjobs.app is app

def test_current(pgjobs):
    assert pgjobs.app is app
""",
        ini="",
    )


def test_a_failure_shows_what_was_enqueued_and_the_tests_own_line(run):
    output = run(
        """
import pytest
from proj import fail, welcome

def test_it(pgjobs):
    welcome.apply_async([7], queue="mail")
    pgjobs.assert_enqueued(welcome, kwargs={"user_id": 8})

def test_performed(pgjobs):
    assert pgjobs.perform_job(fail).outcome == "completed"

@pytest.mark.pgjobs(modus="inline")
def test_marked(): ...
""",
        code=1,
    )
    assert "takes mode, app and propagate" in output
    assert "What was enqueued" in output
    assert "proj.welcome(7) in mail: available" in output
    assert ">       pgjobs.assert_enqueued(welcome" in output
    assert "assertions.py:" not in output, "frames of ours are shown"
    assert "raised unexpected: ValueError('no')" in output


def test_the_plugin_loads_next_to_nothing():
    """What it adds to a run, where pytest is loaded already: less than pytest itself."""
    code = f"""
import sys, time
begun = time.process_time()
import pytest
before = set(sys.modules)
began = time.process_time()
import {PLUGIN}
took = (time.process_time() - began) / (began - begun)
heavy = {{"celery", "kombu.connection", "psycopg", "asyncio"}} & (set(sys.modules) - before)
print(took, *heavy)
"""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(3)
    ]
    assert [heavy for _, *heavy in outputs] == [[], [], []]
    assert median(float(took) for took, *_ in outputs) < 1.0


def test_a_slip_in_the_mixin_is_the_error_of_its_test(tmp_path: Path):
    (tmp_path / "proj.py").write_text(PROJ)
    (tmp_path / "test_it.py").write_text("""
import unittest
from pgjobs_celery.testing.unittest import PgJobsMixin

class NoApp(PgJobsMixin, unittest.TestCase):
    pgjobs_app = "proj:nothing"

    def test_it(self): ...

class NoMode(PgJobsMixin, unittest.TestCase):
    pgjobs_app = "proj:app"
    pgjobs_mode = "inlin"

    def test_it(self): ...

class Right(PgJobsMixin, unittest.TestCase):
    pgjobs_app = "proj:app"

    def test_it(self): ...
""")
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "test_it"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Ran 3 tests" in done.stderr, done.stderr
    assert "FAILED (errors=2)" in done.stderr, done.stderr
    assert "did you mean 'inline'" in done.stderr


def test_the_mixin_stands_in_front():
    with pytest.raises(TypeError, match="in front of the TestCase"):
        type("Wrong", (unittest.TestCase, PgJobsMixin), {})


def test_a_net_around_all_tests_holds_after_one_in_mode_real(run):
    run(
        """
import pytest
from proj import app, welcome
from pgjobs_celery.testing import all_enqueued, refute_enqueued, testing

@pytest.fixture(scope="session", autouse=True)
def net():
    with testing(app):
        yield
    assert app.conf.broker_url.startswith("redis:") and app._pool is None

def test_rows(pgjobs_real):
    welcome.delay(1)
    pgjobs_real.assert_enqueued(welcome, count=1)

def test_the_net():
    welcome.delay(9)
    assert len(all_enqueued(welcome)) == 1
    with pytest.raises(AssertionError):
        refute_enqueued(welcome)

def test_rows_again(pgjobs_real):
    pgjobs_real.refute_enqueued(welcome)
""",
        "-p",
        "no:randomly",
    )

"""``celery pgjobs failures``: problems, and what a deploy changed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from celery.bin.celery import celery
from click.testing import CliRunner, Result

from tests.support.failing import ODD, entry, put_failed

Run = Callable[..., Result]


@pytest.fixture
def run(url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``celery pgjobs ... --url``."""
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)

    def run(*args: str) -> Result:
        done = CliRunner().invoke(celery, ["pgjobs", *args, "--url", url])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    return run


def test_problems_are_listed_and_their_jobs_acted_on(run, connection):
    for n in range(3):
        put_failed(connection, f"key {n}", 90 + n, entry("KeyError", f"'{n}'", "charge"))
    put_failed(connection, "value", 5, entry("ValueError", "\x1b[31m\u202e 7", "send"))
    put_failed(connection, "odd", 600, ODD[7], is_named=False)

    shown = run("failures").output
    assert "KeyError: '0' (app/tasks.py:3 in charge)" in shown
    assert "\x1b[31m" not in shown
    assert "\u202e" not in shown
    assert "5 failures" in shown

    found = json.loads(run("failures", "--since", "2h", "--json").output)
    assert [(one["type"], one["jobs"]) for one in found] == [("ValueError", 1), ("KeyError", 3)]
    [only] = json.loads(run("failures", "--error", "KeyError", "--json").output)
    assert only["type"] == "KeyError"
    assert "1 more problem" in run("failures", "--since", "2h", "--limit", "1").output

    changes = json.loads(run("failures", "--compare", "30m", "--json").output)
    assert [(one["change"], one["type"]) for one in changes] == [("new", "ValueError")]

    name = found[1]["fingerprint"]
    assert "3 jobs" in run("delete", "--fingerprint", name, "--state", "discarded", "--yes").output
    assert json.loads(run("failures", "--since", "2h", "--json").output)[-1]["type"] == "ValueError"


def test_wrong_words_are_refused(run):
    assert "not a time" in run("failures", "--since", "yesterday").output
    assert "no other filter" in run("failures", "--compare", "1h", "--task", "x").output
    assert "past" in run("failures", "--compare", "2999-01-01").output
    assert run("failures").output == "No job stands at a failure.\n"

"""``celery pgjobs doctor`` as people run it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery import Celery
from celery.bin.celery import celery
from click.testing import CliRunner, Result

from pgjobs_celery.beat.schedules import Schedules
from pgjobs_celery.cli import doctor as cli
from pgjobs_celery.control.doctor.findings import CODES, Report, finding
from pgjobs_celery.db.database import Database
from tests.support.celery_process import run_celery
from tests.support.doctoring import OF_THE_SUITE
from tests.support.rows import put

from ..conftest import Connection
from ..support.shop import report

ROOT = Path(__file__).parents[2]

Run = Callable[..., Result]


@pytest.fixture
def run(make_app: Callable[..., Celery], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("CELERY_BROKER_URL", "")  # where Celery keeps what -b says
    module = ModuleType("doctored")
    monkeypatch.setitem(sys.modules, "doctored", module)

    def run(*words: str, conf: dict[str, Any] | None = None) -> Result:
        app = make_app("doctored", **(conf or {}))
        app.task(report, name="shop.report")
        module.app = app  # type: ignore[attr-defined]
        done = CliRunner().invoke(celery, ["-A", "doctored", "pgjobs", "doctor", *words])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    return run


def found(done: Result) -> dict[str, Any]:
    data = json.loads(done.output)
    return {each["code"]: each for each in data["findings"] if each["code"] not in OF_THE_SUITE}


def test_a_warning_ends_with_1_and_is_shown_with_its_remedy(
    run: Run, database: Database, connection: Connection
) -> None:
    put(database, "a", queue="mail\x1b[2J")
    connection.execute("UPDATE pgjobs.jobs SET scheduled_at = now() - interval '3 min'")
    done = run()
    assert done.exit_code == 1
    assert "warning  queue_without_consumer: Jobs wait in a queue" in done.output
    assert "\n         Try: celery -A proj worker -Q 'mail" in done.output
    assert "\x1b" not in done.output
    assert done.output.rstrip().splitlines()[-1].endswith("1 warning")
    done = run("--json")
    assert done.exit_code == 1
    assert found(done)["queue_without_consumer"]["severity"] == "warning"
    assert json.loads(done.output)["left_out"] == {}


def test_settings_and_entries_of_the_app_are_looked_at(run: Run) -> None:
    conf = {
        "broker_heartbeat": 10,
        "beat_schedule": {"gone": {"task": "shop.nowhere", "schedule": 60.0}},
    }
    assert set(found(run("--json", conf=conf))) == {"setting_ignored", "schedule_wrong"}
    assert set(found(run("--json"))) == set()


def test_without_an_app_the_database_is_looked_at(url: str, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
    env = {**env, "PYTHONPATH": str(ROOT)}
    done = run_celery("-b", url, "pgjobs", "doctor", "--json", cwd=tmp_path, env=env)
    data = json.loads(done.stdout)
    assert {each["code"] for each in data["findings"]} <= set(OF_THE_SUITE)
    assert done.returncode == (1 if data["findings"] else 0)
    assert data["left_out"] == {"settings": "no app was named"}


def test_another_schema_of_another_database(run: Run, url: str) -> None:
    done = run("--url", url, "--schema", "other", "--json")
    assert set(found(done)) == {"no_schema"}
    assert "schedules" in json.loads(done.output)["left_out"]
    assert done.exit_code == 1


def test_the_entries_are_those_of_the_database_that_is_examined(
    run: Run, make_app: Callable[..., Celery], make_migrated: Callable[[], str], url: str
) -> None:
    """Not those of the database that the app is set to."""
    other = make_migrated()
    Schedules(make_app("doctored", broker_url=other)).put("typo", "shop.typo", 60)
    assert "schedule_wrong" not in found(run("--json"))
    assert found(run("--json", "--url", other))["schedule_wrong"]["subject"] == "typo"


def test_no_server_is_a_finding(run: Run) -> None:
    done = run("--url", "pgjobs://app:t0p@127.0.0.1:1/x")
    assert done.exit_code == 1
    assert done.output.startswith("error    no_connection: ")
    assert "not_looked_at" not in done.output
    assert "t0p" not in done.output
    assert "Traceback" not in done.output


def test_the_report_for_people() -> None:
    every = [
        finding(code, "evidence\x1b", "remedy\n", "subject")
        for family in CODES.values()
        for code in family
    ]
    lines = [*cli.lines(Report(tuple(every), {"a": "why", "b": "why"}))]
    assert "left out: a, b (why)" in lines
    assert all(line.isprintable() for line in lines)
    assert [*cli.lines(Report(()))] == ["Nothing is wrong."]
    notices = Report(tuple(each for each in every if not each.is_wrong))
    assert notices.is_well
    assert not Report(tuple(every)).is_well

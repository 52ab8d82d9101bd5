"""An app with entries, beats that look at once, and what they have published."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from celery import Celery
from celery.bin.celery import celery
from click.testing import CliRunner, Result

from pgjobs_celery.beat.scheduler import PgScheduler

from ..conftest import Connection

Row = dict[str, Any]


def report(*args: Any, **kwargs: Any) -> None: ...


def make_shop(make_app: Callable[..., Celery], monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An app that ``celery -A cli_shop`` finds in this process."""
    app = make_app("shop", timezone="Europe/Berlin")
    app.task(report, name="shop.report")
    module = ModuleType("cli_shop")
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cli_shop", module)
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    return app


def run_schedules(*args: str) -> Result:
    """``celery -A cli_shop pgjobs schedules ...``."""
    done = CliRunner().invoke(celery, ["-A", "cli_shop", "pgjobs", "schedules", *args])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def start_beat(app: Celery) -> PgScheduler:
    """A beat that has looked once."""
    beat = PgScheduler(app)
    beat.tick()
    return beat


def tick(*beats: PgScheduler) -> None:
    """Have each look, and publish what is due."""
    for beat in beats:
        beat._next_look = 0.0
        while beat.tick() == 0.0:
            pass


def jobs(connection: Connection) -> list[Row]:
    """The jobs, with the entries that they come from."""
    query = "SELECT *, meta->>'schedule' AS entry FROM pgjobs.jobs ORDER BY seq"
    return connection.execute(query).fetchall()


def entries(connection: Connection) -> dict[str, Row]:
    """The rows of the entries."""
    return {row["name"]: row for row in connection.execute("SELECT * FROM pgjobs.schedules")}


def published(connection: Connection) -> Counter[str]:
    """How many jobs of each entry there are."""
    return Counter(row["entry"] for row in jobs(connection))

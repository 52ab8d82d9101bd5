"""Finished jobs are deleted by state, age and count; everything else stays."""

from __future__ import annotations

import dataclasses
from typing import Any

import psycopg
import pytest

from pgjobs_celery.config import Settings
from pgjobs_celery.db.database import Database
from pgjobs_celery.maintenance.prune import Prune
from tests.support.rows import put, states

Connection = psycopg.Connection[dict[str, Any]]

DAY = 86_400.0
SETTINGS = Settings(prune_max_age=DAY, prune_failed_max_age=7 * DAY)


def end(connection: Connection, task_id: str, state: str, days_ago: float) -> None:
    connection.execute(
        "UPDATE pgjobs.jobs SET state = %s, finished_at = now() - %s * interval '1 day' "
        "WHERE task_id = %s",
        (state, days_ago, task_id),
    )


@pytest.fixture
def jobs(database: Database, connection: Connection) -> None:
    put(
        database,
        "waiting",
        *(f"{s}{d}" for s in ("completed", "discarded", "cancelled") for d in (0, 2, 8)),
    )
    put(database, "scheduled", eta=3600)
    for state in ("completed", "discarded", "cancelled"):
        for days in (0, 2, 8):
            end(connection, f"{state}{days}", state, days)


@pytest.mark.usefixtures("jobs")
def test_what_has_failed_is_kept_longer(database: Database, connection: Connection):
    assert Prune(SETTINGS).run(database) == {"pruned": 4}
    assert set(states(connection)) == {
        "waiting", "scheduled", "completed0",
        "discarded0", "discarded2", "cancelled0", "cancelled2",
    }  # fmt: skip


@pytest.mark.usefixtures("jobs")
def test_nothing_is_deleted_where_no_age_is_set(database: Database, connection: Connection):
    settings = Settings(prune_max_age=0, prune_failed_max_age=0)
    assert Prune(settings).run(database) == {"pruned": 0}
    assert len(states(connection)) == 11


@pytest.mark.usefixtures("jobs")
def test_no_more_of_each_state_are_kept_than_wanted(database: Database, connection: Connection):
    settings = Settings(prune_max_age=0, prune_failed_max_age=0, prune_max_count=1)
    assert Prune(settings).run(database) == {"pruned": 6}
    assert set(states(connection)) == {
        "waiting", "scheduled", "completed0", "discarded0", "cancelled0",
    }  # fmt: skip


def test_many_are_deleted_in_batches(database: Database, connection: Connection):
    put(database, *map(str, range(50)))
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'completed', finished_at = now() - interval '2 days'"
    )
    prune = Prune(SETTINGS)
    prune.batch = 7
    assert prune.run(database) == {"pruned": 50}
    assert states(connection) == {}


def test_a_row_that_somebody_has_locked_holds_nobody_up(database: Database, connection: Connection):
    put(database, "a", "b")
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'completed', finished_at = now() - interval '2 days'"
    )
    with connection.transaction():
        connection.execute("SELECT FROM pgjobs.jobs WHERE task_id = 'a' FOR UPDATE")
        assert Prune(SETTINGS).run(database) == {"pruned": 1}
    assert set(states(connection)) == {"a"}
    assert dataclasses.replace(SETTINGS).prune_max_age == DAY

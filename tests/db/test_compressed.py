"""What is small on the disk only, where it is compressed, is not read by what shows many rows."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from pgjobs_celery.db.database import Database
from tests.support.rows import put

from ..conftest import Connection

#: Compressed to about a hundredth, and what is read of each; beyond every limit of a list.
LONG = "a" * 160_000


@pytest.fixture
def _rows(database: Database, connection: Connection) -> None:
    put(database, "small", "large")
    fail = (
        "UPDATE pgjobs.jobs SET state = 'discarded', finished_at = now(), failed_at = now(), "
        "fingerprint = %s, meta = %s, errors = %s WHERE task_id = %s"
    )
    for task_id, text in (("small", "x"), ("large", LONG)):
        errors = [{"type": "KeyError", "message": text, "attempt": 1}]
        connection.execute(
            fail, (f"KeyError-{task_id}", Jsonb({"k": text}), Jsonb(errors), task_id)
        )
    sizes = connection.execute("SELECT pg_column_size(meta) AS size FROM pgjobs.jobs").fetchall()
    assert max(row["size"] for row in sizes) < 2_048, "it was not compressed"


@pytest.mark.usefixtures("_rows")
def test_it_is_not_read_by_lists(database: Database, connection: Connection):
    listing, ids = database.listing, connection.execute("SELECT id FROM pgjobs.jobs").fetchall()
    listed = {job.task_id: job.meta for job in listing.show_jobs([row["id"] for row in ids])}
    assert (listed["small"], listed["large"]) == ({"k": "x"}, None)
    words: list[dict[str, Any]] = [each.meta for each in listing.list_words(10)]
    assert words == [{}, {"k": "x"}]


@pytest.mark.usefixtures("_rows")
def test_it_is_not_read_by_pages_of_jobs_beyond_their_limit(database: Database):
    shown = {job.task_id: job for job in database.views.show_jobs(["small", "large"], 64 * 1024)}
    assert (shown["small"].meta, shown["large"].meta) == ({"k": "x"}, {})
    assert [error["type"] for error in shown["small"].errors] == ["KeyError"]
    assert shown["large"].errors == []
    job = database.views.show_job("large")
    assert job is not None
    assert (job.meta, len(job.errors)) == ({"k": LONG}, 1)


@pytest.mark.usefixtures("_rows")
def test_it_is_not_read_by_lists_of_failures(database: Database, connection: Connection):
    since = datetime.now(timezone.utc) - timedelta(hours=1)
    problems, _, _ = database.failures.survey_failures(since)
    assert {row.fingerprint: bool(row.error) for row in problems} == {
        "KeyError-small": True, "KeyError-large": False,
    }  # fmt: skip
    connection.execute("UPDATE pgjobs.jobs SET fingerprint = NULL")
    unnamed = {row.task_id: bool(row.error) for row in database.failures.list_unnamed()}
    assert unnamed == {"small": True, "large": False}

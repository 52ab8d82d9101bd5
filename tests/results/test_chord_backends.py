"""A chord is counted by the result backend of its publisher; another one says that it cannot."""

from __future__ import annotations

import logging
from uuid import uuid4

import pytest
from celery import Celery, chord

from pgjobs_celery.job.outcome import completed
from pgjobs_celery.job.rows import Bucket

from ..conftest import Connection, close_app
from ..support.holders import execute, hold
from ..support.rows import alive, row


def part(number: int) -> int:
    return number


def body(numbers: list[int]) -> int:
    return sum(numbers)


def app_with(broker: str, backend: str) -> Celery:
    app = Celery("tests", broker=broker, backend=backend, set_as_current=False)
    app.task(name="part")(part)
    app.task(name="body")(body)
    return app


@pytest.mark.peer
def test_a_chord_that_another_backend_counts_is_named_once(
    url: str, redis_url: str, connection: Connection, caplog: pytest.LogCaptureFixture
):
    """A worker was given the new result backend while chords of the old one were on their way."""
    publisher, worker = app_with(url, redis_url), app_with(url, url)
    parts = [publisher.tasks["part"].s(number) for number in range(3)]
    result = chord(parts)(publisher.tasks["body"].s())
    with caplog.at_level(logging.WARNING):
        for _ in parts:
            execute(worker, hold(worker))
    warnings = [record.message for record in caplog.records if "is part of chord" in record.message]
    assert len(warnings) == 1
    assert result.parent.id in warnings[0]
    assert "another result backend" in warnings[0]
    jobs = connection.execute("SELECT task FROM pgjobs.jobs ORDER BY id").fetchall()
    assert [job["task"] for job in jobs] == ["part"] * 3
    for app in (publisher, worker):
        close_app(app)


def test_a_chord_of_this_backend_is_not_warned_of(
    url: str, connection: Connection, caplog: pytest.LogCaptureFixture
):
    app = app_with(url, url)
    result = chord([app.tasks["part"].s(number) for number in range(3)])(app.tasks["body"].s())
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            execute(app, hold(app))
    assert "is part of chord" not in caplog.text
    assert row(connection, result.id)["task"] == "body"
    close_app(app)


def test_members_that_stored_their_results_elsewhere_are_named(
    url: str, connection: Connection, caplog: pytest.LogCaptureFixture
):
    """A worker with another result backend leaves rows that have completed, and no results."""
    app = app_with(url, url)
    chord([app.tasks["part"].s(number) for number in range(3)])(app.tasks["body"].s())
    elsewhere = uuid4()
    database = app.backend.database
    alive(database, elsewhere)
    claims, _ = database.claims.claim_jobs(elsewhere, "other@test", [Bucket("celery")], 2)
    outcomes = [completed(claim) for claim in claims]
    database.claims.settle_jobs(elsewhere, outcomes)
    with caplog.at_level(logging.WARNING):
        execute(app, hold(app))
    (warning,) = [r.message for r in caplog.records if "stored no result here" in r.message]
    named = connection.execute("SELECT task_id FROM pgjobs.jobs WHERE attempted_by = 'other@test'")
    assert all(job["task_id"] in warning for job in named.fetchall())
    (published,) = connection.execute("SELECT args FROM pgjobs.job_details WHERE task = 'body'")
    assert published["args"] == [[None, None, 2]]
    close_app(app)

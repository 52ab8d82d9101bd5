"""Outcomes that come too late change nothing; those that the server refuses hold up no others."""

from __future__ import annotations

import logging

from pgjobs_celery.job.outcome import completed
from tests.node.cuts import CELERY
from tests.support.rows import put, row, states


def test_a_lost_claim_is_logged_once_and_changes_nothing(database, connection, node, caplog):
    put(database, "lost", "kept")
    lost, kept = node.claim_jobs(CELERY, 2)
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'available', claimed_by = NULL WHERE id = %s", (lost.id,)
    )
    with caplog.at_level(logging.WARNING):
        node.settle(completed(lost))
        node.settle(completed(kept))
        node.flush()
        node.flush()
    assert states(connection) == {"lost": "available", "kept": "completed"}
    assert node.lost_claims == 1
    (record,) = caplog.records
    assert record.getMessage() == (
        f"job {lost.id}: attempt 1 was no longer ours; its outcome (completed) was not written"
    )


def test_an_outcome_that_another_process_may_have_written_is_not_called_lost(
    database, connection, node, caplog
):
    put(database, "a")
    (a,) = node.claim_jobs(CELERY, 1)
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'completed', claimed_by = NULL, finished_at = now()"
    )
    node.settle(completed(a)._replace(is_sole=False))
    node.flush()
    assert caplog.records == []


def test_an_outcome_that_the_server_refuses_is_set_aside_and_the_others_are_written(
    database, connection, node, caplog
):
    put(database, "bad", "worse", "good", "next")
    claims = node.claim_jobs(CELERY, 3)
    by_id = dict(zip(["bad", "worse", "good"], claims, strict=True))
    check = "task_id NOT IN ('bad', 'worse') OR state <> 'completed'"
    connection.execute(
        f"ALTER TABLE pgjobs.jobs ADD CONSTRAINT nobody_is_bad CHECK ({check}), "
        "ADD CONSTRAINT nobody_is_worse CHECK (task_id <> 'worse' OR finished_at IS NULL)"
    )
    try:
        for claim in claims:
            node.settle(completed(claim))
        assert len(node.claim_jobs(CELERY, 1)) == 1
        assert node.unwritten == 0
    finally:
        connection.execute(
            "ALTER TABLE pgjobs.jobs DROP CONSTRAINT nobody_is_bad, DROP CONSTRAINT nobody_is_worse"
        )
    assert states(connection) == {
        "bad": "discarded", "worse": "executing", "good": "completed", "next": "executing",
    }  # fmt: skip
    (error,) = row(connection, "bad")["errors"]
    assert (error["type"], error["attempt"]) == ("CheckViolation", 1)
    assert "nobody_is_bad" in error["message"]
    messages = [record.getMessage() for record in caplog.records]
    assert f"job {by_id['worse'].id} cannot be set aside either" in messages[-1]

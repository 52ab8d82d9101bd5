"""The facts about a worker that make its probes fail, and those that do not."""

from __future__ import annotations

import pytest

from pgjobs_celery.worker.probes import Facts, is_hopeless, reasons

WELL = Facts(
    is_consuming=True, turned=0.1, answered=1.0, beaten=1.0, error=None, is_schema_error=False,
    lease=13.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({}, []),
        ({"turned": None, "beaten": None}, []),
        ({"turned": 9.0, "answered": 9.0, "beaten": 12.9}, []),
        ({"is_consuming": False}, ["not_consuming"]),
        ({"turned": 9.8}, ["event_loop"]),
        ({"answered": 9.8}, ["database"]),
        ({"answered": None}, ["database"]),
        ({"error": "no server"}, ["database"]),
        ({"error": "at version 1", "is_schema_error": True}, ["schema"]),
        ({"beaten": 13.1}, ["lease"]),
        ({"beaten": 99.0, "turned": 99.0, "answered": 99.0}, ["database", "lease", "event_loop"]),
    ],
)
def test_a_worker_is_not_ready_for_a_reason(changes, kinds):
    assert [reason.kind for reason in reasons(WELL._replace(**changes))] == kinds


@pytest.mark.parametrize(
    ("changes", "is_dead"),
    [
        ({}, False),
        ({"error": "no server", "answered": 9e9, "beaten": 9e9}, False),
        ({"turned": 64.0}, False),
        ({"turned": 66.0}, True),
        ({"turned": 66.0, "is_consuming": False}, False),
        ({"turned": None}, False),
    ],
)
def test_only_an_event_loop_that_does_not_turn_asks_for_a_restart(changes, is_dead):
    assert is_hopeless(WELL._replace(**changes)) == is_dead

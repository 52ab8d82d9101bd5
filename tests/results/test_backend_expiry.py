"""How long results and saved groups are kept: Celery's settings, ours before them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from ..conftest import Connection

MakeApp = Callable[..., Celery]

HOUR, DAY = 3600, 86_400
AGES = {"minute": 60, "hour": HOUR, "days": 2 * DAY, "month": 31 * DAY}
TWO_HOURS, FOR_EVER = 2 * HOUR, list(AGES)

#: Settings, and of what age successes, failures and groups are still there after a cleanup.
KEPT: list[tuple[dict[str, Any], list[str], list[str], list[str]]] = [
    ({}, FOR_EVER[:2], FOR_EVER[:3], FOR_EVER[:2]),
    ({"result_expires": TWO_HOURS}, FOR_EVER[:2], FOR_EVER[:3], FOR_EVER[:2]),
    ({"result_expires": timedelta(minutes=5)}, FOR_EVER[:1], FOR_EVER[:3], FOR_EVER[:1]),
    ({"result_expires": None}, FOR_EVER, FOR_EVER, FOR_EVER),
    ({"result_expires": 40 * DAY}, FOR_EVER, FOR_EVER, FOR_EVER),
    ({"result_failure_expires": TWO_HOURS}, FOR_EVER[:2], FOR_EVER[:2], FOR_EVER[:2]),
    ({"result_failure_expires": timedelta(minutes=5)}, FOR_EVER[:2], FOR_EVER[:1], FOR_EVER[:2]),
    ({"result_failure_expires": 0}, FOR_EVER[:2], FOR_EVER, FOR_EVER[:2]),
    (
        {"result_expires": 300, "pgjobs_prune_max_age": TWO_HOURS},
        FOR_EVER[:2], FOR_EVER[:2], FOR_EVER[:2],
    ),
    ({"result_expires": None, "pgjobs_prune_max_age": TWO_HOURS}, *[FOR_EVER[:2]] * 3),
    ({"pgjobs_prune_max_age": 0}, FOR_EVER, FOR_EVER, FOR_EVER),
    (
        {"pgjobs_prune_max_age": TWO_HOURS, "pgjobs_prune_failed_max_age": 0},
        FOR_EVER[:2], FOR_EVER, FOR_EVER[:2],
    ),
    (
        {"pgjobs_prune_max_age": TWO_HOURS, "result_failure_expires": timedelta(minutes=5)},
        FOR_EVER[:2], FOR_EVER[:1], FOR_EVER[:2],
    ),
    (
        {"result_failure_expires": 40 * DAY, "pgjobs_prune_failed_max_age": TWO_HOURS},
        FOR_EVER[:2], FOR_EVER[:2], FOR_EVER[:2],
    ),
    (
        {"result_expires": 300, "result_chord_expires": TWO_HOURS},
        FOR_EVER[:1], FOR_EVER[:3], FOR_EVER[:2],
    ),
    (
        {"result_expires": 300, "result_chord_expires": 0},
        FOR_EVER[:1], FOR_EVER[:3], FOR_EVER[:2],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("conf", "successes", "failures", "groups"), KEPT, ids=[str(each[0]) for each in KEPT]
)
def test_results_are_kept_as_long_as_is_set(
    make_app: MakeApp,
    connection: Connection,
    conf: dict[str, Any],
    successes: list[str],
    failures: list[str],
    groups: list[str],
):
    app = make_app(**conf)
    for name, age in AGES.items():
        app.backend.mark_as_done(f"success {name}", 1)
        app.backend.mark_as_failure(f"failure {name}", ValueError(name))
        app.GroupResult(f"group {name}", []).save()
        # A minute younger than its name says: none is right on the edge.
        values = (age - 60, f"% {name}")
        connection.execute(
            "UPDATE pgjobs.jobs SET finished_at = now() - %s * interval '1 second' "
            "WHERE task_id LIKE %s", values
        )  # fmt: skip
        connection.execute(
            "UPDATE pgjobs.groups SET inserted_at = now() - %s * interval '1 second' "
            "WHERE group_id LIKE %s", values
        )  # fmt: skip
    app.backend.cleanup()
    kept = {
        row["id"]
        for row in connection.execute(
            "SELECT task_id AS id FROM pgjobs.jobs UNION ALL SELECT group_id FROM pgjobs.groups"
        )
    }
    assert kept == {
        f"{kind} {name}"
        for kind, names in (("success", successes), ("failure", failures), ("group", groups))
        for name in names
    }


def test_celerys_own_task_cleans_up(make_app: MakeApp, connection: Connection):
    app = make_app()
    app.backend.mark_as_done("old", 1)
    connection.execute("UPDATE pgjobs.jobs SET finished_at = now() - interval '2 days'")
    app.tasks["celery.backend_cleanup"]()
    assert connection.execute("SELECT * FROM pgjobs.jobs").fetchall() == []

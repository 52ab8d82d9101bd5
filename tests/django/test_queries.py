"""Django counts the same queries for a job, whatever the process has published before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pgjobs_celery import using
from pgjobs_celery.db import database as databases

from ..conftest import close_app
from .conftest import BROKER, new_app

db = pytest.importorskip("django.db")


def count_queries(publish: Callable[[], Any]) -> int:
    """What ``assertNumQueries`` counts."""
    from django.test.utils import CaptureQueriesContext

    with db.transaction.atomic(), CaptureQueriesContext(db.connection) as queries:
        publish()
    return len(queries)


@pytest.mark.parametrize("is_alias", [True, False], ids=["an alias", "using"])
def test_the_first_delay_of_a_process_is_one_query_like_the_second(
    url: str, is_alias: bool, monkeypatch: pytest.MonkeyPatch
):
    # As in a process that has not published yet.
    monkeypatch.setattr(databases, "_databases", {})
    app = new_app(BROKER if is_alias else url)
    add = app.tasks["add"]

    def publish() -> None:
        with using("default"):
            add.delay(1, 1)

    try:
        assert [count_queries(publish), count_queries(publish)] == [1, 1]
    finally:
        close_app(app)
        for database in databases.known_databases():
            database.close()

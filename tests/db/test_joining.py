"""What is done beside a caller's transaction, in the same thread."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from celery import Celery

from pgjobs_celery import PgTask, jobs, using
from pgjobs_celery.db import joining
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import CannotJoin

from ..conftest import Connection
from ..support.rows import states


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()

    @app.task(name="any", base=PgTask, shared=False)
    def run_any() -> None: ...

    @app.task(name="once", base=PgTask, unique=True, shared=False)
    def run_once() -> None: ...

    return app


def test_what_waits_for_the_block_it_stands_in_is_told_so(
    app: Celery, url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(joining, "LOCK_TIMEOUT", 200)
    once: PgTask = app.tasks["once"]
    with psycopg.connect(parse_url(url)) as own:
        with using(own):
            kept = once.delay()
            with using(None), pytest.raises(CannotJoin, match="row that is held"):
                once.delay()
        own.commit()
    assert states(connection) == {kept.id: "available"}


def test_what_waits_for_nobody_is_done_beside_the_transaction(
    app: Celery, url: str, connection: Connection
):
    add = app.tasks["any"]
    with psycopg.connect(parse_url(url)) as own:
        with using(own):
            lost = add.delay()
            with using(None):
                kept, later = add.delay(), add.apply_async(countdown=60)
                assert jobs(app).filter(id=[kept, later]).count() == 2
            assert jobs(app).get(lost) is not None
        own.rollback()
    assert states(connection) == {kept.id: "available", later.id: "scheduled"}

"""To wait for what is published only after the wait raises at once, and says what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
from celery import Celery, group
from celery.exceptions import TimeoutError

from pgjobs_celery import aget, bulk, using
from pgjobs_celery.errors import NotCommitted

from ..conftest import Connection
from ..publishing.test_using import Open, RolledBack, run
from ..support.callers import KINDS, open_kind, with_tasks


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, url: str) -> Open:
    """The test, once for each kind of connection."""
    return lambda: open_kind(request.param, url)


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return with_tasks(make_app())


def test_a_result_of_the_open_transaction_is_not_waited_for(
    kind: Open, app: Celery, connection: Connection
):
    add = app.tasks["add"]

    async def work() -> None:
        before = add.delay(0, 0)
        app.backend.mark_as_done(before.id, 7)
        async with kind() as caller:
            async with caller.using():
                assert await aget(before, timeout=10) == 7  # nothing is published yet
                written = await caller.publish(add, 1, 1)
                with pytest.raises(NotCommitted):
                    await aget(app.AsyncResult(written.id))
                with pytest.raises(TimeoutError):
                    await aget(written, timeout=3600)
                async with caller.savepoint():
                    inner = await caller.publish(add, 2, 2)
                    with pytest.raises(NotCommitted):
                        await aget(inner)
                assert await aget(before, timeout=10) == 7
                with using(None):
                    assert await aget(before, timeout=10) == 7
            await caller.commit()
        app.backend.mark_as_done(written.id, 8)
        assert await aget(written, timeout=10) == 8

    run(work())


def test_what_get_waits_for_in_a_synchronous_block(app: Celery, url: str):
    add = app.tasks["add"]

    async def work() -> None:
        async with open_kind("psycopg", url) as caller:
            with using(caller.connection):
                for wait in (
                    add.delay(1, 1).get,
                    group(add.s(1, 1), add.s(2, 2))().get,
                    (add.s(1, 1) | add.s(2)).delay().get,
                ):
                    with pytest.raises(NotCommitted, match="still open here"):
                        wait()
                with suppress(RolledBack):
                    async with caller.savepoint():
                        lost = add.delay(3, 3)
                        raise RolledBack
                with pytest.raises(TimeoutError) as raised:
                    lost.get(timeout=0.1)
                assert not isinstance(raised.value, NotCommitted)

    run(work())


def test_what_is_collected_is_not_waited_for_either(app: Celery):
    add = app.tasks["add"]
    with bulk():
        result = add.delay(1, 1)
        with pytest.raises(NotCommitted, match="is collected"):
            result.get()
        with pytest.raises(NotCommitted, match="is collected"):
            group(add.s(1, 1))().get(timeout=10)
    with pytest.raises(TimeoutError) as raised:
        result.get(timeout=0)
    assert not isinstance(raised.value, NotCommitted)


def test_nor_where_a_coroutine_collects_it(app: Celery):
    async def work() -> None:
        with bulk():
            result = app.tasks["add"].delay(1, 1)
            with pytest.raises(NotCommitted, match="is collected"):
                await aget(result)
            with pytest.raises(NotCommitted, match="is collected"):
                await asyncio.gather(aget(result), aget(result))

    run(work())

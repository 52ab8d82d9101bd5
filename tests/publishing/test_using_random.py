"""In whatever order transactions and savepoints come and go, a job is there exactly if its row is.

Or CannotJoin is raised, where the end of a transaction cannot be seen coming. PGJOBS_TEST_EXAMPLES
looks for longer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from celery import Celery
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgjobs_celery import bulk
from pgjobs_celery.errors import CannotJoin

from ..conftest import Connection
from ..support.callers import KINDS, Kind, open_kind, with_tasks
from .test_using import RolledBack, run

EXAMPLES = int(os.environ.get("PGJOBS_TEST_EXAMPLES", "40"))

#: What is done with a row and its job: which of them comes first.
a_publish = st.sampled_from(["row, job", "job, row"])
an_end = st.sampled_from(["commit", "rollback"])


def blocks(kinds: list[str]) -> Callable[[Any], Any]:
    """Savepoints around other steps, and inner blocks of ``bulk()``."""
    return lambda steps: st.tuples(
        st.sampled_from(kinds), st.booleans(), st.lists(steps, max_size=4).map(tuple)
    )


def programs(kinds: list[str]) -> Any:
    within = st.recursive(a_publish, blocks(kinds), max_leaves=8)
    return st.lists(st.one_of(a_publish, an_end, within), min_size=1, max_size=8)


class Run:
    """A program over one connection."""

    def __init__(self, caller: Kind, app: Celery) -> None:
        self.caller = caller
        self.add = app.tasks["add"]
        self.count = 0

    async def run(self, steps: Any) -> None:
        for step in steps:
            if isinstance(step, tuple):
                await self.block(*step)
            elif step in ("commit", "rollback"):
                await getattr(self.caller, step)()
            else:
                self.count += 1
                for what in step.split(", "):
                    if what == "row":
                        await self.caller.execute(f"INSERT INTO mine VALUES ({self.count})")
                    else:
                        self.add.delay(self.count, 0)

    async def block(self, kind: str, is_kept: bool, steps: Any) -> None:
        if kind == "bulk":
            with bulk():
                await self.run(steps)
        elif kind == "savepoint":
            with suppress(RolledBack):
                async with self.caller.savepoint():
                    await self.run(steps)
                    if not is_kept:
                        raise RolledBack
        else:
            await self.caller.execute("SAVEPOINT by_hand")
            await self.run(steps)
            await self.caller.execute(f"{'RELEASE' if is_kept else 'ROLLBACK TO'} by_hand")


def check(
    url: str, app: Celery, connection: Connection, name: str, kinds: list[str], *, may_raise: bool
) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS mine (n integer)")

    async def work(program: list[Any]) -> bool:
        async with open_kind(name, url) as caller:
            try:
                async with caller.using():
                    with bulk():
                        await Run(caller, app).run(program)
            except CannotJoin:
                return False
            await caller.commit()
        return True

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(programs(kinds))
    def run_program(program: list[Any]) -> None:
        connection.execute("DELETE FROM mine")
        connection.execute("DELETE FROM pgjobs.jobs")
        is_done = run(work(program))
        assert is_done or may_raise
        rows = {row["n"] for row in connection.execute("SELECT n FROM mine").fetchall()}
        bodies = connection.execute(
            "SELECT convert_from(body, 'UTF8')::jsonb -> 0 -> 0 AS n FROM pgjobs.jobs"
        ).fetchall()
        if is_done:
            assert [*sorted(row["n"] for row in bodies)] == [*sorted(rows)]

    try:
        run_program()
    finally:
        connection.execute("DROP TABLE mine")


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return with_tasks(make_app())


@pytest.mark.parametrize("name", [name for name in KINDS if "async" not in name])
def test_of_synchronous_connections_every_end_is_seen_coming(
    url: str, app: Celery, connection: Connection, name: str
):
    check(url, app, connection, name, ["savepoint", "bulk"], may_raise=False)


@pytest.mark.parametrize("name", KINDS)
def test_what_nobody_sees_coming_is_an_error(
    url: str, app: Celery, connection: Connection, name: str
):
    check(url, app, connection, name, ["savepoint", "bulk", "by hand"], may_raise=True)

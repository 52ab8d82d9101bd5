"""Blocks in blocks, by chance: a job is there exactly if the row is that was written beside it."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress

import pytest
from celery import Celery, chord

from pgjobs_celery import bulk, using

from ..conftest import Connection
from ..support.rows import states

db = pytest.importorskip("django.db")


class Undo(Exception):
    """Ends a block, and with it its transaction or savepoint."""


class Program:
    """What somebody might write: publishes, and writes down beside it what it has published."""

    def __init__(self, app: Celery, seed: int) -> None:
        self._app = app
        self._seed = seed
        self._random = random.Random(seed)
        self._number = 0
        #: What was published whatever becomes of the transaction.
        self.apart: set[str] = set()

    def run(self) -> None:
        """Some blocks, one after the other."""
        for _ in range(3):
            self._atomic(0)

    def _atomic(self, depth: int) -> None:
        """A block which may end by an error; without a savepoint so does the one around it."""
        has_savepoint = depth == 0 or self._random.random() < 0.7
        caught = suppress(Undo) if has_savepoint else nullcontext()
        with caught, db.transaction.atomic(savepoint=has_savepoint):
            self._steps(depth)
            if self._random.random() < 0.35:
                raise Undo

    def _steps(self, depth: int) -> None:
        steps: list[Callable[[int], None]] = [
            self._publish, self._publish, self._publish_apart, self._inner, self._batch, self._chord
        ]  # fmt: skip
        for _ in range(self._random.randint(1, 4)):
            self._random.choice(steps)(depth)

    def _inner(self, depth: int) -> None:
        if depth < 4:
            self._atomic(depth + 1)

    def _batch(self, depth: int) -> None:
        if depth < 4:
            with bulk(size=self._random.choice([1, 2, 1000])):
                self._steps(depth + 1)

    def _publish(self, depth: int) -> None:
        self._write_down(self._app.tasks["add"].apply_async((1, 1), task_id=self._new_id()).id)

    def _chord(self, depth: int) -> None:
        add = self._app.tasks["add"]
        ids = [self._new_id() for _ in range(2)]
        chord([add.s(1, 1).set(task_id=each) for each in ids])(self._app.tasks["total"].s())
        for each in ids:
            self._write_down(each)

    def _publish_apart(self, depth: int) -> None:
        with using(None):
            self._app.tasks["add"].apply_async((1, 1), task_id=self._new_id())
        self.apart.add(f"{self._seed}.{self._number}")

    def _new_id(self) -> str:
        self._number += 1
        return f"{self._seed}.{self._number}"

    def _write_down(self, task_id: str) -> None:
        with db.connection.cursor() as cursor:
            cursor.execute("INSERT INTO written_down VALUES (%s)", [task_id])


@pytest.mark.parametrize("threads", [1, 4])
def test_a_job_is_there_exactly_if_what_was_written_beside_it_is(
    app: Celery, connection: Connection, threads: int
):
    connection.execute("CREATE TABLE written_down (task_id text)")
    programs = [Program(app, seed) for seed in range(24)]

    def run(some: list[Program]) -> None:
        for program in some:
            program.run()
        db.connections.close_all()

    try:
        with ThreadPoolExecutor(threads) as executor:
            # A failure in a thread is raised here.
            list(executor.map(run, [programs[first::threads] for first in range(threads)]))
        rows = connection.execute("SELECT task_id FROM written_down").fetchall()
        apart = set().union(*(program.apart for program in programs))
        assert set(states(connection)) == {row["task_id"] for row in rows} | apart
        assert len(rows) > len(apart) > 20
    finally:
        connection.execute("DROP TABLE written_down")

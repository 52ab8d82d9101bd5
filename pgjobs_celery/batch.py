"""Collect what is published in a block, and write it in as few statements as can be.

with bulk():
    for user in users:
        welcome.delay(user.id)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import takewhile
from typing import Any

from kombu.exceptions import OperationalError

from .db.database import CONNECTION_ERRORS, Database
from .db.joining import Places
from .errors import InvalidOption
from .flushing import Flush, Step
from .putting import Insertion
from .scopes import Entered, Scope, Scoped
from .threads import in_thread

#: How many are collected before they are written on the way, unless the block says otherwise.
SIZE = 1000
#: And how many bytes their bodies may have together.
MAX_BYTES = 16 * 1024 * 1024


def check_size(size: Any) -> None:
    """Raise InvalidOption for what is no number of jobs."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InvalidOption(f"size must be a whole number from 1, not {size!r}")


class Batch:
    """What was published and is not written yet. Thread-safe."""

    def __init__(self, size: int = SIZE, *, is_promised: bool = True) -> None:
        check_size(size)
        #: How many jobs one flush writes at most.
        self.size = size
        #: Whoever publishes has the ids, and may look for them.
        self.is_promised = is_promised
        #: How many jobs were written so far; those that others stand for are not counted.
        self.written = 0
        self._places = Places()
        self._steps: list[tuple[Database, Step]] = []
        #: Of the first of them, where it has failed.
        self._flush: Flush | None = None
        self._bytes = 0
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """How many wait to be written."""
        return len(self._steps)

    def takes(self, database: Database) -> bool:
        """False where it is published into another transaction, or savepoint, than this began in.

        What is published there must not outlive it.
        """
        return self._places.of(database) == database.find_place()

    @property
    def is_free(self) -> bool:
        """True where another thread may write it: it is part of no transaction of this one."""
        return not any(
            database.alias or database.is_in_transaction or database.find_place().caller
            for database in {database for database, _ in self._steps}
        )

    def add(self, database: Database, step: Step) -> None:
        """Collect one more; what was collected is written once that is enough.

        Where that fails, this one is not collected, and the others stay.
        """
        size = 0
        if isinstance(step, Insertion):
            size = len(step.job.body)
            if step.publication is not None and self.is_promised:
                step.publication.is_promised = True
        with self._lock:
            self._steps.append((database, step))
            self._bytes += size
            if len(self._steps) < self.size and self._bytes < MAX_BYTES:
                return
            caller = database.find_place().caller
            if caller is not None and not caller.can_execute:
                return  # on an event loop, where that waits for the end of the block
            try:
                self.flush()
            except BaseException:
                # It is the last, and its publisher is told of the error.
                self._steps.pop()
                self._bytes -= size
                raise

    def flush(self) -> None:
        """Write what was collected: all of it or, where that raises, nothing, and it stays.

        Raises MessageRefused, with its name, for a job that cannot be stored, and kombu's
        OperationalError if there is no server, as ``delay()`` does.
        """
        with self._lock:
            while self._steps:
                flush = self._next_flush()
                try:
                    self.written += flush.write()
                except CONNECTION_ERRORS as error:
                    raise OperationalError(str(error)) from error
                self._flush = None
                del self._steps[: len(flush.steps)]
            self._bytes = 0

    def _next_flush(self) -> Flush:
        database = self._steps[0][0]
        steps = [step for _, step in takewhile(lambda each: each[0] is database, self._steps)]
        if self._flush is None:
            self._flush = Flush(database, steps)
        # Sent before, perhaps, without an answer; by now there may be more.
        self._flush.steps = steps
        return self._flush

    def discard(self) -> None:
        """Forget what was collected."""
        with self._lock:
            self._steps.clear()
            self._bytes = 0
            self._flush = None

    def hand_over(self) -> None:
        """Its block has ended: write what was collected, or leave that to a batch around it."""
        outer = batches.find()
        if outer is not None and outer.value.is_begun_with(self):
            outer.value.take_over(self)
        else:
            self.flush()

    def is_begun_with(self, other: Batch) -> bool:
        """True where both began at the same place, so that they may be written together."""
        return self._places == other._places

    def take_over(self, other: Batch) -> None:
        """Collect what another one has collected."""
        with self._lock:
            if len(self._steps) + len(other._steps) > self.size:
                self.flush()
            self._bytes += other._bytes
            self._steps += other.take()

    def take(self) -> list[tuple[Database, Step]]:
        """What was collected, which is not this one's any more."""
        with self._lock:
            steps = list(self._steps)
            self.discard()
        return steps


#: What collects here.
batches: Scoped[Batch] = Scoped("pgjobs_bulk")


def find_batch(database: Database) -> Batch | None:
    """The batch that collects what is published here; None where it is written at once."""
    scope = batches.find()
    return scope.value if scope is not None and scope.value.takes(database) else None


def take_part(database: Database, act: Callable[[], None]) -> None:
    """Do what belongs to the publishing of jobs where these are put, and in their order."""

    def act_there() -> None:
        with database.joining():
            act()

    batch = find_batch(database)
    if batch is None:
        act_there()
    else:
        batch.add(database, act_there)


class bulk:  # noqa: N801
    """Collect every task that is published in the block, and write them in multi-row statements.

        with bulk():
            for user in users:
                welcome.delay(user.id)

    Their order is kept, and their ids are known at once. They are there when the block ends: all of
    them or, where it raises, none but those written before, for a block of more than ``size`` jobs,
    or 16 MiB of arguments, is written on the way. Inside of :func:`using` they are part of the
    caller's transaction. ``as`` gives the :class:`Batch`, whose ``flush()`` writes at once.

    Also as ``async with``, where what is collected is written without blocking the event loop.
    """

    def __init__(self, size: int = SIZE) -> None:
        check_size(size)
        self._size = size
        self._entered: Entered[tuple[Scope[Batch], Batch]] = Entered()

    def __enter__(self) -> Batch:
        batch = Batch(self._size)
        self._entered.push((batches.enter(batch), batch))
        return batch

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        batch = self._leave()
        if kind is None:
            batch.hand_over()
        else:
            batch.discard()

    async def __aenter__(self) -> Batch:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        batch = self._leave()
        if kind is None:
            await in_thread(batch.hand_over)
        else:
            batch.discard()

    def _leave(self) -> Batch:
        scope, batch = self._entered.pop()
        batches.leave(scope)
        return batch


class PublishBatch:
    """What kombu's ``Producer.batch()`` collects in."""

    def __init__(self, channel: Any, max_size: int) -> None:
        self.channel = channel
        self._batch = Batch(max_size)

    def publish(self, message: Any, **options: Any) -> None:
        """Collect a message, if it is a job's."""
        scope = batches.enter(self._batch)
        try:
            self.channel.basic_publish(message, **options)
        finally:
            batches.leave(scope)

    def flush(self) -> None:
        """Write what was collected, or leave it to a :func:`bulk` around it."""
        self._batch.hand_over()

    def discard(self) -> None:
        """Forget what was collected."""
        self._batch.discard()

    def close(self) -> None:
        """Nothing is held open."""

"""Collect what is published in a block, and write it in as few statements as can be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import takewhile
from typing import Any, NamedTuple

from kombu.exceptions import OperationalError

from ..db.callers.base import Caller, callers
from ..db.callers.watching import Watch
from ..db.database import CONNECTION_ERRORS, Database
from ..db.joining import TransactionPoints
from ..errors import CannotJoin, InvalidOption
from ..scopes.scopes import Scoped, whoever_runs
from .flush import Flush, Step
from .insertion import Insertion

#: How many are collected before they are written on the way, unless the block says otherwise.
SIZE = 1000
#: And how many bytes their bodies may have together.
MAX_BYTES = 16 * 1024 * 1024


def check_size(size: Any) -> None:
    """Raise InvalidOption unless ``size`` is a positive integer."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InvalidOption(f"size must be a whole number from 1, not {size!r}")


class Collected(NamedTuple):
    """A published step, and the place where it must be written."""

    database: Database
    step: Step
    #: Over the caller's connection; None for our own.
    caller: Caller | None = None


class Batch:
    """Jobs that were published and are not written yet. Thread-safe."""

    def __init__(self, size: int = SIZE, *, is_promised: bool = True) -> None:
        check_size(size)
        #: How many jobs one flush writes at most.
        self.size = size
        #: The publishers have the ids, and may look for them.
        self.is_promised = is_promised
        #: How many jobs were written so far; those that others stand for are not counted.
        self.written = 0
        #: What is known of calls that may be repeated, until the next flush: see repeated.py.
        self.repeated: dict[Any, Any] = {}
        self._points = TransactionPoints()
        self._owner = whoever_runs()
        self._steps: list[Collected] = []
        #: The callers over whose connections some must be written, each with such a database.
        self._callers: dict[Caller, Database] = {}
        #: Over these connections, and others where all is written.
        self._watches: dict[Caller, Watch] = {}
        #: Of the first of them, where it has failed.
        self._flush: Flush | None = None
        self._bytes = 0
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """How many wait to be written."""
        return len(self._steps)

    @property
    def steps(self) -> list[Step]:
        """The steps that wait to be written."""
        return [each.step for each in self._steps]

    def takes(self, database: Database) -> bool:
        """False where it is published into another transaction, or savepoint, than this began in.

        Jobs that are published there must not outlive it.
        """
        return self._points.of(database) == database.find_point()

    @property
    def is_free(self) -> bool:
        """True where another thread may write it: it is part of no transaction of this one."""
        return not any(
            database.alias or database.is_in_transaction or database.find_point().caller
            for database in {each.database for each in self._steps}
        )

    def add(self, database: Database, step: Step) -> None:
        """Collect one more; what was collected is written once that is enough.

        Where that fails, this one is not collected, and the others stay. Raises CannotJoin where
        the others must not be written here any more.
        """
        with self._lock:
            size = self._collect(database, step)
            if len(self._steps) < self.size and self._bytes < MAX_BYTES:
                return
            caller = self._steps[-1].caller
            if caller is not None and not caller.can_execute:
                return  # on an event loop, where that waits for the end of the block
            try:
                self.flush()
            except BaseException:
                # It is the last, and its publisher is told of the error.
                self._steps.pop()
                self._bytes -= size
                raise

    def _collect(self, database: Database, step: Step) -> int:
        """Collect one more; how many bytes it has."""
        caller = self._find_caller(database)
        if caller is not None:
            self._watch(caller, database)
        self._steps.append(Collected(database, step, caller))
        if not isinstance(step, Insertion):
            return 0
        if step.receipt is not None and self.is_promised:
            step.receipt.is_promised = True
        self._bytes += len(step.job.body)
        return len(step.job.body)

    def _find_caller(self, database: Database) -> Caller | None:
        """The caller over whose connection a step that is published here must be written."""
        return database.find_point().caller

    def _watch(self, caller: Caller, database: Database) -> None:
        """Watch over the place where we are, or see that it is still the one."""
        if caller in self._callers:
            self._check()
            return
        if caller in self._watches:
            self._watches.pop(caller).close()
        watch = self._watches[caller] = caller.watch(self)
        watch.begin()
        self._callers[caller] = database

    def _check(self) -> None:
        """Raise CannotJoin if the collected steps must not be written here any more."""
        if not self.is_due:
            count = len(self._steps)
            raise CannotJoin(
                f"{count} {'step that was' if count == 1 else 'steps that were'} published in this "
                "block cannot be written: the transaction, or savepoint, that they were to be part "
                "of has ended, or another one is open. Commit after the block, or call `flush()` "
                "of the batch that bulk() gives before; on an event loop publish by "
                "`await task.adelay(...)`"
            )

    @property
    def is_due(self) -> bool:
        """True if what was collected may be written here and now."""
        return all(
            self._watches[caller].is_there and self._find_caller(database) == caller
            for caller, database in self._callers.items()
        )

    def write_before(self, watch: Watch) -> None:
        """A transaction, or savepoint, is about to end: write the steps that are part of it.

        Left to be missed, where that cannot be done: on an event loop, or in another thread.
        """
        if self._owner != whoever_runs():
            return
        with self._lock:
            if self.is_due and all(caller.can_execute for caller in self._callers):
                self._flush_all()

    def drop(self, watch: Watch) -> None:
        """A transaction, or savepoint, is rolled back: drop the steps that were part of it."""
        with self._lock:
            for caller in [each for each in self._callers if self._watches[each] is watch]:
                self._steps = [each for each in self._steps if each.caller != caller]
                del self._callers[caller]

    def flush(self) -> None:
        """Write what was collected: all of it or, where that raises, nothing, and it stays.

        Raises MessageRefused, with its name, for a job that cannot be stored, and kombu's
        OperationalError if there is no server, as ``delay()`` does.
        """
        with self._lock:
            self._check()
            self._flush_all()
            self._close_watches()

    def _flush_all(self) -> None:
        self.repeated.clear()
        while self._steps:
            caller = self._steps[0].caller
            flush = self._next_flush()
            # A step from outside of a transaction must not join the one that we may be in.
            with _outside() if caller is None else nullcontext():
                try:
                    self.written += flush.write()
                except CONNECTION_ERRORS as error:
                    raise OperationalError(str(error)) from error
            self._flush = None
            del self._steps[: len(flush.steps)]
        self._bytes = 0
        self._callers.clear()

    def _close_watches(self) -> None:
        while self._watches:
            self._watches.popitem()[1].close()

    def _next_flush(self) -> Flush:
        database, _, caller = self._steps[0]
        steps = [
            each.step
            for each in takewhile(
                lambda each: each.database is database and each.caller == caller, self._steps
            )
        ]
        if self._flush is None:
            self._flush = Flush(database, steps)
        # Sent before, perhaps, without an answer; by now there may be more.
        self._flush.steps = steps
        return self._flush

    def discard(self) -> None:
        """Forget what was collected."""
        with self._lock:
            self._steps.clear()
            self._callers.clear()
            self.repeated.clear()
            self._bytes = 0
            self._flush = None
            self._close_watches()

    def hand_over(self) -> None:
        """Its block has ended: write what was collected, or leave that to a batch around it."""
        outer = batches.find()
        if outer is not None and outer.value.is_begun_with(self):
            outer.value.take_over(self)
            return
        try:
            self.flush()
        except BaseException:
            if self._callers:
                self.discard()  # it was part of a transaction that has failed, or has ended
            raise

    def is_begun_with(self, other: Batch) -> bool:
        """True where both began at the same place, so that they may be written together."""
        return self._points == other._points

    def take_over(self, other: Batch) -> None:
        """Collect what another one has collected."""
        with self._lock:
            if len(self._steps) + len(other._steps) > self.size:
                self.flush()
            for each in other.take():
                self._collect(each.database, each.step)

    def take(self) -> list[Collected]:
        """Hand the collected steps out: from now on they belong to the caller."""
        with self._lock:
            self._check()
            steps = list(self._steps)
            self.discard()
        return steps


@contextmanager
def _outside() -> Iterator[None]:
    """In this block we are in no transaction of the caller's."""
    scope = callers.enter(None)
    try:
        yield
    finally:
        callers.leave(scope)


#: The batch that collects here.
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

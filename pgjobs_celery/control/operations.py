"""Act on all jobs that match, in steps that are kept: to be watched, stopped and gone on with.

An operation is a record in the database: which jobs, what to do, how far it went. Each batch
writes it in its own transaction, so what was done and what is told of it never differ. Whoever goes
on, after a restart in another process, goes on behind the last job that was looked at: none is
acted on twice, though it may match again (a job that was retried and has failed once more). Jobs
published after the beginning are left alone. Its id is that of the action in the audit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from ..errors import InvalidOption, PgJobsError
from ..job.checks import did_you_mean
from ..job.states import State
from .acting import begin_action
from .filters import Filters
from .jobs import ACTS_ON, Selection
from .listing import find
from .search import parse

if TYPE_CHECKING:
    from ..db.database import Database
    from ..db.rows.audit import Changed

#: The action's name in the audit, by the method of Selection.
RECORDED = {
    "cancel": "cancel_jobs",
    "retry": "retry_jobs",
    "delete": "delete_jobs",
    "reschedule": "reschedule_jobs",
    "set_priority": "prioritize_jobs",
    "move": "move_jobs",
}

#: For how long an operation is kept, in seconds: a week, as the audit is kept for longer.
KEPT = 7 * 86_400.0
#: For how long the ids of the jobs that it has cancelled are kept, to take it back: a day.
TAKEN_BACK = 86_400.0
#: After how many seconds without a sign of life somebody else may be asked to go on.
SILENT = 20.0

_KEY = "pgjobs-operation"


class OperationGone(PgJobsError):
    """There is no such operation: it is kept for a week."""


class _Ended(Exception):
    """The operation does not go on here."""


@dataclass(frozen=True)
class Operation:
    """An action on many jobs, as it stands."""

    action: str
    #: The arguments of the method of Selection.
    options: dict[str, Any]
    #: The jobs, as :func:`pgjobs_celery.control.search.parse` reads them.
    search: str
    #: The number of the newest row that it may change.
    until: int
    #: How many jobs it was begun for, as its preview has it: ``about 1.2 M``.
    expected: str = ""
    actor: str = ""
    began_at: str = ""
    #: ``running``, ``ended``, ``stopped``, ``failed``.
    state: str = "running"
    #: The number of the last row that was looked at.
    through: int | None = None
    #: How many jobs were changed, in how many batches.
    changed: int = 0
    batches: int = 0
    ended_at: str = ""
    error: str = ""
    #: The id of the operation that this one takes back, and in how many batches that was done.
    undoes: str = ""
    parts: int = 0
    id: str = field(default_factory=lambda: str(uuid4()))

    @property
    def can_be_undone(self) -> bool:
        """Its jobs were kept, for a day."""
        return self.action == "cancel" and self.is_over and self.changed > 0

    @property
    def is_over(self) -> bool:
        """True if nothing is left to do, or nobody goes on by himself."""
        return self.state != "running"

    @property
    def share(self) -> float:
        """About how far it is, from 0 to 1, by the numbers of the rows."""
        if self.state == "ended":
            return 1.0
        through, end = self.through or 0, self.parts if self.undoes else self.until
        return min(1.0, max(0.0, through / end)) if end > 0 else 0.0


@dataclass(frozen=True)
class Seen:
    """An operation, and what its process says of itself."""

    operation: Operation
    #: A process goes on with it.
    is_alive: bool
    #: Somebody has asked it to stop.
    is_stopping: bool


class Operations:
    """The operations of a database."""

    def __init__(self, database: Database, app: Any = None) -> None:
        self.database = database
        self.app = app
        self.entries = database.entries

    def begin(
        self,
        action: str,
        search: str,
        options: Mapping[str, Any] | None = None,
        *,
        until: int | None = None,
        expected: str = "",
        actor: str = "",
    ) -> Operation:
        """Keep an operation, for :meth:`go_on`; nothing is done yet.

        Raises InvalidOption for what no job could be done to, before it is kept.
        """
        if action not in RECORDED:
            raise InvalidOption(f"there is no action {action!r}{did_you_mean(action, RECORDED)}")
        options = dict(options or {})
        every = Selection(self.database, app=self.app)
        # An action on no job still reports a wrong option.
        act(every.filter(id=[]), action, options)
        find(self.database, parse(search))
        newest = until if until is not None else self.database.matches.survey_jobs().newest
        return self._keep(
            Operation(action, options, search, newest or 0, expected, actor, began_at=_now())
        )

    def begin_undoing(self, id: str, actor: str = "") -> Operation:
        """Keep an operation that takes back another one: what it has cancelled waits again.

        At the end of its line or, if its time has not come, for that. What was told to stop is left
        alone. Raises OperationGone, and InvalidOption for what cannot be taken back.
        """
        done = self.look(id).operation
        if not done.can_be_undone:
            raise InvalidOption(f"{done.action} cannot be taken back, or goes on still")
        return self._keep(
            Operation(
                "retry", {"keeps_time": True}, done.search, done.until, f"{done.changed:,}", actor,
                began_at=_now(), undoes=id, parts=done.batches,
            )
        )  # fmt: skip

    def _keep(self, operation: Operation) -> Operation:
        self.entries.set_entry(_key(operation.id, "turn"), b"0", KEPT)
        self.save(operation)
        return operation

    def look(self, id: str) -> Seen:
        """How an operation stands. Raises OperationGone."""
        keys = [_key(id, part) for part in ("", "alive", "stop")]
        found = self.entries.get_entries(keys)
        try:
            known = {each.name for each in fields(Operation)}
            value = json.loads(found[keys[0]])
            operation = Operation(**{name: each for name, each in value.items() if name in known})
        except (KeyError, ValueError, TypeError, AttributeError):
            raise OperationGone from None
        is_running = operation.state == "running"
        return Seen(operation, is_running and keys[1] in found, is_running and keys[2] in found)

    def stop(self, id: str) -> None:
        """Have it end after the batch that it is at. What was done stays so."""
        seen = self.look(id)
        if seen.operation.is_over:
            return
        self._record("stop_operation", id)
        self.entries.set_entry(_key(id, "stop"), b"1", KEPT)
        if not seen.is_alive:
            self.take_turn(id)
            self.save(replace(self.look(id).operation, state="stopped", ended_at=_now()))

    def resume(self, id: str) -> bool:
        """Record that it is gone on with, for :meth:`go_on`; False if nothing is left to do.

        Its batches are recorded in the name of who goes on. Raises OperationGone.
        """
        if self.look(id).operation.state == "ended":
            return False
        self._record("resume_operation", id)
        return True

    def _record(self, action: str, id: str) -> None:
        """Write it down first: what cannot be recorded is not done."""
        audit = self.database.audit
        with audit.acting():
            audit.record_action(begin_action(action, self.app, details={"operation": id}))

    def go_on(self, id: str, on_batch: Callable[[Operation], object] | None = None) -> Operation:
        """Do what is left of it, here and now; how it stands when it is over.

        Another process that is at it gives way. Raises OperationGone.
        """
        self.entries.delete_entry(_key(id, "stop"))
        run = _Run(self, id, self.take_turn(id), on_batch or (lambda operation: None))
        # Read after the turn is ours: a batch of another process is over, or will not be.
        return run.go(self.look(id).operation)

    def keep_jobs(self, id: str, part: int, ids: Sequence[str]) -> None:
        """Which jobs a batch has changed, for who takes it back."""
        if ids:
            self.entries.set_entry(_key(id, f"jobs:{part}"), json.dumps(ids).encode(), TAKEN_BACK)

    def jobs_of(self, id: str, part: int) -> list[str]:
        """Those that :meth:`keep_jobs` has kept."""
        key = _key(id, f"jobs:{part}")
        return list(json.loads(self.entries.get_entries([key]).get(key, b"[]")))

    def live(self, id: str) -> None:
        """Say that somebody sees to it; for :data:`SILENT` seconds."""
        self.entries.set_entry(_key(id, "alive"), b"1", SILENT)

    def take_turn(self, id: str) -> int:
        return self.entries.increment_entry(_key(id, "turn"))

    def save(self, operation: Operation) -> None:
        value = json.dumps(asdict(operation)).encode()
        self.entries.set_entry(_key(operation.id), value, KEPT)


class _Run:
    """One process's part in an operation."""

    def __init__(
        self, operations: Operations, id: str, turn: int, on_batch: Callable[[Operation], object]
    ) -> None:
        self._operations = operations
        self.entries = operations.entries
        self._id = id
        self._turn = turn
        self._on_batch = on_batch
        #: Which part of what is taken back it is at.
        self._part: int | None = None

    def go(self, operation: Operation) -> Operation:
        if operation.state == "ended":
            return operation
        self._now = replace(operation, state="running", ended_at="", error="")
        self._operations.live(self._id)
        try:
            self._act()
        except _Ended:
            return self._operations.look(self._id).operation
        except Exception as error:
            # Whether its last batch is committed only the record knows; and if that cannot be
            # reached either, it falls silent, and anybody may go on.
            with suppress(Exception):
                self._now = self._operations.look(self._id).operation
                self._end("failed", str(error) or type(error).__name__)
            raise
        else:
            return self._end("ended")

    def _act(self) -> None:
        database, now = self._operations.database, self._now
        if now.undoes:
            for part in range(now.through or 0, now.parts):
                ids = self._operations.jobs_of(now.undoes, part)
                self._part = part
                self._act_on(Filters().narrow(id=ids, state=State.CANCELLED))
        else:
            self._act_on(find(database, parse(now.search)).filters, now.through)

    def _act_on(self, filters: Filters, through: int | None = None) -> None:
        database, app = self._operations.database, self._operations.app
        recorded = begin_action(
            RECORDED[self._now.action],
            app,
            action_id=UUID(self._id),
            batches=self._now.batches,
            through=through,
            within=self._within,
            **filters.recorded(),
        )
        jobs = Selection(database, filters, app=app, under=recorded, until=self._now.until)
        act(jobs, self._now.action, self._now.options, self._after)

    def _within(self, through: int | None, changed: Sequence[Changed]) -> None:
        """In the transaction of a batch: it is ours, and how far it went is kept with it."""
        turn = self._operations.take_turn(self._id)
        if turn != self._turn + 1:
            raise _Ended  # and nothing of it is done: another process goes on
        if self._now.action == "cancel":
            ids = [job.task_id for job in changed if job.state is State.CANCELLED]
            self._operations.keep_jobs(self._id, self._now.batches, ids)
        self._next = replace(
            self._now,
            through=through if self._part is None else self._part,
            changed=self._now.changed + len(changed),
            batches=self._now.batches + bool(changed),
        )
        self._operations.save(self._next)

    def _after(self, count: int) -> None:
        self._turn += 1
        self._now = self._next
        self._operations.live(self._id)
        self._on_batch(self._now)
        stop = _key(self._id, "stop")
        if self.entries.get_entries([stop]):
            self.entries.delete_entry(stop)
            self._end("stopped")
            raise _Ended

    def _end(self, state: str, error: str = "") -> Operation:
        ended = replace(self._now, state=state, ended_at=_now(), error=error[:1000])
        self._operations.save(ended)
        self.entries.delete_entry(_key(self._id, "alive"))
        return ended


def act(
    jobs: Selection,
    action: str,
    options: Mapping[str, Any],
    on_batch: Callable[[int], object] | None = None,
) -> list[str]:
    """Do it to these jobs; ``options`` as JSON has them. Raises InvalidOption."""
    given = dict(options)
    if isinstance(given.get("eta"), str):
        try:
            given["eta"] = datetime.fromisoformat(given["eta"])
        except ValueError:
            raise InvalidOption(
                f"{given['eta']!r} is not a time: write 2027-01-31T06:00+01:00"
            ) from None
    method: Callable[..., list[str]] = getattr(jobs, action)
    try:
        return method(**given, on_batch=on_batch)
    except TypeError as error:
        raise InvalidOption(f"{action} cannot be told so: {error}") from None


def applies_to(filters: Filters, action: str) -> Filters:
    """Those of the jobs that the action changes."""
    return filters.narrow(state=ACTS_ON[action])


def _key(id: str, part: str = "") -> bytes:
    return ":".join(filter(None, (_KEY, id, part))).encode()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")

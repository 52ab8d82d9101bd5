"""The rows of ``schedules``: what beat publishes, and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from .audit import Action, Audit

if TYPE_CHECKING:
    from ..session import Session

#: How long a beat may be silent in the transaction that publishes ticks, in milliseconds: one that
#: has stopped, and one that asks another server in it.
IDLENESS, ASKING_IDLENESS = 10_000, 60_000


#: The next tick of an entry whose row has one that Python cannot hold.
NEVER = datetime.max.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class ScheduleRow:
    """An entry as its row has it; the texts are JSON."""

    name: str
    is_configured: bool
    task: str
    args: str | None
    kwargs: str | None
    options: str | None
    schedule: str
    definition: str
    missed: str
    missed_limit: int
    #: ``NEVER`` where Python cannot hold it.
    next_run_at: datetime
    last_run_at: datetime | None = None
    last_task_id: str | None = None
    total_run_count: int = 0
    paused_at: datetime | None = None
    version: int = 0
    #: The state of the job that was published last; None if there is none, or it was deleted.
    last_state: str | None = None
    #: No tick of it is published, since ``paused_at`` if that can be read.
    is_paused: bool = False
    #: The columns with times that Python cannot hold: infinity, before Christ, after the year 9999.
    unreadable: Sequence[str] = ()


class Look(NamedTuple):
    """How things are."""

    #: By the server's clock.
    now: datetime
    #: Another one when an entry was made, changed or deleted.
    fingerprint: tuple[int, str]


class Advance(NamedTuple):
    """An entry that is due, and what a beat makes of it."""

    name: str
    version: int
    expected: datetime
    next: datetime
    #: The tick that is published last, and its job; None where none is.
    last: datetime | None
    task_id: str | None
    #: How many are published.
    ticks: int


class ScheduleRows:
    """Statements on the entries of an app, one method each."""

    def __init__(self, session: Session, app: str) -> None:
        self._session = session
        self._app = app
        self._audit = Audit(session)

    @contextmanager
    def publishing(self, *, asks_others: bool = False) -> Iterator[None]:
        """A transaction in which entries are moved on and what is due is published."""
        limit = ASKING_IDLENESS if asks_others else IDLENESS
        with self._session.transaction():
            self._session.fetch("limit_idleness", milliseconds=limit)
            yield

    def look(self) -> Look:
        """The time, and whether anything has changed."""
        rows = self._session.retrying(
            lambda: self._session.fetch("look_at_schedules", app=self._app)
        )
        now, count, total = rows[0]
        return Look(now, (count, total))

    def list_versions(self) -> dict[str, int]:
        """The names of all entries, and the number of each one's last change."""
        return dict(self._session.fetch("list_versions", app=self._app))

    def get_schedules(self, names: Sequence[str] | None = None) -> list[ScheduleRow]:
        """The entries of these names, all if None; by name."""
        rows = self._session.fetch(
            "get_schedules", app=self._app, names=None if names is None else list(names)
        )
        return [_in_utc(ScheduleRow(*row)) for row in rows]

    def register_schedules(
        self, entries: Sequence[ScheduleRow], keep: Sequence[str] | None = None
    ) -> list[str]:
        """Have these be among the entries of the program, and none but those in ``keep``.

        The names of those that went; with None, none does. One that was made at run time under the
        same name is left as it is.
        """
        gone: list[str] = []
        with self._session.transaction():
            if keep is not None:
                rows = self._session.fetch("retire_schedules", app=self._app, names=list(keep))
                gone = sorted(name for (name,) in rows)
            self._session.fetch(
                "register_schedules",
                app=self._app,
                names=[entry.name for entry in entries],
                tasks=[entry.task for entry in entries],
                args=[entry.args for entry in entries],
                kwargs=[entry.kwargs for entry in entries],
                options=[entry.options for entry in entries],
                schedules=[entry.schedule for entry in entries],
                definitions=[entry.definition for entry in entries],
                missed=[entry.missed for entry in entries],
                missed_limits=[entry.missed_limit for entry in entries],
                nexts=[entry.next_run_at for entry in entries],
            )
        return gone

    def put_schedule(
        self,
        entry: ScheduleRow,
        *,
        replaces: bool = True,
        moves: bool = False,
        action: Action | None = None,
    ) -> bool:
        """Make or change an entry; False where there is one of the program's own, or any if it
        replaces none.

        It ``moves`` the next tick also where the schedule is the same as before.
        """
        return self._change(
            "put_schedule",
            action,
            name=entry.name,
            task=entry.task,
            args=entry.args,
            kwargs=entry.kwargs,
            options=entry.options,
            schedule=entry.schedule,
            definition=entry.definition,
            missed=entry.missed,
            missed_limit=entry.missed_limit,
            next_run_at=entry.next_run_at,
            replaces=replaces,
            moves=moves,
        )

    def pause_schedule(self, name: str, action: Action | None = None) -> bool:
        """Publish no tick of it from now on; False if the entry does not exist."""
        return self._change("pause_schedule", action, name=name)

    def resume_schedule(
        self, name: str, next_run_at: datetime, action: Action | None = None
    ) -> bool:
        """Go on with this tick; False if it was not paused."""
        return self._change("resume_schedule", action, name=name, next_run_at=next_run_at)

    def repair_schedule(
        self, name: str, next_run_at: datetime, action: Action | None = None
    ) -> bool:
        """Replace the times that Python cannot hold; False if the entry does not exist."""
        return self._change("repair_schedule", action, name=name, next_run_at=next_run_at)

    def delete_schedule(self, name: str, action: Action | None = None) -> bool:
        """Take it away; False if there is none, or it is the program's own."""
        return self._change("delete_schedule", action, name=name)

    def record_run(self, name: str, task_id: str, action: Action | None = None) -> bool:
        """It was run beside its ticks; False if the entry does not exist."""
        return self._change("record_run", action, [task_id], name=name, task_id=task_id)

    def _change(
        self,
        statement: str,
        action: Action | None,
        task_ids: Sequence[str] = (),
        /,
        **values: Any,
    ) -> bool:
        """Run a statement that returns the entry which it changes, and record that if it does.

        False in place of the name stands for an entry that is left as it was.
        """
        if action is None:
            return bool(self._session.fetch(statement, app=self._app, **values))
        with self._audit.acting():
            rows = self._session.fetch(statement, app=self._app, **values)
            if rows and rows[0][0] is not False:
                self._audit.record_action(action, jobs=len(task_ids), task_ids=task_ids)
        return bool(rows)

    def advance_schedules(self, advances: Sequence[Advance]) -> set[str]:
        """Move entries on; the names of those that are ours to publish now."""
        rows = self._session.fetch(
            "advance_schedules",
            app=self._app,
            names=[each.name for each in advances],
            versions=[each.version for each in advances],
            expected=[each.expected for each in advances],
            nexts=[each.next for each in advances],
            lasts=[each.last for each in advances],
            task_ids=[each.task_id for each in advances],
            counts=[each.ticks for each in advances],
        )
        return {name for (name,) in rows}

    def find_ticks(self, task_ids: Sequence[str]) -> set[str]:
        """Those of these ids of which there is a job already."""
        if not task_ids:
            return set()
        return {task_id for (task_id,) in self._session.fetch("find_ticks", ids=list(task_ids))}


def list_apps(session: Session, limit: int = 100) -> list[str]:
    """The apps that have entries, by name."""
    rows = session.retrying(lambda: session.fetch("list_schedule_apps", limit=limit))
    return [app for (app,) in rows]


def _in_utc(row: ScheduleRow) -> ScheduleRow:
    """As it is in every process: a session has a time zone of its own."""
    return replace(
        row,
        next_run_at=row.next_run_at.astimezone(timezone.utc) if row.next_run_at else NEVER,
        last_run_at=row.last_run_at.astimezone(timezone.utc) if row.last_run_at else None,
        paused_at=row.paused_at.astimezone(timezone.utc) if row.paused_at else None,
    )

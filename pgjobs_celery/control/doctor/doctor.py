"""Look at everything, one family after the other; each fails by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ...db.deadline import answered_by
from ...db.rows.doctor import Looks
from ...scopes.steady import monotonic
from .findings import Finding, LeftOut, Report, Severity, finding
from .schema import look_at_rights, look_at_schema
from .server import look_at_connection, look_at_server
from .sessions import look_at_locks, look_at_sessions
from .settings import look_at_settings
from .tables import look_at_tables
from .thresholds import DEFAULT, Thresholds
from .work import look_at_work

if TYPE_CHECKING:
    from ...db.database import Database

Look = Callable[[Looks, Thresholds], Iterable[Finding]]

#: The families that look at the database.
FAMILIES: Mapping[str, Look] = {
    "connection": look_at_connection,
    "server": look_at_server,
    "sessions": look_at_sessions,
    "locks": look_at_locks,
    "schema": look_at_schema,
    "rights": look_at_rights,
    "tables": look_at_tables,
    "work": look_at_work,
}
#: Those whose findings may be of a moment: only those count that are there a second later, too.
TWICE = ("locks", "work")
ORDER = list(Severity)
FAILED = "not_looked_at"
#: How many findings of one code are told in full.
MANY = 10


def doctor(
    database: Database,
    app: Any = None,
    *,
    more: Mapping[str, Callable[[], Iterable[Finding]]] | None = None,
    limits: Thresholds = DEFAULT,
) -> Report:
    """Everything that is wrong with a database, and with the settings of the app that uses it.

    It changes nothing, and takes ``limits.all`` seconds at most, by far less as a rule. ``more``
    are families of packages that stand above this one; they are left out where ``work`` is. Never
    raises for a database that is in any state, or not there.
    """
    examination = _Examination(limits)
    with answered_by(monotonic() + limits.all):
        examination.examine(database)
    if app is None:
        examination.left_out["settings"] = "no app was named"
    else:
        examination.look("settings", partial(look_at_settings, app))
    for family, look in (more or {}).items():
        if "work" in examination.left_out:
            examination.left_out[family] = examination.left_out["work"]
            continue
        with answered_by(monotonic() + limits.all):
            examination.look(family, look)
    found = sorted(condense(examination.found), key=lambda each: ORDER.index(each.severity))
    return Report(tuple(found), examination.left_out)


def condense(found: Iterable[Finding]) -> list[Finding]:
    """Of one code a few, and one more that counts the rest: 500 queues may lack a consumer."""
    alike: dict[str, list[Finding]] = {}
    for each in found:
        alike.setdefault(each.code, []).append(each)
    kept = []
    for code, group in alike.items():
        kept += group[:MANY]
        if rest := group[MANY:]:
            names = ", ".join(each.subject for each in rest[:MANY])
            text = f"{len(rest):,} more: {names}{', ...' if rest[MANY:] else ''}."
            subjects = [each.subject for each in rest]
            kept.append(
                finding(code, text, group[0].remedy, f"{len(rest)} more", subjects=subjects)
            )
    return kept


class _Examination:
    """Findings as they come."""

    def __init__(self, limits: Thresholds) -> None:
        self._limits = limits
        self.found: list[Finding] = []
        self.left_out: dict[str, str] = {}

    def examine(self, database: Database) -> None:
        """All families that look at the database."""
        try:
            looks = Looks(database)
        except Exception as error:
            self.left_out |= dict.fromkeys(FAMILIES, "the database cannot be reached")
            advice = "See that the URL is right, and that the server runs and lets this role in"
            self.found.append(finding("no_connection", f"{error}.", advice))
            return
        with looks:
            for family, look in FAMILIES.items():
                self.look(family, partial(look, looks, self._limits), twice=family in TWICE)

    def look(
        self, family: str, look: Callable[[], Iterable[Finding]], *, twice: bool = False
    ) -> None:
        """Add the findings of a family; that it could not be looked at is one, too."""
        found = self._findings(family, look)
        if twice and any(each.code != FAILED for each in found):
            time.sleep(self._limits.twice)
            before = {(each.code, each.subject) for each in found} | {(FAILED, family)}
            again = self._findings(family, look)
            found = [each for each in again if (each.code, each.subject) in before]
        self.found += found

    def _findings(self, family: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
        found: list[Finding] = []
        try:
            for each in look():
                found.append(each)
        except LeftOut as reason:
            self.left_out[family] = str(reason)
        except Exception as error:  # whatever it is: the others are looked at
            text = str(error) or type(error).__name__
            found.append(
                finding(
                    FAILED,
                    f"{family} could not be looked at: {text}.",
                    "Remove the cause, and run the doctor again",
                    family,
                    error=type(error).__name__,
                )
            )
        return found

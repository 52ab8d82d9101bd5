"""The privileges of the database role of this process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ..migrations.files import load_migrations
from ..rights import Rights, all_rights, grants, quoted

if TYPE_CHECKING:
    from ..session import Session


class Granted(NamedTuple):
    """The part that a role has, and has not, of the privileges that were asked for."""

    role: str
    #: False on a standby, and where a role or a database has been told to only read.
    takes_writes: bool
    #: Those that it lacks, each a privilege and a table or sequence.
    missing: frozenset[tuple[str, str]]


class Privileges:
    """Statements on privileges, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def look_at_privileges(self, rights: Iterable[Rights | None]) -> Granted:
        """Which of all these the role lacks; None stands for those of a worker."""
        needed = sorted({pair for each in rights for pair in pairs(each)})
        session = self._session
        ((role, takes_writes, missing),) = session.retrying(
            lambda: session.fetch(
                "look_at_privileges",
                schema=session.schema,
                relations=[name for _, name in needed],
                privileges=[privilege for privilege, _ in needed],
            )
        )
        found = (each.partition(" ") for each in missing)
        return Granted(role, takes_writes, frozenset((word, name) for word, _, name in found))

    def grants(self, rights: Rights | None, role: str) -> str:
        """The statements by which the schema's owner gives a role these rights."""
        files = load_migrations()
        needed = all_rights(files) if rights is None else rights
        return grants(needed, files, self._session.schema, quoted(role))


def pairs(rights: Rights | None) -> set[tuple[str, str]]:
    """Each privilege with its table or sequence."""
    needed = all_rights(load_migrations()) if rights is None else rights
    return {(privilege, name) for name, privileges in needed.items() for privilege in privileges}

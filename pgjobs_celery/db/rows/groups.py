"""The rows of ``groups``: saved groups, and chords."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ...job.states import State
from .results import StoredResult

if TYPE_CHECKING:
    from ..connection import Row
    from ..session import Session


class UnknownChord(LookupError):
    """A chord was never opened in this database, or its row was deleted."""


class Chord(NamedTuple):
    """The body that must be published when a header has finished."""

    #: The body's signature, encoded; None where its publisher gave none.
    body: bytes | None
    #: The structure of the header's results, encoded; None where it is flat.
    header: bytes | None
    #: The content type of both.
    type: str | None


class Part(NamedTuple):
    """A task of a header that has finished."""

    result: StoredResult
    root_id: str | None


class Groups:
    """Statements on rows of groups, one method each.

    All of them may run twice, but for :meth:`extend_chord`.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def save_group(self, group_id: str, result: bytes, result_type: str) -> None:
        """Keep the results of a group."""
        self._fetch("save_group", group_id=group_id, result=result, result_type=result_type)

    def get_group(self, group_id: str) -> tuple[bytes, str | None] | None:
        """The saved value and its content type; None if nothing was."""
        rows = self._fetch("get_group", group_id=group_id)
        return (rows[0][0], rows[0][1]) if rows else None

    def delete_group(self, group_id: str) -> None:
        """Forget what was kept."""
        self._fetch("delete_group", group_id=group_id)

    def open_chord(self, group_id: str, chord: Chord, added: int, *, is_repeated: bool) -> None:
        """A chord is about to be published."""
        self._fetch(
            "open_chord",
            group_id=group_id,
            body=chord.body,
            header=chord.header,
            body_type=chord.type,
            added=added,
            is_repeated=is_repeated,
        )

    def size_chord(self, group_id: str, size: int) -> None:
        """The header has that many tasks, all of which are published or about to be."""
        self._fetch("size_chord", group_id=group_id, size=size)

    def extend_chord(self, group_id: str) -> None:
        """The header has one task more."""
        self._session.fetch("extend_chord", group_id=group_id)

    def count_missing(self, group_id: str) -> int | None:
        """How many tasks of the header have not finished.

        None while its size is not known, and once its body was published. Raises UnknownChord.
        """
        rows = self._fetch("count_parts", group_id=group_id)
        if not rows:
            raise UnknownChord
        missing = rows[0][0]
        return None if missing is None else int(missing)

    def lock_chord(self, group_id: str) -> Chord | None:
        """Take a chord for the rest of the transaction; None if another process has it."""
        rows = self._fetch("lock_chord", group_id=group_id)
        return Chord(*rows[0]) if rows else None

    def get_parts(self, group_id: str) -> list[Part]:
        """The header's tasks that have finished, in their order."""
        rows = self._fetch("get_parts", group_id=group_id)
        return [Part(StoredResult(row[1], State(row[2]), *row[3:]), row[0]) for row in rows]

    def close_chord(self, group_id: str) -> None:
        """The chord's body was published, or has failed with its header."""
        self._fetch("close_chord", group_id=group_id)

    def try_chord(self, group_id: str) -> int | None:
        """How many times its body was published in place of a lost process, this time included.

        None if it was published meanwhile.
        """
        rows = self._fetch("try_chord", group_id=group_id)
        return int(rows[0][0]) if rows else None

    def find_chords(self, max_age: float | None, limit: int) -> list[tuple[str, bool]]:
        """The ids of chords whose body must be published by now.

        With each: is it incomplete, and nothing of it has finished for ``max_age`` seconds.
        """
        rows = self._fetch("find_chords", max_age=max_age, limit=limit)
        return [(row[0], row[1]) for row in rows]

    def pick_chord(self, group_ids: list[str]) -> str | None:
        """One of these groups that is the header of a chord, whether or not its body is out."""
        rows = self._fetch("pick_chord", group_ids=group_ids)
        return str(rows[0][0]) if rows else None

    def prune_groups(self, max_age: float, limit: int) -> int:
        """Delete up to ``limit`` groups older than ``max_age`` seconds; how many."""
        return int(self._fetch("prune_groups", max_age=max_age, limit=limit)[0][0])

    def _fetch(self, name: str, /, **values: Any) -> list[Row]:
        session = self._session
        calls = [session.call("pin_plans"), session.call(name, **values)]
        return session.retrying(lambda: session.run(calls))[1]

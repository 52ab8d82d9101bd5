"""Decide about sessions: long transactions, what holds dead rows, locked tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ...db.rights import quoted
from ...db.rows.doctor import Holder, TableLock, Transaction
from ..explanation import count, span
from .findings import Finding, LeftOut, finding

if TYPE_CHECKING:
    from ...db.rows.doctor import Looks
    from .thresholds import Thresholds


def look_at_sessions(looks: Looks, limits: Thresholds) -> Iterator[Finding]:
    """Sessions, slots, standbys and prepared transactions that last too long."""
    yield from decide_transactions(looks.list_transactions(limits.transaction))
    yield from decide_holders(looks.list_holders(limits.transaction, limits.xmin_age))
    server = looks.examine_server()
    if not server.sees_sessions:
        role = quoted(server.user)
        raise LeftOut(f"those of other roles are hidden: GRANT pg_read_all_stats TO {role};")


def look_at_locks(looks: Looks, limits: Thresholds) -> Iterator[Finding]:
    """Locks on our tables; one that lasts is seen twice."""
    yield from decide_locks(looks.list_locks())


def decide_transactions(found: Iterable[Transaction]) -> Iterator[Finding]:
    """Transactions that began long ago."""
    for each in found:
        is_holding = each.xmin_age is not None
        holds = (
            f" VACUUM must keep what was deleted in the last {count(each.xmin_age, 'transaction')}."
            if each.xmin_age is not None
            else ""
        )
        query = f" Its query: {each.query}." if each.query else ""
        yield finding(
            "xmin_held_by_session" if is_holding else "long_transaction",
            f"{_who(each.pid, each.user, each.application)} has been in a transaction for"
            f" {span(each.seconds)}, and is {each.state}.{holds}{query}",
            f"SELECT pg_terminate_backend({each.pid}); -- or end it in its program",
            f"PID {each.pid}",
            **each._asdict(),
        )


def decide_holders(found: Iterable[Holder]) -> Iterator[Finding]:
    """What else keeps dead rows."""
    for each in found:
        rows = f"VACUUM must keep what was deleted in the last {count(each.age, 'transaction')}"
        name = each.name.replace("'", "''")
        if each.kind == "prepared":
            yield finding(
                "prepared_transaction",
                f"{each.name!r} of {each.who} was prepared {span(each.seconds or 0)} ago: {rows},"
                " and its locks stay.",
                f"ROLLBACK PREPARED '{name}'; -- or COMMIT PREPARED, in this database",
                each.name,
                **each._asdict(),
            )
        elif each.kind == "slot":
            yield finding(
                "xmin_held_by_slot",
                f"Replication slot {each.name} ({each.who}): {rows}.",
                f"SELECT pg_drop_replication_slot('{name}'); -- or let its consumer catch up",
                each.name,
                **each._asdict(),
            )
        else:
            yield finding(
                "xmin_held_by_standby",
                f"The standby {each.name} at {each.who} runs an old query, and"
                f" hot_standby_feedback is on: {rows}.",
                "End that query on the standby, or switch hot_standby_feedback off there",
                each.name,
                **each._asdict(),
            )


def decide_locks(found: Iterable[TableLock]) -> Iterator[Finding]:
    """Tables that workers cannot write to, by the session that has locked them."""
    held: dict[int | None, list[TableLock]] = {}
    for each in found:
        held.setdefault(each.pid, []).append(each)
    for pid, locks in held.items():
        first = locks[0]
        since = f" for {span(first.seconds)}" if first.seconds is not None else ""
        query = f" Its query: {first.query}." if first.query else ""
        tables = list(dict.fromkeys(each.table for each in locks))
        if pid is None:
            who, remedy = "A prepared transaction", "ROLLBACK PREPARED, see pg_prepared_xacts"
        else:
            who = _who(pid, first.user, first.application)
            remedy = f"SELECT pg_terminate_backend({pid}); -- or wait for it to end"
        yield finding(
            "table_locked",
            f"{who} has locked {', '.join(tables)}{since}: claims and publishing wait for"
            f" it.{query}",
            remedy,
            "a prepared transaction" if pid is None else f"PID {pid}",
            locks=[each._asdict() for each in locks],
        )


def _who(pid: int, user: str | None, application: str | None) -> str:
    names = [f"PID {pid}"]
    names += [f"application {application}"] if application else []
    names += [f"user {user}"] if user else []
    return f"A session ({', '.join(names)})"

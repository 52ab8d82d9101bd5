"""Decide about tables and indexes by their statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ...db.migrations.objects import made_objects
from ...db.rights import quoted
from ...db.rows.doctor import Index, Table
from ..explanation import span
from .findings import Finding, finding

if TYPE_CHECKING:
    from ...db.rows.doctor import Looks
    from .thresholds import Thresholds


def look_at_tables(looks: Looks, limits: Thresholds) -> Iterator[Finding]:
    """Dead rows, bloat, autovacuum and indexes."""
    yield from decide_tables(looks.survey_tables(), looks.schema, limits)
    yield from decide_indexes(looks.survey_indexes(), looks.schema, limits)


def decide_tables(tables: Iterable[Table], schema: str, limits: Thresholds) -> Iterator[Finding]:
    """What autovacuum leaves behind."""
    for each in tables:
        place = f"{quoted(schema)}.{quoted(each.name)}"
        if each.is_autovacuum_off:
            yield finding(
                "table_autovacuum_off",
                f"autovacuum_enabled is off for {each.name}, which has {each.dead:,} dead rows.",
                f"ALTER TABLE {place} RESET (autovacuum_enabled);",
                each.name,
                dead=each.dead,
            )
        is_due = each.dead > max(limits.dead * each.threshold, limits.fewest_dead)
        if is_due and each.vacuumed > limits.vacuum:
            yield finding(
                "vacuum_behind",
                f"{each.name} has {each.dead:,} dead rows beside {each.live:,} others; autovacuum"
                f" acts from {each.threshold:,.0f} on, and no VACUUM has ended for"
                f" {span(each.vacuumed)}.",
                f"VACUUM {place}; -- and look for a finding that names who holds dead rows",
                each.name,
                **each._asdict(),
            )
        if _is_bloated(each.bytes, each.needed, limits):
            yield finding(
                "table_bloat",
                f"{each.name} takes {_size(each.bytes)}, and its rows need about"
                f" {_size(each.needed or 0)}: the rest is free for new rows.",
                f"VACUUM FULL {place}; -- locks it for minutes; pg_repack does not",
                each.name,
                **each._asdict(),
            )


def decide_indexes(indexes: Iterable[Index], schema: str, limits: Thresholds) -> Iterator[Finding]:
    """Indexes that are not valid, or far too large."""
    _, made = made_objects()
    for each in indexes:
        place = f"{quoted(schema)}.{quoted(each.name)}"
        rebuild = f"REINDEX INDEX CONCURRENTLY {place};"
        if not each.is_valid and not each.is_being_built:
            yield finding(
                "invalid_index",
                f"{each.name} on {each.table} is not valid: a build of it broke off. It is"
                " written to, and not read.",
                rebuild if ("index", each.name) in made else f"DROP INDEX CONCURRENTLY {place};",
                each.name,
                **each._asdict(),
            )
        elif _is_bloated(each.bytes, each.needed, limits):
            yield finding(
                "index_bloat",
                f"{each.name} on {each.table} takes {_size(each.bytes)}, and its entries need"
                f" about {_size(each.needed or 0)}.",
                rebuild,
                each.name,
                **each._asdict(),
            )


def _is_bloated(size: int, needed: float | None, limits: Thresholds) -> bool:
    if needed is None or needed < 0:
        return False  # never analyzed
    return size >= limits.bloat_bytes and size > limits.bloat * needed


def _size(number: float) -> str:
    """``12 MB``."""
    for unit in ("bytes", "kB", "MB"):
        if number < 10_000:
            return f"{number:,.0f} {unit}"
        number /= 1000
    return f"{number:,.0f} GB"

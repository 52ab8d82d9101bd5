"""The privileges that a role needs on each table and sequence, and the GRANT that gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypeAlias

from .migrations.files import Migration, created
from .sql import QUERIES

#: The privileges by table or sequence.
Rights: TypeAlias = Mapping[str, Sequence[str]]

#: Those on a table that a worker, a producer and a backend need on each.
TABLE = ("SELECT", "INSERT", "UPDATE", "DELETE")
#: And on a sequence.
SEQUENCE = ("USAGE",)


#: How a statement names a table that it reads or writes.
_USES = (
    ("SELECT", re.compile(r"\b(?<!DELETE )(?:FROM|JOIN) pgjobs\.(\w+)")),
    ("INSERT", re.compile(r"\bINSERT INTO pgjobs\.(\w+)")),
    ("UPDATE", re.compile(r"\bUPDATE pgjobs\.(\w+)")),
    ("DELETE", re.compile(r"\bDELETE FROM pgjobs\.(\w+)")),
)


@cache
def used_rights() -> Mapping[str, frozenset[tuple[str, str]]]:
    """Tables and privileges that each folder of statements uses, as far as their text tells."""
    used: dict[str, set[tuple[str, str]]] = {}
    for path in QUERIES.glob("*/*.sql"):
        text = path.read_text(encoding="utf-8")
        for privilege, pattern in _USES:
            found = {(table, privilege) for table in pattern.findall(text)}
            used.setdefault(path.parent.name, set()).update(found)
    return {folder: frozenset(found) for folder, found in used.items()}


def all_rights(files: Sequence[Migration]) -> Rights:
    """The privileges of a worker: everything on all that the migrations create."""
    return {name: TABLE if kind == "TABLE" else SEQUENCE for kind, name in created(files)}


def grants(rights: Rights, files: Sequence[Migration], schema: str, role: str) -> str:
    """The statements by which the schema's owner gives a role these rights."""
    sequences = {name for kind, name in created(files) if kind == "SEQUENCE"}
    place = quoted(schema)
    alike: dict[tuple[bool, tuple[str, ...]], list[str]] = {}
    for name, privileges in rights.items():
        alike.setdefault((name in sequences, tuple(privileges)), []).append(f"{place}.{name}")
    grants = [
        f"GRANT USAGE ON SCHEMA {place} TO {role}",
        f"GRANT SELECT ON {place}.migrations TO {role}",
    ]
    for (is_sequence, privileges), names in sorted(alike.items()):
        kind = "SEQUENCE " if is_sequence else ""
        grants.append(f"GRANT {', '.join(privileges)} ON {kind}{', '.join(names)} TO {role}")
    return "; ".join(grants) + ";"


def quoted(name: str) -> str:
    """``name`` as an identifier, in quotes where it needs them."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'

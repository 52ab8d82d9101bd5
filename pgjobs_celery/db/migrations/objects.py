"""The objects that the migrations make: tables, columns, indexes, functions and the rest, as text.

``objects.json`` holds them as a database at the newest version has them; a test keeps it so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

from .files import Migration

FILE = Path(__file__).with_name("objects.json")
#: PostgreSQL 14 and 15 name a view's only table before each of its columns, later ones do not.
_ALIAS = re.compile(r"\b[a-z]\.")
_COMMENT = re.compile(r"--[^\n]*")

#: The definition of each, by kind and name.
Objects: TypeAlias = Mapping[tuple[str, str], str]


class Drift(NamedTuple):
    """An object that is not as the migrations have made it."""

    kind: str
    name: str
    #: Its definition as it was made; None for one that they did not make.
    made: str | None
    #: And as it is; None for one that is gone.
    found: str | None


def read_objects(rows: Iterable[tuple[str, ...]], schema: str = "pgjobs") -> Objects:
    """The objects in rows of kind, name and definition; as if the schema's name were ``pgjobs``."""
    place = re.escape(schema)
    # The body of a function in PL/pgSQL is kept as it was written, with the name in it.
    named = re.compile(rf'(?:"{place}"|\b{place})\.(?=(?:jobs|arrivals)\b)')
    return {
        (kind, name): _plain(kind, named.sub("pgjobs.", definition))
        for kind, name, definition in rows
    }


@cache
def made_objects() -> tuple[int, Objects]:
    """The version of the schema that the file describes, and its objects."""
    data = json.loads(FILE.read_text(encoding="utf-8"))
    return data["version"], read_objects(
        (*key.split(" ", 1), text) for key, text in data["objects"]
    )


def to_json(version: int, objects: Objects) -> str:
    """The text of the file."""
    lines = [json.dumps([f"{kind} {name}", text]) for (kind, name), text in sorted(objects.items())]
    return f'{{"version": {version}, "objects": [\n' + ",\n".join(lines) + "\n]}\n"


def compare(made: Objects, found: Objects) -> list[Drift]:
    """Where a database differs; of a table that is gone nothing but that."""
    differing = []
    gone = {name for kind, name in made if kind == "table" and (kind, name) not in found}
    extra = {name for kind, name in found if kind == "table" and (kind, name) not in made}
    for kind, name in sorted({*made, *found}):
        drift = Drift(kind, name, made.get((kind, name)), found.get((kind, name)))
        table = name.partition(".")[0] if kind != "index" else _table_of(drift.made or drift.found)
        if drift.made == drift.found or (kind != "table" and table in gone | extra):
            continue
        differing.append(drift)
    return differing


def creation(files: Iterable[Migration], kind: str, name: str) -> str | None:
    """The last statement of the migrations that creates a function or a view."""
    word = re.escape(name.partition("(")[0])
    pattern = re.compile(
        rf"^CREATE (?:OR REPLACE )?{kind.upper()} pgjobs\.{word}\b.*?;$(?=\n\n|\n*\Z)",
        re.MULTILINE | re.DOTALL,
    )
    found = [text for file in files for text in pattern.findall(file.up)]
    if not found:
        return None
    # Where it exists, and is another one, it is replaced.
    text = re.sub(r"\ACREATE FUNCTION", "CREATE OR REPLACE FUNCTION", found[-1])
    return _COMMENT.sub("", text)


def _table_of(definition: str | None) -> str:
    match = re.search(r" ON (?:ONLY )?(\w+) ", definition or "")
    return match[1] if match else ""


def _plain(kind: str, definition: str) -> str:
    return _ALIAS.sub("", definition) if kind == "view" else definition

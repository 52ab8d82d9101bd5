"""Load the statements in ``queries/`` and put the schema's name into them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

QUERIES = Path(__file__).with_name("queries")

#: Statements and migrations are written with the default schema, so that they run in psql as
#: they stand; a qualified name is ``pgjobs.`` and nothing else may be called that.
_DEFAULT_SCHEMA = re.compile(r"\bpgjobs\b(?=\.)|(?<=\bSCHEMA )pgjobs\b|(?<=\bEXISTS )pgjobs\b")
#: The first line of a statement that acts on what another one finds, and how those rows are locked.
_ON = re.compile(r"-- on (\w+)([A-Z ]*)\n")
_COMMENT = re.compile(r"--[^\n]*")
_SPACE = re.compile(r"\s+")


def in_schema(text: str, schema: str) -> str:
    """``text`` with the default schema's name replaced by ``schema``."""
    return _DEFAULT_SCHEMA.sub(f'"{schema}"', text)


@cache
def _files() -> dict[str, Path]:
    """Each statement's file by its name, which is unique over all folders."""
    return {path.stem: path for path in QUERIES.glob("*/*.sql")}


@cache
def statement(name: str, schema: str) -> str:
    """The statement in ``queries/*/<name>.sql`` for ``schema``, without comments or line breaks.

    One that begins with the line ``-- on match_jobs`` reads a relation that it does not make:
    ``matched``, which is what the statement match_jobs finds. So the filters stand in one file,
    whatever is done to the rows, and finding, locking and changing them is a single statement.
    """
    text = _files()[name].read_text(encoding="utf-8")
    sql = _SPACE.sub(" ", in_schema(_COMMENT.sub("", text), schema)).strip().rstrip(";")
    on = _ON.match(text)
    if on is None:
        return sql
    found = f"WITH matched AS MATERIALIZED ({statement(on[1], schema)}{on[2]})"
    return f"{found}, {sql[len('WITH ') :]}" if sql.startswith("WITH ") else f"{found} {sql}"

"""Load the statements in ``queries/`` and put the schema's name into them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

QUERIES = Path(__file__).with_name("queries")

#: Statements and migrations are written with the default schema, so that they run in psql as
#: they stand; a qualified name is ``pgjobs.`` and nothing else may be called that.
_DEFAULT_SCHEMA = re.compile(r"\bpgjobs\b(?=\.)|(?<=\bSCHEMA )pgjobs\b|(?<=\bEXISTS )pgjobs\b")
_COMMENT = re.compile(r"--[^\n]*")
_SPACE = re.compile(r"\s+")


def in_schema(text: str, schema: str) -> str:
    """``text`` with the default schema's name replaced by ``schema``."""
    return _DEFAULT_SCHEMA.sub(f'"{schema}"', text)


@cache
def statement(name: str, schema: str) -> str:
    """The statement in ``queries/<name>.sql`` for ``schema``, without comments or line breaks."""
    text = (QUERIES / f"{name}.sql").read_text(encoding="utf-8")
    return _SPACE.sub(" ", in_schema(_COMMENT.sub("", text), schema)).strip().rstrip(";")

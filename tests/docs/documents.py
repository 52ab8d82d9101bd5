"""Read the documents: their code blocks, tables and links."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import celery

ROOT = Path(__file__).parents[2]

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "examples").rglob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

#: Indented where it belongs to a list.
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: (\S.*) -->\s*\Z")
_SINCE = re.compile(r"<!-- Celery (\d+)\.(\d+) and newer -->\s*\Z")


class Block(NamedTuple):
    """A fenced block of code."""

    path: Path
    line: int
    language: str
    text: str
    #: Why it is not run; None if it is.
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def read_blocks(path: Path) -> list[Block]:
    """The blocks of a document, in order."""
    text = path.read_text(encoding="utf-8")
    blocks = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        reason, since = _NOT_RUN.search(before), _SINCE.search(before)
        not_run = reason[1] if reason else None
        if since and celery.VERSION[:2] < (int(since[1]), int(since[2])):
            not_run = f"needs Celery {since[1]}.{since[2]}"
        line = text.count("\n", 0, match.start()) + 1
        code = textwrap.dedent(match[3])
        blocks.append(Block(path, line, match[2], code, not_run))
    return blocks


def without_code(path: Path) -> str:
    """A document's prose: code blocks are left out."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def read_tables(path: Path) -> Iterator[tuple[str, list[list[str]]]]:
    """The tables of a document: the heading above each, and its rows, header left out."""
    heading, rows = "", []
    for line in [*without_code(path).splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
            continue
        if rows:
            yield heading, rows[2:]
            rows = []
        if line.startswith("#"):
            heading = line.lstrip("# ")

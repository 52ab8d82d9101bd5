"""The plans of statements as PostgreSQL has run them, from its log (auto_explain)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from pgjobs_celery.db.connection import prepared
from pgjobs_celery.db.sql import QUERIES

#: What a session has to say so that each of its statements is logged with its plan.
SETTINGS = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_format": "json",
    "auto_explain.log_nested_statements": "on",
}

#: An entry of the log: lines that follow begin with a tabulator.
ENTRY = re.compile(r"LOG:  duration: ([\d.]+) ms  plan:\n((?:\t.*\n)+)")


def explained(url: str) -> str:
    """The URL of the same database, whose sessions have their plans logged. For a superuser."""
    options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    return f"{url}{'&' if '?' in url else '?'}options={quote(options)}"


class Plan(NamedTuple):
    """A statement as it was run."""

    milliseconds: float
    #: The name of its file, or the text of another one.
    name: str
    nodes: list[dict[str, Any]]

    def scans(self, table: str) -> bool:
        """True if it has read the whole table."""
        return any(
            node["Node Type"] in ("Seq Scan", "Parallel Seq Scan")
            and node.get("Relation Name") == table
            for node in self.nodes
        )


class Plans:
    """What a server's log says from now on."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._at = self._log.stat().st_size

    def read(self) -> list[Plan]:
        """The statements that have ended since, in order."""
        with self._log.open("rb") as log:
            log.seek(self._at)
            text = log.read().decode(errors="replace")
        return [_plan(float(found[1]), json.loads(found[2])) for found in ENTRY.finditer(text)]


def _plan(milliseconds: float, logged: dict[str, Any]) -> Plan:
    text = logged.get("Query Text", "")
    name = _names().get(text) or f"{text[:60]}…"
    return Plan(milliseconds, name, list(_walk(logged["Plan"])))


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)


@cache
def _names() -> dict[str, str]:
    """The statements by their texts."""
    return {
        prepared(path.stem, "pgjobs").sql.decode(): path.stem for path in QUERIES.glob("*/*.sql")
    }

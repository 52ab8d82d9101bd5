"""Read the migration files, and write the SQL that takes them up or down; touches no database.

The files lie in ``migrations/`` (in a wheel: ``pgjobs_celery/_migrations``), are called
``NNNN_verb_noun.sql`` and hold two sections, ``-- migrate:up`` and ``-- migrate:down``. A line
``-- migrate:breaking`` says that a release which does not know the file cannot work after it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from ...errors import SchemaError
from ..sql import in_schema

_PACKAGE = Path(__file__).parents[2]
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_MARKER = re.compile(r"^-- migrate:(up|down|breaking)[ \t]*$", re.MULTILINE)
#: Objects of a migration that a role needs rights on; a partition is used through its parent.
_CREATED = re.compile(
    r"^CREATE (?:UNLOGGED )?(TABLE|SEQUENCE) pgjobs\.(\w+)(?! PARTITION OF)\b", re.MULTILINE
)


#: Before each file, within its transaction: what it names is PostgreSQL's own, whatever somebody
#: has put into a schema on the path of the role that migrates.
SAFE_PATH = "SET LOCAL search_path = pg_catalog, pg_temp"

#: The schema's comment when it was created here; one that a DBA made is never dropped.
OURS = "Created by pgjobs-celery"
CREATE_SCHEMA = f"CREATE SCHEMA pgjobs;\nCOMMENT ON SCHEMA pgjobs IS '{OURS}';\n"
CREATE_TABLE = """\
CREATE TABLE pgjobs.migrations (
  version    integer PRIMARY KEY,
  name       text        NOT NULL,
  checksum   text        NOT NULL,
  breaking   boolean     NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now(),
  applied_by text        NOT NULL DEFAULT current_user
);
"""
DROP_TABLE = "DROP TABLE pgjobs.migrations;\n"
# Whether other tables live in the schema is for the server to say.
DROP_SCHEMA = """\
DO $$ BEGIN
  DROP SCHEMA pgjobs;
EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN NULL;
END $$;
"""


@dataclass(frozen=True)
class Migration:
    """One file of ``migrations/``; the line numbers say where its sections begin."""

    version: int
    name: str
    up: str
    down: str
    breaking: bool
    checksum: str
    up_line: int = 1
    down_line: int = 1

    def __str__(self) -> str:
        return f"{self.version:04d}_{self.name}"


@dataclass(frozen=True)
class Step:
    """One migration taken up or down: its file's section between what has to go with it."""

    migration: Migration
    direction: Literal["up", "down"]
    before: str
    body: str
    after: str
    #: How long it took; 0 until it has run.
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.direction:4} {self.migration}"


def find_folder() -> Path:
    """The folder with the migration files: inside an installed package, beside a checkout's."""
    for folder in (_PACKAGE / "_migrations", _PACKAGE.parent / "migrations"):
        if any(_FILE_NAME.fullmatch(path.name) for path in folder.glob("*.sql")):
            return folder
    raise SchemaError(
        f"there are no migration files in {_PACKAGE / '_migrations'} nor in "
        f"{_PACKAGE.parent / 'migrations'}: reinstall pgjobs-celery"
    )


@cache
def load_migrations(folder: Path | None = None) -> tuple[Migration, ...]:
    """The files of ``folder`` (this release's) in order; raises SchemaError for a malformed one."""
    files: dict[int, Migration] = {}
    for path in sorted((folder or find_folder()).glob("*.sql")):
        migration = _read(path)
        if migration.version in files:
            raise SchemaError(f"{path.name} has the number of {files[migration.version]}.sql")
        files[migration.version] = migration
    if not files:
        raise SchemaError(f"there are no migration files in {folder}")
    return tuple(files.values())


def _read(path: Path) -> Migration:
    match = _FILE_NAME.fullmatch(path.name)
    if not match or int(match[1]) == 0:
        raise SchemaError(f"{path.name} is not called NNNN_verb_noun.sql, from 0001 on")
    text = path.read_text(encoding="utf-8")
    markers = {marker[1]: marker for marker in _MARKER.finditer(text)}
    up, down = markers.get("up"), markers.get("down")
    if not up or not down or down.start() < up.end():
        raise SchemaError(f"{path.name} needs '-- migrate:up' and, below it, '-- migrate:down'")
    return Migration(
        version=int(match[1]),
        name=match[2],
        up=text[up.end() : down.start()],
        down=text[down.end() :],
        breaking="breaking" in markers,
        checksum=hashlib.sha256(text.encode()).hexdigest(),
        up_line=text.count("\n", 0, up.end()) + 1,
        down_line=text.count("\n", 0, down.end()) + 1,
    )


def created(files: Sequence[Migration]) -> list[tuple[str, str]]:
    """Kind and name of every table and sequence that the files create."""
    return [found for file in files for found in _CREATED.findall(file.up)]


def step_up(file: Migration, schema: str, before: str) -> Step:
    """The step that applies ``file`` and records it, after ``before``."""
    row = f"{file.version}, '{file.name}', '{file.checksum}', {str(file.breaking).lower()}"
    record = f"INSERT INTO pgjobs.migrations (version, name, checksum, breaking)\nVALUES ({row});\n"
    before, body, after = (in_schema(text, schema) for text in (before, file.up, record))
    return Step(file, "up", before, body, after)


def step_down(file: Migration, schema: str) -> Step:
    """The step that takes ``file`` back, record and all."""
    record = f"DELETE FROM pgjobs.migrations WHERE version = {file.version};\n"
    return Step(file, "down", "", in_schema(file.down, schema), in_schema(record, schema))


def script(steps: Sequence[Step], lock_timeout: float = 5.0) -> str:
    """The SQL of ``steps`` for psql, each in a transaction with its record."""
    parts = ["\\set ON_ERROR_STOP on\n"]
    for step in steps:
        body = "\n".join(filter(None, map(str.strip, (step.before, step.body, step.after))))
        timeout = f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)};"
        parts.append(f"-- {step}\nBEGIN;\n{SAFE_PATH};\n{timeout}\n{body}\nCOMMIT;\n")
    return "\n".join(parts)

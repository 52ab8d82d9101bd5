"""Read the migration files, and write the SQL that takes them up or down; touches no database.

The files lie in ``migrations/`` (in a wheel: ``pgjobs_celery/_migrations``), are called
``NNNN_verb_noun.sql`` and hold two sections, ``-- migrate:up`` and ``-- migrate:down``. A line
``-- migrate:breaking`` says that a release which does not know the file cannot work after it. A
line ``-- migrate:concurrently`` says that its first section builds indexes while jobs go on: it is
run outside of a transaction, and holds nothing but statements
``CREATE INDEX CONCURRENTLY IF NOT EXISTS name ON pgjobs.table ...;``
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from ...errors import SchemaError
from ..sql import in_schema

_PACKAGE = Path(__file__).parents[2]
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_MARKER = re.compile(r"^-- migrate:(up|down|breaking|concurrently)[ \t]*$", re.MULTILINE)
#: Objects of a migration that a role needs rights on; a partition is used through its parent.
_CREATED = re.compile(
    r"^CREATE (?:UNLOGGED )?(TABLE|SEQUENCE) pgjobs\.(\w+)(?! PARTITION OF)\b", re.MULTILINE
)


#: The only statement of a section that is run outside of a transaction.
_BUILD = re.compile(
    r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS (\w+)\s+ON pgjobs\.\w+\b[^;]*;"
)
_COMMENT = re.compile(r"--[^\n]*")


#: Before each file, within its transaction: what it names is PostgreSQL's own, whatever somebody
#: has put into a schema on the path of the role that migrates.
SAFE_PATH = "SET LOCAL search_path = pg_catalog, pg_temp"

#: The same for what runs outside of a transaction.
BUILD_PATH = SAFE_PATH.replace("LOCAL ", "")

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


class Build(NamedTuple):
    """An index that is built outside of a transaction."""

    name: str
    statement: str
    schema: str = "pgjobs"

    @property
    def drop(self) -> str:
        """SQL that makes the statement which drops what an interrupted build has left, if any.

        An index that is not valid costs each write, and no query uses it.
        """
        return (
            "SELECT 'DROP INDEX CONCURRENTLY ' || i.indexrelid::pg_catalog.regclass::text\n"
            "FROM pg_catalog.pg_index AS i\n"
            "JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid\n"
            "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace\n"
            f"WHERE n.nspname = {_literal(self.schema)} AND c.relname = {_literal(self.name)}"
            " AND NOT i.indisvalid"
        )


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
    #: All that ``up`` does, where it is run outside of a transaction.
    builds: tuple[Build, ...] = ()

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
    #: What is built before that, outside of a transaction; ``body`` is empty then.
    builds: tuple[Build, ...] = ()

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
    first = text[up.end() : down.start()]
    return Migration(
        version=int(match[1]),
        name=match[2],
        up=first,
        down=text[down.end() :],
        breaking="breaking" in markers,
        checksum=hashlib.sha256(text.encode()).hexdigest(),
        up_line=text.count("\n", 0, up.end()) + 1,
        down_line=text.count("\n", 0, down.end()) + 1,
        builds=_builds(path.name, first) if "concurrently" in markers else (),
    )


def _builds(name: str, section: str) -> tuple[Build, ...]:
    bare = _COMMENT.sub("", section)
    if not _BUILD.search(bare) or _BUILD.sub("", bare).strip():
        raise SchemaError(
            f"{name} is to be run concurrently: its first section must hold CREATE INDEX "
            "CONCURRENTLY IF NOT EXISTS name ON pgjobs.table ...; and nothing else"
        )
    return tuple(Build(found[1], found[0]) for found in _BUILD.finditer(bare))


def created(files: Sequence[Migration]) -> list[tuple[str, str]]:
    """Kind and name of every table and sequence that the files create."""
    return [found for file in files for found in _CREATED.findall(file.up)]


def step_up(file: Migration, schema: str, before: str) -> Step:
    """The step that applies ``file`` and records it, after ``before``."""
    row = f"{file.version}, '{file.name}', '{file.checksum}', {str(file.breaking).lower()}"
    record = f"INSERT INTO pgjobs.migrations (version, name, checksum, breaking)\nVALUES ({row});\n"
    up = "" if file.builds else file.up
    before, body, after = (in_schema(text, schema) for text in (before, up, record))
    builds = tuple(Build(name, in_schema(text, schema), schema) for name, text, _ in file.builds)
    return Step(file, "up", before, body, after, builds=builds)


def step_down(file: Migration, schema: str) -> Step:
    """The step that takes ``file`` back, record and all."""
    record = f"DELETE FROM pgjobs.migrations WHERE version = {file.version};\n"
    return Step(file, "down", "", in_schema(file.down, schema), in_schema(record, schema))


def script(steps: Sequence[Step], lock_timeout: float = 5.0) -> str:
    """The SQL of ``steps`` for psql, each in a transaction with its record."""
    parts = ["\\set ON_ERROR_STOP on\n"]
    for step in steps:
        for build in step.builds:
            parts.append(f"-- {step}\n{BUILD_PATH};\n{build.drop}\n\\gexec\n{build.statement}\n")
        body = "\n".join(filter(None, map(str.strip, (step.before, step.body, step.after))))
        timeout = f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)};"
        parts.append(f"-- {step}\nBEGIN;\n{SAFE_PATH};\n{timeout}\n{body}\nCOMMIT;\n")
    return "\n".join(parts)


def _literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"

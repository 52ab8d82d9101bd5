"""What the tests of migrations write and look at."""

from __future__ import annotations

from pathlib import Path

import psycopg

#: Everything that lives outside the system catalogs: relations, functions, types, schemas.
LEFT_BEHIND = """
SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|public$)'
UNION ALL
SELECT 'relation ' || c.oid::regclass FROM pg_class AS c JOIN pg_namespace AS n
  ON n.oid = c.relnamespace WHERE n.nspname !~ '^(pg_|information_schema)'
UNION ALL
SELECT 'function ' || p.oid::regprocedure FROM pg_proc AS p JOIN pg_namespace AS n
  ON n.oid = p.pronamespace WHERE n.nspname !~ '^(pg_|information_schema)'
"""


#: The schema as the catalogs have it, names and definitions.
SHAPE = """
SELECT c.relname, c.relkind::text, c.relpersistence::text, c.reloptions::text,
       a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid)
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
  AND NOT a.attisdropped
LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE n.nspname = %(schema)s
UNION ALL
SELECT c.relname, 'constraint', '', '', k.conname, pg_get_constraintdef(k.oid), NULL, NULL
FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s
ORDER BY 1, 2, 5
"""


def write(folder: Path, *files: str, breaking: bool = False) -> Path:
    """A folder with one migration for each table name in ``files``."""
    folder.mkdir(exist_ok=True)
    for version, table in enumerate(files, start=1):
        (folder / f"{version:04d}_create_{table}.sql").write_text(
            f"-- {table}\n"
            + ("-- migrate:breaking\n" if breaking and version == len(files) else "")
            + f"-- migrate:up\nCREATE TABLE pgjobs.{table} (id int);\n"
            f"-- migrate:down\nDROP TABLE pgjobs.{table};\n"
        )
    return folder


def tables(db: psycopg.Connection, schema: str = "pgjobs") -> list[str]:
    rows = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY 1", (schema,))
    return [name for (name,) in rows]


def left_behind(db: psycopg.Connection) -> list[str]:
    return [thing for (thing,) in db.execute(LEFT_BEHIND)]


def shape(db: psycopg.Connection, schema: str) -> list[tuple[object, ...]]:
    rows = db.execute(SHAPE, {"schema": schema}).fetchall()
    return [
        tuple(v.replace(f"{schema}.", "S.") if isinstance(v, str) else v for v in row)
        for row in rows
    ]

"""Nothing that is planted in a schema on a role's path is run in place of PostgreSQL's own.

A name without a schema means the best match along the path. A function whose arguments may be of
any type, or need a conversion, is surpassed by one that fits exactly, whichever schema stands
first: so each call names ``pg_catalog``. An operator is surpassed in the same way, but most of ours
fit exactly as they are, and then PostgreSQL's own is found first. It stands first unless the path
itself names pg_catalog further behind, which only the role, the owner of the database or a
superuser can say; the same holds for the name of a type. So operators are left as they read best,
but for those that a planted one could surpass, which are found here by planting one for each pair
of types: they are written differently (``-> 'x'::text``, ``/ 2::float8``,
``OPERATOR(pg_catalog.@>)``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import psycopg
import pytest

from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.db.migrations import versions
from pgjobs_celery.db.sql import QUERIES, statement

from .calls import FoundCall, calls_in

#: What the arguments of functions and operators in our statements are, and what these turn into.
TYPES = (
    "text", "varchar", "name", '"char"', "smallint", "integer", "bigint", "numeric", "float8",
    "boolean", "timestamptz", "interval", "jsonb", "bytea", "uuid", "oid", "regclass", "tid",
    "text[]", "bigint[]", "integer[]", "tid[]",
)  # fmt: skip
OPERATORS = (
    "=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "||", "->", "->>", "#>", "@>", "&&", "~",
)  # fmt: skip

PLANT_OPERATORS = """
DO $do$
DECLARE l text; r text; o text; n integer := 0;
BEGIN
  FOREACH l IN ARRAY %(types)s::text[] LOOP
    FOREACH r IN ARRAY %(types)s::text[] LOOP
      n := n + 1;
      EXECUTE format('CREATE FUNCTION behind.planted_%%s(%%s, %%s) RETURNS boolean'
                     ' LANGUAGE plpgsql AS $$BEGIN RAISE ''planted''; END$$', n, l, r);
      FOREACH o IN ARRAY %(operators)s::text[] LOOP
        EXECUTE format('CREATE OPERATOR behind.%%s (FUNCTION = behind.planted_%%s, LEFTARG = %%s,'
                       ' RIGHTARG = %%s)', o, n, l, r);
      END LOOP;
    END LOOP;
  END LOOP;
END $do$
"""

#: Which of the planted functions and operators the function probe holds on to.
USED = """
SELECT DISTINCT coalesce(
  p.proname,
  o.oprname || '(' || o.oprleft::regtype::text || ', ' || o.oprright::regtype::text || ')')
FROM pg_depend AS d
LEFT JOIN pg_proc AS p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
  AND p.pronamespace IN ('ahead'::regnamespace, 'behind'::regnamespace)
LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
  AND o.oprnamespace = 'behind'::regnamespace
WHERE d.classid = 'pg_proc'::regclass
  AND d.objid = (SELECT oid FROM pg_proc WHERE proname = 'probe')
  AND (p.oid IS NOT NULL OR o.oid IS NOT NULL)
"""

#: Each statement of the package by its name.
STATEMENTS = {
    **{path.stem: statement(path.stem, "pgjobs") for path in sorted(QUERIES.glob("*/*.sql"))},
    "_CHECK": versions._CHECK,
    "_LOOK": versions._LOOK,
    "_HOLDERS": migrations._HOLDERS,
}
#: Those that can be parsed here. One reads tables of somebody else, where the role's path finds
#: them; the other locks a table, and calls nothing.
PARSED = sorted({*STATEMENTS} - {"list_django_entries", "lock_nodes"})


def is_bare_unnest(call: FoundCall) -> bool:
    # Of several arrays it belongs to the grammar and is pg_catalog's; with a schema it is refused.
    return call.name == "unnest" and len(call.arguments) > 1


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_every_call_says_whose_function_it_is(name):
    found = [call for call in calls_in(STATEMENTS[name]) if not is_bare_unnest(call)]
    assert [call for call in found if call.schema not in ("pg_catalog", "pgjobs")] == []


def test_calls_are_seen():
    found = calls_in(
        "SELECT f(a, 'x,(', g(1)), s.h() -- no(1)\nFROM unnest(%(b)s::text[]) WHERE a IN (1)"
    )
    assert found == [
        ("", "f", ("a", "'x,('", "g(1)")), ("", "g", ("1",)), ("s", "h", ()),
        ("", "unnest", ("%(b)s::text[]",)),
    ]  # fmt: skip
    assert sum(len(calls_in(sql)) for sql in STATEMENTS.values()) > 200


def plants(call: FoundCall) -> Iterator[tuple[str, ...]]:
    """The types that functions of the call's name are planted for."""
    if len(call.arguments) <= 2:
        yield from product(TYPES, repeat=len(call.arguments))
    else:
        yield tuple(map(_guess, call.arguments))


def _guess(argument: str) -> str:
    if cast := re.search(r"::([a-z ]+(\[\])?)\)?$", argument):
        return cast[1]
    if "now()" in argument:
        return "timestamptz"
    is_number = argument == "0" or ("attempt" in argument and "'" not in argument)
    return "integer" if is_number else "text"


def plant_functions(connection: psycopg.Connection[Any], schema: str) -> None:
    """Put into the schema whatever could be taken for a function that we call."""
    connection.execute(f"CREATE SCHEMA {schema}")
    wanted = {
        (call.name, types)
        for sql in STATEMENTS.values()
        for call in calls_in(sql)
        if call.schema != "pgjobs"
        for types in plants(call)
    }
    texts = (
        f"CREATE FUNCTION {schema}.{name}({', '.join(types)}) RETURNS text LANGUAGE plpgsql "
        "AS $$BEGIN RAISE 'planted'; END$$"
        for name, types in sorted(wanted)
    )
    connection.execute("; ".join(texts).encode())


@pytest.fixture(scope="module")
def planted_url(make_database: Callable[[], str]) -> str:
    """A database in which somebody has planted functions, and operators, before it was migrated."""
    url = make_database()
    with psycopg.connect(parse_url(url)) as connection:
        connection.execute("SET check_function_bodies = off")  # 34,000 of one body
        plant_functions(connection, "ahead")
        plant_functions(connection, "behind")
        client = psycopg.ClientCursor(connection)
        client.execute(PLANT_OPERATORS, {"types": [*TYPES], "operators": [*OPERATORS]})
        client.execute(
            f"ALTER DATABASE {connection.info.dbname} SET search_path = public, behind;"
            "GRANT USAGE ON SCHEMA ahead, behind TO PUBLIC"
        )
    with migrations.session(parse_url(url)) as session:
        migrations.migrate(session, "pgjobs")
    return url


@pytest.fixture(scope="module")
def planted(planted_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(parse_url(planted_url), autocommit=True) as connection:
        connection.execute("SET search_path = pg_catalog")
        yield connection


def used(connection: psycopg.Connection[Any], sql: str, path: str) -> set[str]:
    """What was planted and is taken for PostgreSQL's if the statement is parsed along the path."""
    places: dict[str, str] = {}
    for name in re.findall(r"%\((\w+)\)s", sql):
        places.setdefault(name, f"${len(places) + 1}")
    text = re.sub(r"%\((\w+)\)s", lambda found: places[found[1]], sql)
    with connection.transaction(force_rollback=True):
        connection.execute(f"PREPARE it AS {text}".encode())
        prepared = "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'it'"
        [types] = connection.execute(prepared).fetchone() or ([],)
        connection.execute("DEALLOCATE it")
        connection.execute(f"SET LOCAL search_path = {path}")
        # A body that is parsed when it is made: all that it has found is noted as a dependency.
        connection.execute(
            f"CREATE FUNCTION pgjobs.probe({', '.join(types)}) RETURNS void LANGUAGE sql "
            f"BEGIN ATOMIC {text}; END".encode()
        )
        connection.execute("SET LOCAL search_path = pg_catalog")
        return {name for (name,) in connection.execute(USED)}


@pytest.mark.parametrize("name", PARSED)
def test_nothing_that_is_planted_behind_is_used(planted, name):
    assert used(planted, STATEMENTS[name], "public, behind") == set()


@pytest.mark.parametrize("name", PARSED)
def test_no_function_that_is_planted_ahead_is_used(planted, name):
    assert used(planted, STATEMENTS[name], "ahead, pg_catalog") == set()


@pytest.mark.parametrize(
    ("sql", "planted_one"),
    [
        ("SELECT unnest(ARRAY['a'])", "unnest"),
        ("SELECT array_agg(j.seq) FROM pgjobs.jobs AS j", "array_agg"),
        ("SELECT to_jsonb(j.id) FROM pgjobs.jobs AS j", "to_jsonb"),
        ("SELECT nextval('pgjobs.jobs_seq')", "nextval"),
        ("SELECT j.meta -> '1' FROM pgjobs.jobs AS j", "->(jsonb, jsonb)"),
        ("SELECT j.tags @> '{a}'::text[] FROM pgjobs.jobs AS j", "@>(text[], text[])"),
        ("SELECT n.lease / 2 FROM pgjobs.nodes AS n", "/(double precision, integer)"),
        ("SELECT '1' || j.attempt FROM pgjobs.jobs AS j", "||(integer, integer)"),
    ],
)
def test_what_is_written_otherwise_would_be_taken_in(planted, sql, planted_one):
    assert used(planted, sql, "public, behind") == {planted_one}


def test_what_a_migration_has_made_uses_nothing_that_was_planted(planted):
    found = planted.execute(
        """
        SELECT d.classid::regclass::text, d.objid
        FROM pg_depend AS d
        WHERE d.classid <> 'pg_operator'::regclass
          AND (d.refclassid = 'pg_proc'::regclass AND d.refobjid IN (
                 SELECT oid FROM pg_proc
                 WHERE pronamespace IN ('ahead'::regnamespace, 'behind'::regnamespace))
               OR d.refclassid = 'pg_operator'::regclass AND d.refobjid IN (
                 SELECT oid FROM pg_operator WHERE oprnamespace = 'behind'::regnamespace))
        """
    )
    assert found.fetchall() == []

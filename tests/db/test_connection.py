"""Several transactions go out in one flush, and each succeeds or fails for itself."""

from __future__ import annotations

import math
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgjobs_celery.db.binary_arrays import ELEMENTS
from pgjobs_celery.db.connection import (
    CONNECTION_ERRORS,
    Call,
    Connection,
    Prepared,
    call,
    encode,
    prepared,
)
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import PermissionMissing
from tests.support.waiting import wait_for

Open = Callable[..., Connection]

quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

#: What PostgreSQL can hold as text.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
tricky = st.sampled_from(
    ['"', "\\", "NULL", "null", "{", "}", ",", "", " ", "\\x00", "ä€😀", "\n'"]
)


@pytest.fixture
def open_one(database_url: str) -> Iterator[Open]:
    opened: list[Connection] = []

    def open_one(prepare: bool = True, **params: Any) -> Connection:
        conninfo = psycopg.conninfo.make_conninfo(parse_url(database_url), **params)
        opened.append(Connection(conninfo, connect_timeout=4, prepare=prepare))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


@pytest.fixture(params=[True, False], ids=["prepared", "unprepared"])
def db(open_one: Open, request: pytest.FixtureRequest) -> Connection:
    return open_one(prepare=request.param)


@pytest.fixture
def table(db: Connection) -> Iterator[str]:
    name = f"t_{uuid4().hex[:12]}"
    db.psycopg.execute(f"CREATE TABLE {name} (v int PRIMARY KEY)")
    yield name
    with psycopg.connect(db.psycopg.info.dsn, autocommit=True) as other:
        other.execute(f"DROP TABLE {name}")


def ask(text: str, *values: Any) -> Call:
    casts = re.findall(r"\$\d+::(\w+)\[\]", text)
    elements = [ELEMENTS.get(kind) for kind in casts] or [None]
    encoded = [encode(value, element) for value, element in zip(values, elements, strict=False)]
    encoded += [encode(value) for value in values[len(encoded) :]]
    query = Prepared(text.encode()[:60], text.encode(), (), text, {})
    return Call(query, [value for value, _ in encoded], [format for _, format in encoded], {})


def one(db: Connection, text: str, *values: Any) -> Any:
    return db.run([ask(text, *values)])[0][0][0]


def backend(db: Connection) -> int:
    return db.psycopg.info.backend_pid


# -- transactions --------------------------------------------------------------------------------


def test_the_rows_of_each_call_come_in_order(db):
    rows = db.run([ask("SELECT 1"), ask("SELECT 2, 'x'")], [ask("SELECT 3 WHERE false")])
    assert rows == [[(1,)], [(2, "x")], []]


def test_nothing_to_run_is_no_rows(db):
    assert db.run() == []
    assert db.run([]) == []
    assert db.is_usable


def test_many_calls_in_one_flush_do_not_block_each_other(db):
    big = "x" * 100_000
    rows = db.run(*([ask("SELECT $1::text", big)] for _ in range(100)))
    assert [row[0][0] for row in rows] == [big] * 100


def test_an_error_undoes_its_own_transaction_and_no_other(db, table):
    insert = f"INSERT INTO {table} VALUES ($1::int)"
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.run(
            [ask(insert, 1)],
            [ask(insert, 2), ask(insert, 1)],
            [ask(insert, 3)],
        )
    assert db.is_usable
    assert db.run([ask(f"SELECT v FROM {table} ORDER BY v")]) == [[(1,), (3,)]]


def test_the_first_error_is_the_one_that_is_raised(db):
    with pytest.raises(psycopg.errors.DivisionByZero):
        db.run([ask("SELECT 1/0"), ask("SELECT 1")], [ask("SELECT $1::text::int", "b")])


def test_an_error_does_not_keep_later_transactions_from_what_it_would_have_prepared(db, table):
    """The statement comes for the first time behind the failing one, and in the next too."""
    insert = f"INSERT INTO {table} VALUES ($1::int)"
    with pytest.raises(psycopg.errors.DivisionByZero):
        db.run([ask("SELECT 1/0"), ask(insert, 1)], [ask(insert, 2)])
    assert db.run([ask(insert, 3)], [ask(f"SELECT v FROM {table} ORDER BY v")])[1] == [(2,), (3,)]


def test_a_statement_survives_its_own_failure(db, table):
    insert = f"INSERT INTO {table} VALUES ($1::int)"
    db.run([ask(insert, 1)])
    for _ in range(3):
        with pytest.raises(psycopg.errors.UniqueViolation):
            db.run([ask(insert, 1)])
    db.run([ask(insert, 2)])
    assert one(db, f"SELECT count(*) FROM {table}") == 2


def test_a_statement_that_does_not_parse_is_no_harm_to_the_connection(db):
    for _ in range(2):
        with pytest.raises(psycopg.errors.SyntaxError):
            db.run([ask("SELEKT 1")])
    assert one(db, "SELECT 1") == 1


def test_a_statement_is_prepared_once_and_only_where_it_may_be(open_one):
    for prepare, count in ((True, 1), (False, 0)):
        db = open_one(prepare=prepare)
        for number in range(3):
            assert one(db, "SELECT $1::int", number) == number
        names = "SELECT count(*) FROM pg_prepared_statements WHERE statement = 'SELECT $1::int'"
        assert db.psycopg.execute(names).fetchone() == (count,)


def test_nothing_stays_open_behind_a_flush(db):
    with pytest.raises(psycopg.errors.DivisionByZero):
        db.run([ask("SELECT set_config('enable_sort', 'off', true)"), ask("SELECT 1/0")])
    db.run([ask("SELECT set_config('enable_sort', 'off', true)")])
    assert one(db, "SELECT current_setting('enable_sort')") == "on"
    assert db.psycopg.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_missing_privilege_says_where_and_what_to_do(db, table):
    role = f"r_{uuid4().hex[:12]}"
    db.psycopg.execute(f"CREATE ROLE {role}")
    try:
        with pytest.raises(PermissionMissing, match="GRANT it") as caught:
            db.run([ask(f"SELECT set_config('role', '{role}', true)"), ask(f"TABLE {table}")])
        assert str(db.psycopg.info.dbname) in str(caught.value)
        assert db.is_usable
    finally:
        db.psycopg.execute(f"DROP ROLE {role}")


def test_the_numbers_of_a_statement_stand_for_its_names():
    query = prepared("delete_messages", "other")
    assert query.params == ("ids", "node")
    assert b'"other".messages' in query.sql
    assert b"$1::bigint[]" in query.sql
    assert b"%(" not in query.sql
    node = uuid4()
    values = call("delete_messages", "other", {"node": node, "ids": [1, 2], "more": 0}).values
    assert values == [b"{1,2}", str(node).encode()]


# -- lost connections ----------------------------------------------------------------------------


def test_a_connection_that_was_ended_while_idle_is_an_operational_error(db, connection):
    connection.execute("SELECT pg_terminate_backend(%s, 5000)", (backend(db),))
    with pytest.raises(CONNECTION_ERRORS):
        db.run([ask("SELECT 1")], [ask("SELECT 2")])
    assert not db.is_usable
    db.close()


def test_a_connection_that_is_ended_inside_a_statement_is_an_operational_error(db, connection):
    pid = backend(db)
    caught: list[BaseException] = []

    def run() -> None:
        try:
            db.run([ask("SELECT 1")], [ask("SELECT pg_sleep(60)")], [ask("SELECT 3")])
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    # Where plans are parallel, a process of its own sleeps in its place.
    sleeper = "coalesce(leader_pid, pid) = %s AND wait_event = 'PgSleep'"
    asleep = f"SELECT 1 FROM pg_stat_activity WHERE {sleeper}"
    wait_for(lambda: connection.execute(asleep, (pid,)).fetchone())
    connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
    thread.join(10)
    assert isinstance(caught[0], psycopg.OperationalError)
    assert not db.is_usable


@pytest.mark.parametrize("way", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR])
def test_a_cut_socket_is_an_operational_error(db, way):
    end = socket.socket(fileno=os.dup(db.fileno()))
    end.shutdown(way)
    with pytest.raises(CONNECTION_ERRORS):
        db.run(*([ask("SELECT $1::text", "x" * 10_000)] for _ in range(20)))
    assert not db.is_usable
    end.close()


def test_an_exchange_that_is_left_half_done_makes_the_connection_unusable(db):
    exchange = db.exchange([[ask("SELECT pg_sleep(0.2)")]])
    next(exchange)
    exchange.close()
    assert not db.is_usable


def test_a_closed_connection_is_not_usable_and_closes_twice(db):
    assert db.is_usable
    db.close()
    db.close()
    assert not db.is_usable


def test_what_the_url_says_goes_before_our_defaults(open_one):
    assert open_one().psycopg.info.get_parameters()["application_name"] == "pgjobs-celery"
    params = open_one(application_name="mine", connect_timeout=9).psycopg.info.get_parameters()
    assert params["application_name"] == "mine"
    assert params["connect_timeout"] == "9"


# -- values --------------------------------------------------------------------------------------


def moments() -> st.SearchStrategy[datetime]:
    zones = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
    early, late = datetime(100, 1, 1), datetime(9990, 1, 1)
    return st.datetimes(early, late, timezones=zones)


def arrays(of: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.none() | of, max_size=6)


integers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False)

VALUES = {
    "text": texts | tricky,
    "bytea": st.binary(max_size=200),
    "boolean": st.booleans(),
    "bigint": integers,
    "double precision": floats,
    "uuid": st.uuids(),
    "timestamptz": moments(),
    "text[]": arrays(texts | tricky),
    "bytea[]": arrays(st.binary(max_size=50)),
    "text[], without NULL": st.lists(texts | tricky, max_size=6),
    "bytea[], without NULL": st.lists(st.binary(max_size=50), max_size=6).map(tuple),
    "boolean[]": arrays(st.booleans()),
    "bigint[]": arrays(integers),
    "double precision[]": arrays(floats),
    "uuid[]": arrays(st.uuids()),
}


@pytest.fixture(scope="module")
def shared(database_url: str) -> Iterator[Connection]:
    connection = Connection(parse_url(database_url), connect_timeout=4, prepare=True)
    yield connection
    connection.close()


@pytest.mark.parametrize("type", VALUES)
@quick
@given(data=st.data())
def test_a_value_comes_back_as_it_went(shared, type, data):
    value = data.draw(st.none() | VALUES[type])
    found = one(shared, f"SELECT $1::{type.partition(',')[0]}", value)
    assert (found == list(value)) if isinstance(value, tuple) else (found == value)


def test_arrays_of_texts_and_bytes_are_sent_in_binary_where_the_statement_says_what_they_are():
    query = prepared("insert_jobs", "pgjobs")
    assert query.elements["task_ids"] == ELEMENTS["text"]
    assert query.elements["bodies"] == ELEMENTS["bytea"]
    assert "priorities" not in query.elements
    assert encode(["a", "b"], ELEMENTS["text"])[1] == 1
    assert encode([b"a"], ELEMENTS["bytea"])[1] == 1
    assert encode([None, "a"], ELEMENTS["text"]) == (b'{NULL,"a"}', 0)
    assert encode(["a"]) == (b'{"a"}', 0)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_bytes_is_bytes_alone_and_in_an_array(db, kind):
    every = bytes(range(256))
    assert one(db, "SELECT $1::bytea", kind(every)) == every
    assert one(db, "SELECT $1::bytea[]", [kind(every), None, kind(b"")]) == [every, None, b""]


def test_numbers_that_are_none_come_back(db):
    assert math.isnan(one(db, "SELECT $1::float8", math.nan))
    assert one(db, "SELECT $1::float8[]", [math.inf, -math.inf]) == [math.inf, -math.inf]


def test_an_enum_of_text_is_its_value_and_a_mixed_array_is_taken_as_text(db):
    assert one(db, "SELECT $1::text[]", [UUID(int=0), 1, "x"]) == [str(UUID(int=0)), "1", "x"]


@pytest.mark.parametrize("value", ["a\0b", ["a", "b\0"]])
def test_a_nul_character_is_refused_and_not_cut_off(db, value):
    """libpq takes text for a C string: what stands behind the NUL would be lost without a word."""
    with pytest.raises(psycopg.DataError, match="NUL"):
        one(db, "SELECT $1::text", value)
    assert db.is_usable

"""Exchanges, queues and bindings are shared: whoever declares them first, all see the same."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pgjobs_celery.db.rows.routes import topic_pattern

A = UUID(int=1)

quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def matches(pattern: list[str], words: list[str]) -> bool:
    """AMQP 0-9-1, 3.1.3.3: ``*`` matches a single word, ``#`` zero or more words."""
    if not pattern:
        return not words
    first, *rest = pattern
    if first == "#":
        return any(matches(rest, words[index:]) for index in range(len(words) + 1))
    return bool(words) and first in ("*", words[0]) and matches(rest, words[1:])


def words_of(key: str) -> list[str]:
    return key.split(".") if key else []


WORDS = st.sampled_from(
    ["a", "b", "ab", "a-b", "x y", "ä😀", "$", "^", "[a]", "(", "\\", "a+", "|"]
)
PATTERNS = st.lists(WORDS | st.sampled_from(["*", "#"]), max_size=5).map(".".join)
KEYS = st.lists(WORDS, max_size=5).map(".".join)


@st.composite
def alike(draw: st.DrawFn) -> tuple[str, str]:
    """A routing key, and a pattern that began as the same words."""
    words = draw(st.lists(WORDS, max_size=5))
    pattern = [draw(st.sampled_from([word, word, "*", "#"])) for word in words]
    for _ in range(draw(st.integers(0, 2))):
        pattern.insert(draw(st.integers(0, len(pattern))), "#")
    return ".".join(pattern), ".".join(words)


def is_match(connection, pattern: str, key: str) -> bool:
    row = connection.execute("SELECT %s ~ %s AS is_match", (key, topic_pattern(pattern))).fetchone()
    return row["is_match"]


@quick
@given(pair=alike() | st.tuples(PATTERNS, KEYS))
@example(("#", ""))
@example(("*", ""))
@example(("#.a", "a"))
@example(("#.#", "a"))
@example(("a.#", "a"))
@example(("a.#.b", "a.b"))
@example(("#.*", "a"))
@example(("#.*.#", "a"))
@example(("*.#", "a.b.c"))
@example(("a.*.#", "a"))
@example(("#.#.a", "a"))
def test_the_server_matches_topics_as_amqp_has_it(connection, pair):
    pattern, key = pair
    assert is_match(connection, pattern, key) is matches(words_of(pattern), words_of(key)), (
        topic_pattern(pattern)
    )


@pytest.mark.parametrize("key", ["a", "task.x", "a\nb", "é.ü"])
def test_a_pattern_without_wildcards_matches_itself_alone(connection, key):
    assert is_match(connection, key, key)
    assert not is_match(connection, key, f"{key}x")
    assert not is_match(connection, key, f"x{key}")
    assert not is_match(connection, key, f"{key}\n")
    assert not is_match(connection, key, key.upper())


# -- exchanges -----------------------------------------------------------------------------------


def test_the_first_declaration_of_an_exchange_counts(database):
    declare = database.routes.declare_exchange
    assert database.routes.find_exchange("x") is None
    assert declare("x", "topic", True, False, {"a": 1}) == "topic"
    assert declare("x", "direct", True, False, {}) == "topic"
    assert database.routes.find_exchange("x") == "topic"


def test_a_deleted_exchange_takes_its_bindings_with_it_and_no_others(database):
    for name in ("x", "y"):
        database.routes.declare_exchange(name, "direct", True, False, {})
        database.routes.bind_queue(name, "k", "q")
    database.routes.delete_exchange("x")
    assert database.routes.find_exchange("x") is None
    assert database.routes.list_bindings() == [("q", "y", "k")]


@pytest.mark.parametrize(
    ("type", "expected"),
    [("direct", ["q1"]), ("fanout", ["q1", "q2", "q3"]), ("topic", ["q1", "q3"])],
)
def test_each_type_of_exchange_routes_its_way(database, type, expected):
    database.routes.declare_exchange("x", type, True, False, {})
    for queue, key in (("q1", "a.b"), ("q2", "c"), ("q3", "a.*"), ("q1", "a.b")):
        database.routes.bind_queue("x", key, queue)
    assert sorted(database.routes.route_message("x", "a.b")) == expected
    assert database.routes.route_message("y", "a.b") == []


def test_a_binding_counts_until_it_is_taken_away(database):
    database.routes.declare_exchange("x", "direct", True, False, {})
    for queue in ("q1", "q2"):
        database.routes.bind_queue("x", "k", queue)
    database.routes.unbind_queue("x", "k", "q1")
    database.routes.unbind_queue("x", "other", "q2")
    assert database.routes.route_message("x", "k") == ["q2"]


# -- queues --------------------------------------------------------------------------------------


def test_a_queue_is_declared_once_and_deleted_with_all_that_leads_to_it(database, connection):
    routes = database.routes
    assert routes.find_queue("q", A) is None
    routes.declare_queue("q", expires_after=1.5, arguments={"x-max-priority": 9})
    routes.declare_queue("q", durable=False, exclusive=True)
    row = connection.execute("SELECT * FROM pgjobs.queues").fetchone()
    assert (row["durable"], row["exclusive"], row["expires_after"]) == (True, False, 1.5)
    assert row["arguments"] == {"x-max-priority": 9}
    routes.declare_exchange("x", "direct", True, False, {})
    assert routes.bind_queue("x", "k", "q")
    assert routes.bind_queue("x", "k", "other")
    assert not routes.bind_queue("y", "k", "q")
    routes.delete_queue("q")
    assert routes.find_queue("q", A) is None
    assert routes.list_bindings() == [("other", "x", "k")]


@pytest.mark.parametrize("what", ["exchange", "queue", "binding"])
def test_many_who_declare_at_once_all_succeed_and_agree(database, connection, what):
    barrier = threading.Barrier(8)
    numbers = count()
    routes = database.routes
    if what == "binding":
        routes.declare_exchange("x", "direct", True, False, {})

    def declare(number: int) -> object:
        found = []
        for index in range(10):
            barrier.wait()
            if what == "exchange":
                type = ("direct", "topic")[number % 2]
                found.append(routes.declare_exchange(f"x{index}", type, True, False, {}))
            elif what == "queue":
                routes.declare_queue(f"x{index}")
            else:
                routes.bind_queue("x", "k", f"x{index}")
        next(numbers)
        return found

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(declare, range(8)))
    assert next(numbers) == 8
    table = {"exchange": "exchanges", "queue": "queues", "binding": "bindings"}[what]
    assert connection.execute(f"SELECT count(*) FROM pgjobs.{table}").fetchone()["count"] == 10


def test_declaring_and_deleting_at_once_ends_with_one_or_none(database):
    barrier = threading.Barrier(2)
    database.routes.declare_exchange("x", "direct", True, False, {})

    def declare(number: int) -> None:
        barrier.wait()
        for _ in range(50):
            if number:
                database.routes.declare_queue("q")
                database.routes.bind_queue("x", "k", "q")
            else:
                database.routes.delete_queue("q")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(declare, range(2)))
    assert len(database.routes.list_bindings()) <= 1

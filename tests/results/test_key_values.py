"""Keys and values in the result backend: as on Redis, which most of this is asked of as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from inspect import signature
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from celery import Celery

from pgjobs_celery import using
from pgjobs_celery.config import Settings
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows.entries import LONGEST_KEY
from pgjobs_celery.errors import InvalidOption
from pgjobs_celery.maintenance.prune import Prune

from ..conftest import Connection
from ..support.consumers import get_rows
from ..support.waiting import wait_for


@pytest.fixture
def backend(either: Callable[..., Celery]) -> Any:
    return either().backend


@pytest.fixture
def ours(make_app: Callable[..., Celery]) -> Any:
    return make_app().backend


@pytest.fixture
def key(backend: Any) -> Iterator[str]:
    """A key that nobody has."""
    key = f"pgjobs-test-{uuid4()}"
    yield key
    backend.delete(key)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"\x00\xff", b"\x00\xff"), ("\u00fc\x00", b"\xc3\xbc\x00"),
        ("", b""), (5, b"5"), (1.5, b"1.5"),
        (b"x" * 1_000_000, b"x" * 1_000_000),
    ],
    ids=["bytes", "text", "empty", "int", "float", "large"],
)  # fmt: skip
def test_a_value_comes_back_as_bytes(backend: Any, key: str, value: Any, kept: bytes):
    assert backend.get(key) is None
    backend.set(key, value)
    assert backend.get(key) == backend.get(key.encode()) == kept
    backend.set(key=key, value="other")
    assert backend.get(key) == b"other"


def test_many_come_back_in_their_order(backend: Any, key: str):
    backend.set(key, 1)
    assert backend.mget([f"{key}-none", key, key.encode(), "none"]) == [None, b"1", b"1", None]


def test_what_is_deleted_is_gone(backend: Any, key: str):
    backend.set(key, 1)
    backend.delete(key=key)
    backend.delete(key)
    assert backend.get(key) is None


def test_counting_begins_at_one_and_goes_on_from_what_was_set(backend: Any, key: str):
    assert [backend.incr(key), backend.incr(key)] == [1, 2]
    assert backend.get(key) == b"2"
    backend.set(key, "41")
    assert backend.incr(key) == 42


def test_no_two_callers_count_the_same(backend: Any, key: str):
    with ThreadPoolExecutor(8) as pool:
        counted = list(pool.map(lambda _: backend.incr(key), range(200)))
    assert sorted(counted) == list(range(1, 201))


def test_a_value_expires_and_can_be_set_anew(backend: Any, key: str):
    if "expires" not in signature(backend.set).parameters:
        pytest.skip("Redis takes a time for each value since Celery 5.7")
    backend.set(key, "short", expires=1)
    backend.set(f"{key}-2", 5)
    assert backend.expire(f"{key}-2", 1)
    assert not backend.expire(f"{key}-none", 1)
    wait_for(lambda: backend.mget([key, f"{key}-2"]) == [None, None])
    assert backend.incr(f"{key}-2") == 1
    assert not backend.expire(key, 60)
    backend.set(key, "long", expires=timedelta(minutes=1))
    assert backend.get(key) == b"long"
    assert backend.expire(key, 0)
    assert backend.get(key) is None


def test_counting_goes_on_to_the_end_of_its_time(ours: Any, connection: Connection):
    ours.set("a", 1, expires=60)
    (before,) = get_rows(connection, "entries")
    ours.incr("a")
    (after,) = get_rows(connection, "entries")
    assert before["expires_at"] == after["expires_at"] is not None


@pytest.mark.parametrize(
    ("conf", "expires"),
    [
        ({"result_expires": 60}, 60),
        ({"result_expires": timedelta(minutes=2)}, 120),
        ({"result_expires": None}, None),
    ],
)
def test_a_value_is_kept_as_long_as_a_result(
    make_app: Callable[..., Celery], connection: Connection, conf: dict[str, Any], expires: float
):
    make_app(**conf).backend.set("a", 1)
    (row,) = connection.execute(
        "SELECT extract(epoch FROM expires_at - now())::float AS seconds FROM pgjobs.entries"
    ).fetchall()
    assert row["seconds"] == (expires and pytest.approx(expires, abs=10))


def test_what_has_expired_is_deleted_by_maintenance(ours: Any, connection: Connection):
    for number in range(25):
        ours.set(f"old-{number}", 1, expires=60)
    ours.set("new", 1, expires=60)
    ours.set("stays", 1)
    connection.execute(
        "UPDATE pgjobs.entries SET expires_at = now() - interval '1 s'"
        " WHERE convert_from(key, 'UTF8') LIKE 'old-%'"
    )
    prune = Prune(Settings())
    prune.batch = 10
    prune.run(ours.database)
    assert sorted(bytes(row["key"]) for row in get_rows(connection, "entries")) == [
        b"new",
        b"stays",
    ]


def test_a_value_is_set_whatever_becomes_of_the_callers_transaction(ours: Any, url: str):
    with psycopg.connect(parse_url(url)) as mine:
        with using(mine):
            ours.set("a", 1)
        mine.rollback()
    assert ours.get("a") == b"1"


def test_what_cannot_be_kept_says_why(ours: Any):
    ours.set("word", "x")
    with pytest.raises(InvalidOption, match="b'word' is not a whole number"):
        ours.incr("word")
    ours.set("most", 2**63 - 1)
    with pytest.raises(InvalidOption, match="too large to count on"):
        ours.incr("most")
    with pytest.raises(InvalidOption, match="2,000 bytes, not 2,001"):
        ours.set("k" * (LONGEST_KEY + 1), 1)
    ours.set("k" * LONGEST_KEY, 1)
    assert ours.incr("k" * LONGEST_KEY) == 2
    for value in (None, True, ["a"], {}):
        with pytest.raises(TypeError, match="bytes, text or a number"):
            ours.set("a", value)


def test_results_are_no_such_values(ours: Any):
    ours.mark_as_done("one", 1)
    ours.set("celery-task-meta-two", b"{}")
    assert ours.get("celery-task-meta-one") is None
    assert ours.get_state("two") == "PENDING"

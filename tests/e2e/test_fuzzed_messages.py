"""A row of ``jobs`` may hold anything: the worker in each pool lives, and the row comes to an end.

A batch of made-up messages for workers that run: each header, property and part of the body may be
any JSON. Afterwards good jobs must run, and no bad one may be held for ever. ``PGJOBS_FUZZ`` says
how many there are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from celery import Celery, group
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ..conftest import Connection
from ..support.waiting import wait_for
from . import async_add, tasks
from .conftest import StartWorker, Worker
from .rows import Rows

POOLS = [
    pool
    for pool in ("prefork", "threads", "solo", "gevent", "eventlet", "custom")
    if pool in ("prefork", "threads", "solo") or find_spec("greenlet" if pool == "custom" else pool)
]
#: How many messages each pool gets, and how many at a time.
MESSAGES, BATCH = int(os.environ.get("PGJOBS_FUZZ", "200")), 100

MARKERS = st.sampled_from([
    {"__type__": "decimal", "__value__": "x"},
    {"__type__": "datetime", "__value__": "x"},
    {"__type__": "uuid", "__value__": 5},
    {"__type__": "no such thing", "__value__": None},
    {"__type__": "datetime"},
    {"__type__": [], "__value__": {}},
])  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**31, 2**63, 2**200, 1e308, float("inf"), float("nan")])
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "x", "2000-01-01", "9999-12-31T23:59:59+00:00", "json", "0", "\0"])
    | MARKERS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
DEEP = st.integers(50, 3_000).map(lambda depth: b"[" * depth + b"]" * depth)

HEADERS = [
    "task", "id", "lang", "root_id", "parent_id", "group", "group_index", "shadow", "eta",
    "expires", "retries", "timelimit", "argsrepr", "kwargsrepr", "origin", "ignore_result",
    "replaced_task_nesting", "stamped_headers", "stamps", "compression", "meth", "hostname",
    "delivery_info", "properties", "args", "kwargs", "callbacks", "errbacks", "chain", "chord",
    "reply_to", "correlation_id", "is_eager", "headers", "called_directly", "loglevel", "logfile",
    "pgjobs", "pgjobs_succeeds", "_children", "errors", "utc", "__proto__", "taskset",
]  # fmt: skip
PROPERTIES = [
    "reply_to", "correlation_id", "priority", "expiration", "delivery_mode", "delivery_tag",
    "delivery_info", "body_encoding", "pgjobs_claim", "headers",
]  # fmt: skip
EMBEDDED = ["callbacks", "errbacks", "chain", "chord", "args", "kwargs", "id", "task", "request"]
TASKS = [task.name for task in (
    tasks.add, tasks.fail, tasks.fail_late, tasks.identity, tasks.retry_late, tasks.autoretry,
    tasks.ignore, tasks.reject,
)]  # fmt: skip


class Made(NamedTuple):
    """The columns of a row."""

    message: str | None
    body: bytes | None


def _embed(draw: st.DrawFn) -> Any:
    if draw(st.integers(0, 3)):
        return draw(st.dictionaries(st.sampled_from(EMBEDDED), VALUES, max_size=2))
    return draw(VALUES)


@st.composite
def bodies(draw: st.DrawFn) -> bytes | None:
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.binary(max_size=40))
    if kind == 1:
        return draw(DEEP)
    if kind == 2:
        return draw(st.none() | VALUES.map(lambda value: json.dumps(value).encode()))
    args: Any = draw(VALUES) if kind == 3 else [1, 2]
    kwargs: Any = draw(VALUES) if kind == 4 else {}
    parts = [args, kwargs, _embed(draw)]
    if kind == 5:
        parts = parts[: draw(st.integers(0, 2))]
    return json.dumps(parts).encode()


@st.composite
def messages(draw: st.DrawFn) -> Made:
    headers: dict[str, Any] = {
        "task": draw(st.sampled_from(TASKS)), "id": str(uuid4()), "lang": "py",
    }  # fmt: skip
    headers |= draw(st.dictionaries(st.sampled_from(HEADERS), VALUES, max_size=3))
    envelope: dict[str, Any] = {
        "content-type": "application/json", "content-encoding": "utf-8", "headers": headers,
        "properties": draw(st.dictionaries(st.sampled_from(PROPERTIES), VALUES, max_size=2)),
    }  # fmt: skip
    if draw(st.integers(0, 5)) == 0:
        part = draw(st.sampled_from([*envelope, "exchange", "routing-key"]))
        envelope[part] = draw(VALUES)
    text = json.dumps(envelope)
    if draw(st.integers(0, 19)) == 0:
        text = draw(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
    return Made(text, draw(bodies()))


@pytest.fixture(scope="module")
def url(module_url: str) -> str:
    """The workers are started once, for all batches."""
    return module_url


@pytest.fixture(scope="module")
def running(module_worker: StartWorker) -> Iterator[dict[str, Worker]]:
    """One worker in each pool, which all leave in peace at the end."""
    conf = {"task_default_rate_limit": None}
    workers = {
        pool: module_worker(
            **(async_add.OPTIONS if pool == "custom" else {"pool": pool}),
            queues=[pool], concurrency=2, conf=conf,
        )
        for pool in POOLS
    }  # fmt: skip
    yield workers
    assert {pool: worker.stop() for pool, worker in workers.items()} == dict.fromkeys(POOLS, 0)


#: Neither come to its end, nor waiting for its turn with a reason.
OPEN = """
    SELECT queue, state, attempt, errors, message, encode(body, 'escape') AS body FROM pgjobs.jobs
    WHERE queue = ANY (%s::text[])  -- what a made-up callback is published to is nobody's
      AND (state IN ('executing', 'available')
           OR state IN ('discarded', 'retryable') AND errors = '[]')
"""

INSERT = """
    INSERT INTO pgjobs.jobs (task_id, task, queue, message, body)
    SELECT gen_random_uuid()::text, 'fuzzed', q, m.message, m.body
    FROM unnest(%s::text[]) AS q, unnest(%s::text[], %s::bytea[]) AS m (message, body)
"""


def make_messages(count: int) -> list[Made]:
    """That many, of which hypothesis says how they look."""
    made: list[Made] = []

    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(messages())
    def make(message: Made) -> None:
        made.append(message)

    make()
    return made


@pytest.mark.timeout(300)
def test_no_message_stops_a_worker(
    running: dict[str, Worker], app: Celery, rows: Rows, connection: Connection
) -> None:
    made = make_messages(MESSAGES)
    for start in range(0, len(made), BATCH):
        columns = [list(column) for column in zip(*made[start : start + BATCH], strict=True)]
        connection.execute(INSERT, (POOLS, *columns))
        # Behind them in line, and more than there are places in the pool.
        good = group(tasks.add.s(1, n).set(queue=pool) for pool in POOLS for n in range(5))
        assert good.delay().get(timeout=60) == [1, 2, 3, 4, 5] * len(POOLS)
        assert {pool: each.process.poll() for pool, each in running.items()} == dict.fromkeys(POOLS)
        wait_for(lambda: not rows.select(OPEN, POOLS), 20.0, lambda: rows.select(OPEN, POOLS))
        connection.execute("DELETE FROM pgjobs.jobs")

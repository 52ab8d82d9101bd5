"""Messages that nobody should send, whether their publisher is broken or means harm."""

from __future__ import annotations

import json
import random
import re
from itertools import combinations
from typing import Any, NamedTuple
from uuid import uuid4

import kombu
import psycopg

#: A dictionary that kombu's JSON decoder takes for something else.
MARKER = {"__type__": "decimal", "__value__": "x"}


class Hostile(NamedTuple):
    """A message that is published through kombu, as any library would."""

    body: bytes = b"[[1, 2], {}, {}]"
    headers: dict[str, Any] = {}
    properties: dict[str, Any] = {}

    def publish(self, url: str, task: str = "tests.e2e.tasks.add", queue: str = "celery") -> str:
        """Put it in line; the id that its row has."""
        headers = {
            "task": task, "id": str(uuid4()), "lang": "py", "root_id": None, "parent_id": None,
            **self.headers,
        }  # fmt: skip
        properties = {
            "content_type": "application/json", "content_encoding": "utf-8", **self.properties,
        }  # fmt: skip
        with kombu.Connection(url) as connection:
            connection.Producer().publish(
                self.body, routing_key=queue, headers=headers, **properties
            )
        return str(headers["id"])


def nested(depth: int) -> Any:
    """A list in a list in a list …"""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


#: By name; each has ended a worker, or has left a row that said ``executing`` for ever, or might.
MESSAGES: dict[str, Hostile] = {
    # Bodies
    "an empty list": Hostile(b"[]"),
    "null": Hostile(b"null"),
    "a number": Hostile(b"5"),
    "a list of two": Hostile(b"[1, 2]"),
    "a dictionary": Hostile(b"{}"),
    "protocol 1 with bad kwargs": Hostile(b'{"args": [1, 2], "kwargs": 5}'),
    "no bytes at all": Hostile(b""),
    "kwargs that are a list": Hostile(b"[[1, 2], [1], {}]"),
    "kwargs that are null": Hostile(b"[[1, 2], null, {}]"),
    "args that are a number": Hostile(b"[5, {}, {}]"),
    "args that are a dictionary": Hostile(b'[{"a": 1}, {}, {}]'),
    "an embed that is a list": Hostile(b"[[1, 2], {}, [1]]"),
    "an embed that is a number": Hostile(b"[[1, 2], {}, 5]"),
    "callbacks that are a number": Hostile(b'[[1, 2], {}, {"callbacks": 5}]'),
    "errbacks that are a number": Hostile(b'[["a", 2], {}, {"errbacks": 5}]'),
    "a chain of numbers": Hostile(b'[[1, 2], {}, {"chain": [1, 2]}]'),
    "a chord that is a number": Hostile(b'[[1, 2], {}, {"chord": 5}]'),
    "an embed that says another id": Hostile(b'[[1, 2], {}, {"id": "x"}]'),
    "an embed that says an id that is a list": Hostile(b'[[1, 2], {}, {"id": [1], "task": 5}]'),
    "an embed that says args": Hostile(b'[[1, 2], {}, {"args": 5, "kwargs": 6, "id": 7}]'),
    "a body 20,000 deep": Hostile(b"[" * 20_000 + b"]" * 20_000),
    "a body 900 deep": Hostile(b"[[" + b"[" * 900 + b"]" * 900 + b", 1], {}, {}]"),
    "a bad decimal in the body": Hostile(json.dumps([[MARKER, 1], {}, {}]).encode()),
    # Headers
    "a time limit that is a number": Hostile(headers={"timelimit": 5}),
    "time limits that are text": Hostile(headers={"timelimit": ["a", "b"]}),
    "three time limits": Hostile(headers={"timelimit": [1, 2, 3]}),
    "time limits that are dictionaries": Hostile(headers={"timelimit": [{}, {"a": 1}]}),
    "an endless time limit": Hostile(headers={"timelimit": [float("inf"), float("nan")]}),
    "an eta that is a dictionary": Hostile(headers={"eta": {}}),
    "an eta that is a list": Hostile(headers={"eta": [1]}),
    "an eta 900 deep": Hostile(headers={"eta": nested(900)}),
    "an eta that is text": Hostile(headers={"eta": "the day after"}),
    "an expiry that is a list": Hostile(headers={"expires": [1]}),
    "stamped headers that are a number": Hostile(headers={"stamped_headers": 5}),
    "stamped headers that are dictionaries": Hostile(headers={"stamped_headers": [{}]}),
    "stamps that are a number": Hostile(headers={"stamps": 5, "stamped_headers": ["a"]}),
    "a task that is a list": Hostile(headers={"task": ["a"]}),
    "a task that is a dictionary": Hostile(headers={"task": {"a": 1}}),
    "a task that is a number": Hostile(headers={"task": 5}),
    "an id that is a number": Hostile(headers={"id": 500_000_001}),
    "an id that is a list": Hostile(headers={"id": ["a", "list"]}),
    "an id that is a dictionary": Hostile(headers={"id": {"a": "dictionary"}}),
    "retries that are text": Hostile(headers={"retries": "many"}),
    "a group that is a number": Hostile(headers={"group": 5, "group_index": "x"}),
    "a root that is a dictionary": Hostile(headers={"root_id": {"a": 1}, "parent_id": [1]}),
    "a name that is a list": Hostile(headers={"shadow": [1]}),
    "representations that are numbers": Hostile(headers={"argsrepr": 5, "kwargsrepr": [1]}),
    "a result that is ignored by a list": Hostile(headers={"ignore_result": [1]}),
    "a nesting that is text": Hostile(headers={"replaced_task_nesting": "x"}),
    "an unknown compression": Hostile(headers={"compression": "no such thing"}),
    "a compression that is a list": Hostile(headers={"compression": ["a"]}),
    "a bad decimal": Hostile(headers={"x": MARKER}),
    "a marker that nobody knows": Hostile(headers={"x": {"__type__": "x", "__value__": 1}}),
    "a bad date": Hostile(headers={"x": {"__type__": "datetime", "__value__": "x"}}),
    "a header 800 deep": Hostile(headers={"x": nested(800)}),
    "our own header": Hostile(headers={"pgjobs_succeeds": [1, 2, 3]}),
    "names that Celery uses": Hostile(
        headers={"args": 5, "kwargs": 5, "delivery_info": 5, "properties": 5, "hostname": 5}
    ),
    # Properties
    "a reply queue that is a list": Hostile(properties={"reply_to": ["a"]}),
    "a correlation id that is a list": Hostile(properties={"correlation_id": ["a"]}),
    "another encoding": Hostile(properties={"content_encoding": "no such thing"}),
}  # fmt: skip

#: Changes that a hand may make to a good job that waits; the CHECKs allow each.
ROWS: dict[str, str] = {
    "no message": "message = NULL",
    "no body": "body = NULL",
    "neither": "message = NULL, body = NULL",
    "no body, compressed": (
        """body = NULL, message = jsonb_set(message::jsonb, '{headers,compression}', '{}')::text"""
    ),
    "text for a message": "message = 'x'",
    "a list for a message": "message = '[]'",
    "null for a message": "message = 'null'",
    "an empty message": "message = ''",
    "a message 20,000 deep": "message = repeat('[', 20000)",
    "an envelope without headers": (
        """message = '{"content-type": null, "content-encoding": null, "headers": null,"""
        """ "properties": null}'"""
    ),
    "an envelope of empty things": (
        """message = '{"content-type": null, "content-encoding": null, "headers": {},"""
        """ "properties": {}}'"""
    ),
    "a content type that is a list": (
        """message = jsonb_set(message::jsonb, '{content-type}', '[1]')::text"""
    ),
    "an encoding that is a number": (
        """message = jsonb_set(message::jsonb, '{content-encoding}', '5')::text"""
    ),
    "an exchange that is a list": (
        """message = (message::jsonb || '{"exchange": [1], "routing-key": {}}')::text"""
    ),
    "no task": "message = (message::jsonb #- '{headers,task}')::text",
    "no id": "message = (message::jsonb #- '{headers,id}')::text",
    "another id": "message = jsonb_set(message::jsonb, '{headers,id}', '\"another\"')::text",
    "nothing but NUL": r"body = '\x00000000'",
    "no attempt left": "attempt = 20, max_attempts = 20",
    "the last number of attempts": "attempt = 2147483647, max_attempts = 2147483647",
    "no number of attempts": "attempt = 0, max_attempts = 0",
    "a lesser number": "attempt = 0, max_attempts = 0, priority = 255, seq = -9223372036854775808",
    "errors of other kinds": """errors = '[1, null, "x", {}, [], {"attempt": "x"}]'""",
    "meta that is no object": "meta = '5'",
    "tags without names": "tags = ARRAY[NULL, '', 'x']",
    "tags in two dimensions": "tags = '{{a,b},{c,d}}'",
    "an old result": r"""result = '\xff', result_type = 'x', children = '{', traceback = 'x'""",
    "a state of its own": "reported_state = 'NO SUCH STATE', redelivered = true",
    "no names": "task = '', root_id = '', parent_id = '', group_id = ''",
    "an expiry that never comes": "expires_at = 'infinity'",
    "an expiry before all time": "expires_at = '-infinity'",
    "a unique key": "unique_key = task_id::bytea, given_key = ''",
    "nobody's attempt": "attempted_by = '', attempted_at = '-infinity', acks_late = true",
    "odd times": "inserted_at = '-infinity', scheduled_at = 'infinity'",
    "somebody cancels": "cancel_requested_at = 'infinity', cancel_signal = '5', cancel_reason = ''",
    "a successor": "superseded_by = 'x'",
}


def broadcast(url: str, exchange: str, type: str, routing_key: str = "") -> None:
    """Publish what is no job to all who listen: a command, or an event, or neither."""
    bodies = [
        b"", b"[]", b"null", b"5", b"{}", b"x", b'"x"', b"[" * 20_000, b'{"method": 5}',
        b'{"method": "no such command"}', b'{"method": "ping", "destination": 5}',
        b'{"method": "ping", "arguments": 5}', b'{"method": [], "reply_to": 5}',
        b'{"method": "ping", "reply_to": {"exchange": [1], "routing_key": {}}}',
        b'{"method": "revoke", "arguments": {"task_id": {"a": 5}}}',
        b'{"pattern": "(", "matcher": "pcre", "method": "ping"}',
        b'{"type": "worker-online"}', b'{"type": 5, "hostname": [1], "timestamp": "x"}',
        b'{"hostname": "x", "type": "worker-heartbeat", "timestamp": {}, "clock": "x"}',
        b'[{"type": "task-received", "uuid": 5, "hostname": "x", "timestamp": null}]',
    ]  # fmt: skip
    headers: list[dict[str, Any]] = [
        {}, {"clock": "x"}, {"clock": 2**200}, {"hostname": [1]}, {"hostname": "x", "clock": -1},
        {"compression": "x"}, {"x": MARKER},
    ]  # fmt: skip
    with kombu.Connection(url) as connection:
        producer = connection.Producer(
            exchange=kombu.Exchange(exchange, type, durable=False), auto_declare=False
        )
        for body in bodies:
            for each in headers:
                producer.publish(
                    body, routing_key=routing_key, headers=each, delivery_mode=1,
                    content_type="application/json", content_encoding="utf-8",
                )  # fmt: skip


def pairs_of_rows(count: int) -> list[str]:
    """Names of two of ROWS that can be true of one row: ``"no message + no attempt left"``."""
    columns = {name: set(re.findall(r"(\w+) = ", change)) for name, change in ROWS.items()}
    pairs = [pair for pair in combinations(ROWS, 2) if not columns[pair[0]] & columns[pair[1]]]
    return [" + ".join(pair) for pair in random.sample(pairs, count)]


def write_rows(connection: psycopg.Connection[Any], ids: dict[str, str]) -> None:
    """Write into the rows of jobs that wait, by the names of ROWS, and put them in line."""
    for name, task_id in ids.items():
        changes = ", ".join(ROWS[each] for each in name.split(" + "))
        connection.execute(
            f"UPDATE pgjobs.jobs SET {changes} WHERE task_id = %s",  # type: ignore[arg-type]
            (task_id,),
        )
        connection.execute(
            "UPDATE pgjobs.jobs SET state = 'available', due_at = NULL WHERE task_id = %s",
            (task_id,),
        )

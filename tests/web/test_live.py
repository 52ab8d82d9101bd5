"""Live updates: one look serves all visitors, and nobody who goes, or the server, is held up."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

pytest.importorskip("starlette", reason="the extra web is not installed")
pytest.importorskip("uvicorn", reason="the extra web is not installed")

import uvicorn
from psycopg import sql

from pgjobs_celery.config import Options
from pgjobs_celery.control import changes
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows.changes import Marks
from pgjobs_celery.web import dashboard
from pgjobs_celery.web import live as live_module
from pgjobs_celery.web.live import Live, Stream
from tests.support.poolers import transaction_pooler
from tests.support.rows import put
from tests.support.waiting import LIMIT, wait_for

MARKS = Marks("1", "", "1", "0 ", "", "0  ", "0", "0")


class Visitor:
    """A browser that keeps a stream open."""

    def __init__(self, address: tuple[str, int], path: str = "/live") -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=LIMIT)
        self._connection.request("GET", path, headers={"Accept": "text/event-stream"})
        self.response = self._connection.getresponse()
        self.events: Queue[tuple[str, Any] | None] = Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        name = ""
        with contextlib.suppress(OSError, ValueError, AttributeError, http.client.HTTPException):
            while line := self.response.readline():
                word, _, value = line.decode().strip().partition(": ")
                if word == "event":
                    name = value
                elif word == "data":
                    self.events.put((name, json.loads(value)))
        self.events.put(None)  # it has ended

    def next(self, name: str) -> Any:
        """The data of the next event of this name; fails if the stream ends."""
        while True:
            event = self.events.get(timeout=LIMIT)
            assert event is not None, f"the stream has ended before {name}"
            if event[0] == name:
                return event[1]

    def hears_of(self, topic: str) -> None:
        """Wait for a change of this."""
        while topic not in self.next("change")["topics"]:
            pass

    def close(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class Served:
    """The page behind a real server, in a thread."""

    def __init__(self, page: Any, name: str = "jobs") -> None:
        self.live: Live = page.state.pgjobs.live[name]
        config = uvicorn.Config(page, port=0, log_level="error", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_for(lambda: self._server.started)
        self.address = self._server.servers[0].sockets[0].getsockname()[:2]
        self._visitors: list[Visitor] = []

    def visit(self) -> Visitor:
        self._visitors.append(visitor := Visitor(self.address))
        return visitor

    def visit_and_settle(self) -> Visitor:
        """A visitor who has been told to fetch all, as each is when the stream begins."""
        visitor = self.visit()
        assert set(visitor.next("change")["topics"]) == changes.ALL
        return visitor

    def close(self) -> None:
        for visitor in self._visitors:
            visitor.close()
        self._server.should_exit = True
        self.live.close()
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()


@pytest.fixture
def serve(url: str) -> Iterator[Callable[..., Served]]:
    """Serve the page of a database."""
    served: list[Served] = []

    def serve(source: Any = url, **options: Any) -> Served:
        served.append(Served(dashboard(source, **options)))
        return served[-1]

    yield serve
    for each in served:
        each.close()


@pytest.fixture
def pooler(url: str) -> Iterator[str]:
    """The same database through a pooler that gives sessions to transactions."""
    with transaction_pooler(url, prepared_statements=100) as pooled:
        yield pooled


def watchers(connection: psycopg.Connection[Any]) -> int:
    """How many sessions the page has, of all that are ours."""
    found = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'pgjobs-celery'"
    ).fetchone()
    return int(found["count"]) if found else 0


@pytest.mark.usefixtures("alone")
def test_twenty_visitors_hear_of_a_job_by_two_connections(serve, database, connection):
    page = serve()
    visitors = [page.visit_and_settle() for _ in range(20)]
    wait_for(lambda: page.live.visitors == 20)
    assert visitors[0].response.headers["content-type"].startswith("text/event-stream")
    wait_for(lambda: watchers(connection) == 2, message=lambda: watchers(connection))

    put(database, "a")

    for visitor in visitors:
        visitor.hears_of("jobs")
    assert watchers(connection) == 3  # and the publisher's


@pytest.mark.parametrize(
    ("statement", "topic"),
    [
        ("INSERT INTO pgjobs.limits (queue, paused_at) VALUES ('mail', now())", "queues"),
        (
            "INSERT INTO pgjobs.nodes (node, name, queues, version, lease)"
            " VALUES (gen_random_uuid(), 'w', '{}', '1', 60)",
            "workers",
        ),
        (
            "INSERT INTO pgjobs.schedules (app, name, task, schedule, definition, next_run_at)"
            " VALUES ('tests', 'nightly', 't', '{}', '', now())",
            "schedules",
        ),
        (
            "INSERT INTO pgjobs.audit (action, actor, via, client, action_id)"
            " VALUES ('pause_queue', 'alice', 'cli', '', gen_random_uuid())",
            "audit",
        ),
        ("INSERT INTO pgjobs.totals (task, queue, kind) VALUES ('t', 'q', 'k')", "totals"),
    ],
    ids=lambda value: value if " " not in value else "",
)
def test_each_kind_of_change_is_seen(url, database, statement, topic):
    before = database.changes.look_for_changes()
    with psycopg.connect(parse_url(url), autocommit=True) as connection:
        connection.execute(statement)
    # A session tells the statistics when it ends, if not before.
    wait_for(lambda: changes.compare(before, database.changes.look_for_changes()) == {topic})


def test_a_heartbeat_is_no_change(database, connection):
    from uuid import UUID

    database.nodes.beat_node(UUID(int=1), "w", ["mail"], 60.0)
    before = database.changes.look_for_changes()
    database.nodes.beat_node(UUID(int=1), "w", ["mail"], 60.0)
    assert changes.compare(before, database.changes.look_for_changes()) == set()
    connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = now() - interval '40 s'")
    assert changes.compare(before, database.changes.look_for_changes()) == {changes.WORKERS}


def test_each_mark_tells_of_something():
    for field in Marks._fields:
        assert changes.compare(MARKS, MARKS._replace(**{field: "other"})) < changes.ALL


def test_notifications_to_workers_are_understood():
    assert changes.heard({"jmail", "q"}) == {"jobs", "queues"}
    assert changes.heard({"mreply", "e", ""}) == set()


def test_the_look_reads_no_more_rows_of_a_large_table(url, database, connection):
    put(database, "a")
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, state, finished_at, attempt)"
        " SELECT 't' || n, 't', 'q', 'completed', now() - n * interval '1 s', 1"
        " FROM generate_series(1, 20000) AS n"
    )
    connection.execute("ANALYZE pgjobs.jobs")
    before = reads(connection)
    for _ in range(5):
        database.changes.look_for_changes()
    database.close()  # its session tells what it has read
    wait_for(lambda: reads(connection)["looks"] > before["looks"])
    after = reads(connection)
    assert after["scans"] == before["scans"]
    assert after["rows"] - before["rows"] <= 5 * 4


def reads(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Of jobs, by this database's sessions: whole scans, looks into an index, rows from there."""
    found: Any = connection.execute(
        "SELECT seq_scan AS scans, idx_scan AS looks, idx_tup_fetch AS rows"
        " FROM pg_stat_user_tables WHERE relname = 'jobs'"
    ).fetchone()
    return dict(found)


def test_visitors_who_have_gone_cost_nothing(serve, connection):
    page = serve()
    visitors = [page.visit() for _ in range(3)]
    wait_for(lambda: page.live.visitors == 3)
    for visitor in visitors:
        visitor.close()
    wait_for(lambda: page.live.visitors == 0)


@pytest.mark.usefixtures("alone")
def test_nothing_is_looked_at_once_the_last_visitor_has_gone(serve, connection, monkeypatch):
    monkeypatch.setattr(live_module, "LINGER", 0.0)
    page = serve()
    visitor = page.visit()
    wait_for(lambda: watchers(connection) == 2)
    visitor.close()
    wait_for(lambda: page.live._watch is None)
    page.live._database.close()
    wait_for(lambda: watchers(connection) == 0)
    page.visit().close()  # and begins anew with the next


def test_a_lost_database_is_told_with_its_time_and_so_is_its_return(
    make_migrated, server_url, serve
):

    own = make_migrated()
    name = urlsplit(own).path[1:]
    page = serve(own)
    visitor = page.visit_and_settle()
    with psycopg.connect(server_url, autocommit=True) as admin:
        allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        since = visitor.next("lost")["since"]
        late = page.visit()
        assert late.next("lost")["since"] == since
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("true")))
    for each in (visitor, late):
        each.next("back")
        assert set(each.next("change")["topics"]) == changes.ALL


@pytest.mark.usefixtures("alone")
def test_a_connection_that_is_cut_is_replaced_unseen(serve, database, connection):
    page = serve()
    visitor = page.visit_and_settle()
    wait_for(lambda: watchers(connection) == 2)
    connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'pgjobs-celery'"
    )
    put(database, "a")
    visitor.hears_of("jobs")
    assert page.live._lost is None
    database.close()
    wait_for(lambda: watchers(connection) == 2)


def test_behind_a_pooler_that_lets_nobody_listen_changes_are_looked_for(
    pooler, serve, database, connection
):
    page = serve(pooler)
    visitor = page.visit_and_settle()
    wait_for(lambda: page.live._watch._listen_at > 0)
    put(database, "a")
    visitor.hears_of("jobs")
    assert page.live._watch._listener is None


def test_without_listen_there_is_one_connection(url, database):
    assert Database(parse_url(url), Options(listen=False)).changes.listen() is None
    listener = database.changes.listen()
    assert listener is not None
    listener.close()


def test_nobody_without_a_login_hears_anything(serve):
    page = serve(login=lambda request: None)
    assert page.visit().response.status == 403


def test_a_stream_ends_in_time_so_that_rights_are_checked_anew(serve, monkeypatch):
    monkeypatch.setattr(live_module, "LIFETIME", 0.2)
    visitor = serve().visit()
    assert visitor.events.get(timeout=LIMIT) is None
    assert visitor.response.isclosed()  # with an end, not cut


def test_no_more_visitors_have_streams_than_there_may_be(serve, monkeypatch):
    monkeypatch.setattr(live_module, "MOST_STREAMS", 1)
    page = serve()
    first = page.visit()
    assert first.response.status == 200
    assert page.visit().response.status == 204


def test_through_wsgi_there_is_no_stream(url):
    from a2wsgi import ASGIMiddleware

    found: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/live", "SCRIPT_NAME": "", "QUERY_STRING": "",
        "SERVER_NAME": "x", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http", "wsgi.input": None, "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "1",
    }  # fmt: skip
    answer = ASGIMiddleware(dashboard(url))(environ, lambda status, *_: found.append(status))
    assert b"".join(answer) == b""
    assert found[0].startswith("204")


# Of one stream


def together(database: Database, work: Callable[[Live, Stream], Any]) -> None:
    """Run ``work`` with a stream that nothing else tells anything."""

    async def run() -> None:
        live = Live(database)
        stream = Stream(live)
        live._streams.add(stream)
        await work(live, stream)

    asyncio.run(run())


def read(event: bytes) -> tuple[str, Any]:
    """The name of an event, and its data."""
    name, _, data = event.decode().strip().partition("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_a_slow_visitor_gets_all_that_has_changed_at_once(database):
    async def work(live: Live, stream: Stream) -> None:
        for topic in ("jobs", "queues", "jobs") * 1000:
            stream.tell({topic})
        events = stream.events()
        assert (await anext(events)).startswith(b"retry: ")
        name, data = read(await anext(events))
        assert (name, data["topics"]) == ("change", ["jobs", "queues"])

    together(database, work)


def test_events_keep_their_pace_and_lose_nothing(database):
    async def work(live: Live, stream: Stream) -> None:
        for _ in range(5):
            live.spent(0.1)  # of one visitor: 0.1 s in each 5 s is a fiftieth
        assert live.pace == pytest.approx(5.0)
        events = stream.events()
        await anext(events)
        stream.tell({"jobs"})
        assert read(await anext(events))[1] == {"topics": ["jobs"], "pace": 5.0}
        stream.tell({"jobs"})
        stream.tell({"queues"})
        coming = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.3)
        assert not coming.done()
        live._cost = 0.0
        stream.close()
        with pytest.raises(StopAsyncIteration):
            await coming

    together(database, work)


def test_the_pace_goes_by_what_all_visitors_cost(database):
    async def work(live: Live, stream: Stream) -> None:
        assert live.pace == 1.0
        live.spent(0.01)
        assert live.pace == 1.0
        live._streams |= {Stream(live) for _ in range(19)}
        assert live.pace == pytest.approx(20 * 0.01 / 0.02)
        live._cost = 10.0
        assert live.pace == live_module.SLOWEST

    together(database, work)


def test_a_quiet_stream_says_that_it_lives(database, monkeypatch):
    monkeypatch.setattr(live_module, "PING", 0.01)

    async def work(live: Live, stream: Stream) -> None:
        events = stream.events()
        await anext(events)
        assert (await anext(events)).startswith(b":")

    together(database, work)


# Of the server

SERVE = """
import sys
import uvicorn
from pgjobs_celery.web import dashboard
uvicorn.run(dashboard(sys.argv[1]), port=int(sys.argv[2]), log_level="error")
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM")
def test_a_server_that_is_told_to_end_waits_for_no_visitor(url, tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, url, str(port)], stderr=subprocess.PIPE, text=True
    )
    try:

        def connect() -> Visitor | None:
            assert process.poll() is None
            with contextlib.suppress(OSError):
                return Visitor(("127.0.0.1", port))
            return None

        visitors = [wait_for(connect) for _ in range(5)]
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LIMIT)
        for visitor in visitors:
            while visitor.events.get(timeout=LIMIT) is not None:
                pass
    finally:
        process.kill()
        process.wait()
    # uvicorn ends by the signal that it was sent, once all is in order.
    assert process.returncode in (0, -signal.SIGTERM)
    assert errors == ""
    with pytest.raises(Empty):
        visitors[0].events.get_nowait()

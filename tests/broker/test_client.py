from __future__ import annotations

import logging
import pickle
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import kombu
import psycopg
import pytest
from kombu import pools

from pgjobs_celery import config
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.embedded import EmbeddedServer
from pgjobs_celery.errors import InvalidOption, InvalidURL, PermissionMissing, SchemaMissing
from pgjobs_celery.node.nodes import get_node

from ..conftest import Connection
from ..support.busyness import Stopwatch
from ..support.consumers import consuming, drain, get_rows, is_quiet, publish_task
from ..support.waiting import wait_for

SECRET = "hush-hush"


def with_password(url: str) -> str:
    """The URL with a password, which the server does not ask for."""
    return url.replace("postgres@", f"postgres:{SECRET}@", 1)


@pytest.fixture
def secret_url(url: str) -> str:
    if "postgres@" not in url:
        pytest.skip("PGJOBS_TEST_DSN has a password of its own")
    return with_password(url)


def is_working(broker: kombu.Connection) -> bool:
    publish_task(broker, "urls")
    message = broker.default_channel.basic_get("urls", no_ack=True)
    return message is not None


# Where to connect


def test_every_spelling_of_a_url_connects(secret_url: str, connect: Callable[..., Any]):
    query = parse_qs(urlsplit(secret_url).query)
    host, port = query["host"][0], query["port"][0]
    path = urlsplit(secret_url).path
    for spelling in (
        secret_url,
        secret_url.replace("pgjobs://", "pgjobs+postgresql://"),
        f"pgjobs://{path}?host={host}&port={port}&user=postgres&password={SECRET}",
        # Several hosts: libpq takes the first that answers.
        f"pgjobs://postgres@{path}?host=127.0.0.1,{host}&port=1,{port}",
        f"{secret_url}&connect_timeout=3&application_name=mine&target_session_attrs=read-write",
    ):
        broker = connect(spelling)
        assert is_working(broker), spelling
        with broker.clone() as clone:
            assert is_working(clone), spelling


@pytest.mark.parametrize("as_list", [True, False])
def test_the_next_broker_takes_over_when_the_first_is_down(
    secret_url: str, connect: Callable[..., kombu.Connection], as_list: bool
):
    # A process that has found the one that works does not begin with the other again.
    port = 2 + as_list
    down = f"pgjobs+postgresql://app:{SECRET}@127.0.0.1:{port}/app"
    broker = connect([down, secret_url] if as_list else f"{down};{secret_url}")
    failed: list[str] = []
    broker.ensure_connection(lambda error, interval: failed.append(str(error)), max_retries=3)
    assert broker.connected
    assert is_working(broker)
    assert len(failed) == 1
    assert f"127.0.0.1:{port}" in failed[0]
    clone = broker.clone()
    clone.ensure_connection(max_retries=3)
    assert is_working(clone)
    clone.release()
    assert SECRET not in f"{failed} {broker!r} {broker.as_uri()} {broker.info()} {broker.alt}"


def test_no_password_is_shown(secret_url: str, connect: Callable[..., kombu.Connection]):
    broker = connect(secret_url)
    fresh = kombu.Connection(secret_url)
    shown = [
        repr(fresh), fresh.as_uri(), fresh.as_uri(include_password=True), str(fresh.info()),
    ]  # fmt: skip
    broker.connect()
    with broker.channel() as channel:
        consumer = kombu.Consumer(channel, [kombu.Queue("q")])
        shown += map(repr, (broker, channel, consumer, broker.transport, broker.transport.database))
    copy = pickle.loads(pickle.dumps(broker))
    clone = broker.clone()
    for each in (broker, clone, copy):
        shown += [repr(each), each.as_uri(), each.as_uri(include_password=True), str(each.info())]
        shown += [str(each.hostname), str(each.transport.client_info), str(each.__dict__)]
        assert is_working(each)
        each.release()
    assert SECRET not in " ".join(shown)
    assert broker.as_uri().startswith("pgjobs://postgres@")


def test_no_password_of_the_listen_url_is_shown(
    secret_url: str, url: str, connect: Callable[..., kombu.Connection]
):
    broker = connect(url, listen_url=secret_url)
    broker.connect()
    copies = [broker, broker.clone(), pickle.loads(pickle.dumps(broker))]
    for each in copies:
        assert each.transport.database is broker.transport.database
        assert SECRET not in f"{each.info()} {each.__dict__} {each.transport.options}"
    with consuming(broker) as inbox:
        assert is_quiet(broker)
        publish_task(broker)
        drain(broker, inbox, 1, timeout=2.0)
    with pytest.raises(InvalidURL):
        connect(listen_url="redis://app:hush-hush@db").connect()


def test_a_clone_and_a_pickled_connection_keep_their_options(url: str):
    broker = kombu.Connection(url, transport_options={"max_claim": 7}, connect_timeout=3)
    copies = [broker.clone(), pickle.loads(pickle.dumps(broker))]
    broker.connect()
    copies += [broker.clone(), pickle.loads(pickle.dumps(broker))]
    for copy in copies:
        assert copy.transport.database is broker.transport.database
        assert copy.transport.options.max_claim == 7
        assert copy.transport.options.connect_timeout == 3


def test_pools_hand_out_connections_that_work(url: str, connection: Connection):
    broker = kombu.Connection(url)
    pool = broker.Pool(2)
    for _ in range(5):
        with pool.acquire(block=True) as one, pool.acquire(block=True) as two:
            assert is_working(one)
            assert is_working(two)
            with pytest.raises(pool.LimitExceeded):
                pool.acquire()
    pool.force_close_all()
    with broker.ChannelPool(2).acquire() as channel:
        channel.queue_declare("q")
    for _ in range(3):
        with pools.producers[broker].acquire(block=True) as producer:
            producer.publish({}, routing_key="pooled")
    assert len(get_rows(connection, "messages", "queue = 'pooled'")) == 3
    pools.reset()


# What can go wrong


@pytest.mark.parametrize(
    ("url", "reason", "advice"),
    [
        ("pgjobs://app:hush-hush@127.0.0.1:1/app", "app@127.0.0.1:1/app", "is the server running"),
        ("pgjobs://app:hush-hush@no-such-host.invalid/app", "no-such-host.invalid", "host name"),
        ("pgjobs://app:hush-hush@/app?host=/nowhere", "/nowhere", "socket directory"),
    ],
)
def test_a_server_that_is_not_there_is_named_with_the_remedy(url: str, reason: str, advice: str):
    broker = kombu.Connection(url)
    with pytest.raises(broker.connection_errors) as raised:
        broker.transport.establish_connection()
    assert isinstance(raised.value, broker.recoverable_connection_errors)
    with pytest.raises(kombu.exceptions.OperationalError) as ensured:
        broker.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
    for error in (str(raised.value), str(ensured.value)):
        assert reason in error
        assert advice in error
        assert SECRET not in error


def test_a_server_that_does_not_answer_costs_the_connect_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        broker = kombu.Connection(f"pgjobs://app:{SECRET}@127.0.0.1:{port}/app", connect_timeout=2)
        watch = Stopwatch()
        with pytest.raises(broker.connection_errors, match=r"timeout.*is the server reachable"):
            broker.transport.establish_connection()
        assert watch.own() < 3.5


def test_a_database_that_is_not_there_is_named(url: str):
    broker = kombu.Connection(urlsplit(url)._replace(path="/nowhere").geturl())
    with pytest.raises(broker.connection_errors, match=r"\"nowhere\" does not exist.*create it"):
        broker.transport.establish_connection()


def test_a_database_without_tables_is_told_to_migrate(make_database: Callable[[], str]):
    broker = kombu.Connection(with_password(make_database()))
    for _ in range(2):
        with pytest.raises(SchemaMissing, match="pgjobs migrate") as raised:
            broker.ensure_connection(max_retries=3)
    # Another try would not help.
    assert not isinstance(raised.value, broker.connection_errors)
    assert SECRET not in str(raised.value)


def accepts(url: str) -> bool:
    try:
        psycopg.connect(parse_url(url)).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def stranger(server: EmbeddedServer, url: str, connection: Connection) -> Iterator[str]:
    """The URL of a role that has to know its password, and may do nothing here."""
    hba = Path(server.data / "pg_hba.conf")
    before = hba.read_text()
    connection.execute("DROP ROLE IF EXISTS stranger")
    connection.execute(f"CREATE ROLE stranger LOGIN PASSWORD '{SECRET}'")
    try:
        hba.write_text(f"local all stranger scram-sha-256\n{before}")
        connection.execute("SELECT pg_reload_conf()")
        wait_for(lambda: not accepts(url.replace("postgres@", "stranger@")))
        yield url.replace("postgres@", f"stranger:{SECRET}@")
    finally:
        hba.write_text(before)
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("DROP OWNED BY stranger")
        connection.execute("DROP ROLE stranger")


def test_a_wrong_password_is_called_that_and_not_shown(stranger: str):
    for wrong, reason in ((f":{SECRET}-wrong@", "authentication failed"), ("@", "no password")):
        broker = kombu.Connection(stranger.replace(f":{SECRET}@", wrong))
        with pytest.raises(broker.connection_errors, match=f"{reason}.*password") as raised:
            broker.transport.establish_connection()
        assert SECRET not in str(raised.value)


def test_a_role_without_privileges_is_told_who_grants_them(stranger: str, connection: Connection):
    broker = kombu.Connection(stranger)
    with pytest.raises(PermissionMissing, match="GRANT") as raised:
        broker.connect()
    assert SECRET not in str(raised.value)
    assert not isinstance(raised.value, broker.connection_errors)
    # What the error says helps.
    connection.execute("GRANT" + str(raised.value).partition("GRANT")[2])
    assert is_working(broker)
    connection.execute("REVOKE INSERT ON pgjobs.jobs FROM stranger")
    with pytest.raises(PermissionMissing, match="GRANT") as raised:
        publish_task(broker)
    assert SECRET not in str(raised.value)
    broker.release()
    get_node(broker.transport.database).close()


@pytest.mark.parametrize(
    "url",
    [
        "pgjobs://app:hush-hush@db/app?nonsense=1",
        "pgjobs://app:hush-hush/@db/app",
        "pgjobs://app:hush-hush@db:port/app",
        "pgjobs://app:hush-hush@@db/app",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str):
    broker = kombu.Connection(url)
    with pytest.raises(InvalidURL) as raised:
        broker.connect()
    assert SECRET not in str(raised.value)


# Options


def test_an_unknown_option_warns_once_and_harms_nothing(
    connect: Callable[..., kombu.Connection],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(config, "_warned", set())
    with caplog.at_level(logging.WARNING, "pgjobs_celery"):
        for _ in range(3):
            broker = connect(poll_intervall=1, visibility_timeout=3600, max_retries=3)
            assert is_working(broker)
    assert [record.getMessage() for record in caplog.records] == [
        "transport option 'poll_intervall' is not used here; did you mean 'poll_interval'?",
        "transport option 'visibility_timeout': a Redis option, ignored here",
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"schema": "Robert'); DROP TABLE jobs"},
        {"priority_order": "up"},
        {"pool_size": 0},
        {"max_claim": "many"},
        {"poll_interval": -1},
        {"listen": "perhaps"},
    ],
    ids=str,
)
def test_an_option_that_cannot_be_used_is_refused_by_its_name(url: str, options: dict[str, Any]):
    broker = kombu.Connection(url, transport_options=options)
    with pytest.raises(InvalidOption, match=next(iter(options))):
        broker.connect()


def test_a_broker_can_be_named_in_parts_and_switched_to(secret_url: str, database_url: str):
    query = parse_qs(urlsplit(secret_url).query)
    host, port = query["host"][0], query["port"][0]
    database = urlsplit(secret_url).path[1:]
    parts = kombu.Connection(host, "postgres", SECRET, database, int(port), transport="pgjobs")
    switched = kombu.Connection("pgjobs://nobody@127.0.0.1:1/nothing")
    switched.switch(f"pgjobs://postgres:{SECRET}@{quote(host, safe='')}:{port}/{database}")
    for broker in (parts, switched):
        assert is_working(broker)
        assert SECRET not in f"{broker!r} {broker.info()} {broker.as_uri()}"
        broker.release()


def test_a_channel_belongs_to_the_broker_that_answered(url: str):
    broker = kombu.Connection(f"pgjobs://app@127.0.0.1:1/app;{url}")
    channel = broker.channel()  # connects
    assert channel.connection is broker.connection
    kombu.Producer(channel).publish({}, routing_key="q", retry=True)
    broker.release()

"""Several URLs with ``;`` between, and what a connection says of them."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import kombu
import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from pgjobs_celery.db.dsn import Target

from ..conftest import close_app
from ..support.consumers import publish_task

SECRET = "hush-hush"


def dead(port: int) -> str:
    """The URL of a server that is not there."""
    return f"pgjobs://app:{SECRET}@127.0.0.1:{port}/nothing"


def test_a_list_that_has_moved_on_is_not_what_its_first_url_means(
    url: str, connect: Callable[..., kombu.Connection]
):
    broker = connect(f"{dead(3)};{url}")
    publish_task(broker.ensure_connection(max_retries=3) and broker, "urls")
    alone = connect(dead(3))
    for each in (alone, alone.clone()):
        with pytest.raises(OperationalError, match=r"127\.0\.0\.1:3"):
            each.ensure_connection(max_retries=1)
    # Nor does another list of the same first begin where this one is.
    failed: list[Any] = []
    connect(f"{dead(3)};{dead(4)};{url}").ensure_connection(
        lambda *error: failed.append(error), max_retries=4, interval_start=0
    )
    assert len(failed) == 2


def test_a_list_says_to_which_of_its_urls_the_process_has_gone_on(
    url: str, connect: Callable[..., kombu.Connection]
):
    live = Target(url).parts
    there = (live["port"], live["virtual_host"])
    for _ in range(2):  # the second finds out of no failure
        broker = connect(f"{dead(7)};{url}")
        assert (broker.port, broker.virtual_host) == (7, "nothing")
        broker.ensure_connection(max_retries=3)
        assert (broker.port, broker.virtual_host) == there
        assert broker.info()["hostname"] == broker.hostname == broker.alt[1]
        assert "127.0.0.1:7" not in broker.transport.client_info
    # A copy is of the same list, and begins where this one is.
    copy = broker.clone()
    assert (copy.port, copy.alt) == (there[0], broker.alt)
    copy.ensure_connection(max_retries=1)
    assert copy.transport.database is broker.transport.database
    copy.release()


def test_a_backend_that_is_the_first_of_the_brokers_urls_goes_with_them(url: str):
    app = Celery("failover", broker=f"{dead(5)};{url}", backend=dead(5), set_as_current=False)
    try:
        result = app.send_task("tests.one")
        assert result.state == "PENDING"
        assert app.backend.database is app.connection_for_write().transport.database
    finally:
        close_app(app)


@pytest.mark.parametrize("scheme", ["pgjobs", "pgjobs+postgresql"])
def test_a_connection_says_where_it_leads_before_it_connects(scheme: str):
    broker = kombu.Connection(
        f"{scheme}://app:{SECRET}@first:77/shop?sslmode=require;{scheme}://second/"
    )
    found = []
    for _ in range(2):
        found.append((broker.port, broker.userid, broker.virtual_host, broker.password))
        found.append((broker.transport_cls, SECRET in f"{broker.hostname} {broker.info()}"))
        broker.maybe_switch_next()
    assert found == [
        (77, "app", "shop", None), ("pgjobs", False),
        (None, None, "/", None), ("pgjobs", False),
    ]  # fmt: skip
    copy = broker.clone()
    assert (copy.port, copy.userid, copy.hostname) == (77, "app", "app@first:77/shop")
    assert kombu.Connection("pgjobs://one:1,two:2/shop").port == 1
    # What cannot be read is an error when it connects, as ever.
    kombu.Connection(f"pgjobs://app:{SECRET}/@db/app")


@pytest.mark.parametrize("scheme", ["pgjobs", "pgjobs+postgresql"])
def test_the_first_connection_of_a_process_shows_no_password(scheme: str):
    code = (
        "import celery, kombu, sys; celery.Celery\n"
        "assert 'pgjobs_celery.transport' not in sys.modules\n"
        f"broker = kombu.Connection('{scheme}://app:{SECRET}@first:77/shop')\n"
        "print(broker.hostname, broker.port, broker.userid, broker.virtual_host, broker.password)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output == "app@first:77/shop 77 app shop None\n"


def test_a_switch_to_a_url_keeps_nothing_of_the_one_before(url: str):
    parts = urlsplit(url)
    broker = kombu.Connection(dead(6))
    broker.switch(f"pgjobs://postgres@{quote('/tmp', safe='')}{parts.path}")
    assert (broker.port, broker.userid, broker.virtual_host) == (None, "postgres", parts.path[1:])
    assert broker.transport.client_info == f"pgjobs://postgres@/tmp{parts.path}"


def test_kombu_sets_what_a_connection_says_in_one_method():
    """Fails where a later kombu does it elsewhere."""
    names = set(inspect.signature(kombu.Connection._init_params).parameters)
    assert {"hostname", "port", "userid", "virtual_host", "transport"} <= names
    for method in (kombu.Connection.__init__, kombu.Connection.switch):
        assert "self._init_params(**" in inspect.getsource(method)

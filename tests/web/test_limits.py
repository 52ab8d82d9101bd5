"""A page takes few connections, gives them back, and never waits for a silent server for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.web import endpoint, health
from pgjobs_celery.web.sources import AT_ONCE
from tests.support.networks import Network
from tests.support.rows import put
from tests.support.waiting import wait_for

from ..conftest import Connection


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for."""
    monkeypatch.setattr(endpoint, "PAGE_LIMIT", 2.0)
    monkeypatch.setattr(health, "LIMIT", 2.0)
    monkeypatch.setattr(health, "AGE", 0.0)


@pytest.fixture
def lock(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A session that holds the table of jobs."""
    with psycopg.connect(parse_url(url)) as connection:
        connection.execute("LOCK TABLE pgjobs.jobs")
        yield connection


def with_words(url: str, **words: str) -> str:
    more = "&".join(f"{name}={value}" for name, value in words.items())
    return f"{url}{'&' if '?' in url else '?'}{more}"


def sessions(connection: Connection, name: str) -> int:
    found = connection.execute(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = %s", [name]
    ).fetchone()
    assert found is not None
    return int(found["n"])


def test_a_silent_database_costs_its_own_visitors_a_page_each(url, database, open_page, brief):
    put(database, "a", queue="mail")
    with Network(url) as network:
        browser = open_page({"shop": url, "far": network.url})
        assert browser.get("/far/jobs").status_code == 200
        assert browser.get("/health").status_code == 200
        network.answers = False
        network.swallow()
        with ThreadPoolExecutor(2 * AT_ONCE) as pool:
            far = [pool.submit(browser.get, "/far/jobs") for _ in range(2 * AT_ONCE)]
            # Meanwhile its threads all wait, and those of the other do not.
            assert browser.get("/shop/jobs").status_code == 200
            pages = [each.result(60) for each in far]
        assert {page.status_code for page in pages} == {504}
        assert "not answered in time" in pages[0].text
        assert browser.get("/health").json() == {"ok": False, "databases": 2, "lost": 1}


def test_a_page_that_waits_for_a_lock_is_given_up(lock, url, open_page, brief):
    browser = open_page(url)
    assert browser.get("/jobs").status_code == 504
    lock.rollback()
    assert browser.get("/jobs").status_code == 200


def test_a_limit_of_the_servers_own_is_told_alike(lock, url, open_page):
    browser = open_page(with_words(url, options="-cstatement_timeout%3D50"))
    assert browser.get("/jobs").status_code == 504


def test_it_takes_four_connections_and_gives_them_back(lock, url, connection, open_page):
    name = "pgjobs-page-test"
    browser = open_page({"url": with_words(url, application_name=name), "idle_timeout": 0.2})
    most, is_done = 0, threading.Event()
    with ThreadPoolExecutor(3 * AT_ONCE) as pool:
        pages = [pool.submit(browser.get, "/jobs") for _ in range(3 * AT_ONCE)]
        wait_for(lambda: sessions(connection, name) == AT_ONCE)
        lock.rollback()
        while not all(page.done() for page in pages):
            most = max(most, sessions(connection, name))
            is_done.wait(0.01)
        assert {page.result().status_code for page in pages} == {200}
    assert most <= AT_ONCE
    wait_for(lambda: sessions(connection, name) == 0)

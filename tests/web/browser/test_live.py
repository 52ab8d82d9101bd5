"""Pages follow what happens by themselves, and stand still for who works on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pgjobs_celery import acting_as
from pgjobs_celery.control.acting import begin_action
from pgjobs_celery.db.database import Database
from pgjobs_celery.web import dashboard
from tests.support.rows import put
from tests.support.waiting import wait_for

from ..serving import served
from .browsers import LAPTOP

IS_OPEN = "live.stream !== null && live.stream.readyState === 1"


@pytest.fixture
def tab(chromium: Any, url: str) -> Iterator[Any]:
    """A tab over a database with nothing in it."""
    with served(dashboard(url, role="admin")) as address:
        context = chromium.new_context(viewport=LAPTOP, base_url=address)
        context.set_default_timeout(30_000)
        yield context.new_page()
        context.close()


def act(database: Database, actor: str) -> None:
    """Something that the audit shows."""
    with acting_as(actor):
        action = begin_action("pause_queue", queue="mail", details={"reason": "a test"})
    with database.audit.acting():
        database.audit.record_action(action)
    database.close()  # the session tells the statistics when it ends


def test_a_page_shows_what_happens_without_being_loaded_again(tab: Any, database: Database):
    tab.goto("/audit")
    tab.evaluate("window.isSame = true")
    act(database, "alice")
    tab.get_by_text("alice").first.wait_for()
    tab.locator("tbody a").first.focus()
    act(database, "bob")
    tab.get_by_text("bob").first.wait_for()
    assert tab.evaluate("window.isSame")
    # The link that had the focus is another element now, and has it.
    assert tab.evaluate("document.activeElement.textContent") == "alice"


def test_a_list_stands_still_while_rows_are_ticked(tab: Any, database: Database):
    put(database, "first-of-all")
    tab.goto("/jobs")
    tab.locator("tbody input[type=checkbox]").check()
    put(database, "second-of-all")
    # The page knows of it, and asks for nothing.
    wait_for(lambda: tab.evaluate("live.wanted !== null"))
    assert tab.locator("tbody tr").count() == 1
    tab.locator("tbody input[type=checkbox]").uncheck()
    wait_for(lambda: tab.locator("tbody tr").count() == 2)


def test_updates_are_stopped_by_a_key_and_go_on_by_it(tab: Any, database: Database):
    tab.goto("/audit")
    tab.keyboard.press("p")
    assert tab.locator("#pause-live").text_content() == "Paused"
    assert tab.evaluate("live.stream") is None
    act(database, "alice")
    tab.keyboard.press("p")
    tab.get_by_text("alice").first.wait_for()


def test_without_a_stream_the_page_asks_by_itself(tab: Any, database: Database):
    tab.add_init_script("delete window.EventSource")
    tab.goto("/audit")
    act(database, "alice")
    tab.get_by_text("alice").first.wait_for()


def test_a_hidden_tab_lets_go_of_its_stream(tab: Any):
    tab.goto("/audit")
    wait_for(lambda: tab.evaluate(IS_OPEN))
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    tell = "document.dispatchEvent(new Event('visibilitychange'));"
    tab.evaluate(f"{hide % 'true'}{tell}")
    assert tab.evaluate("live.stream") is None
    tab.evaluate(f"{hide % 'false'}{tell}")
    wait_for(lambda: tab.evaluate(IS_OPEN))

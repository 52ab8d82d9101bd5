"""The page in a real browser: Debian's chromium (or ``PGJOBS_TEST_CHROMIUM``) by Playwright."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pgjobs_celery.web import dashboard
from tests.e2e.conftest import module_url  # noqa: F401

from ..fleet.filling import Fleet, shop_at_work
from ..serving import served
from .browsers import LAPTOP, by_header, find_chromium, start_chromium

#: Why a test is skipped.
NOT_INSTALLED = "the extra browser is not installed: pip install -e '.[browser]'"

#: Milliseconds until the browser finds what a test looks for.
LIMIT = 60_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser for the tests of a module.

    Not for the session: while Playwright is there its event loop runs in this thread, and other
    tests start loops of their own.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason=NOT_INSTALLED)
    if find_chromium() is None:
        pytest.skip("no chromium here: apt-get install chromium, or name it: PGJOBS_TEST_CHROMIUM")
    with playwright.sync_playwright() as started:
        browser = start_chromium(started)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def fleet(
    chromium: Any,
    module_url: str,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    """A shop at work, for the tests of a module."""
    with shop_at_work(module_url, tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def address(fleet: Fleet) -> Iterator[str]:
    """Where the page over the fleet is served."""
    with served(dashboard(fleet.app, login=by_header, title="Shop")) as address:
        yield address


class Watch:
    """What a browser complained of: a test ends without any."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.may_be_gone = False

    def over(self, page: Any) -> None:
        """Note what goes wrong in this tab."""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))
        page.on("requestfailed", self._on_failure)
        page.on("response", self._on_response)

    def _on_console(self, message: Any) -> None:
        if message.type == "error" and not (self.may_be_gone and "404" in message.text):
            self.complaints.append(f"console: {message.text} ({message.location.get('url')})")

    def _on_failure(self, request: Any) -> None:
        # A stream of events, or a page, that is left.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"request: {request.url}: {request.failure}")

    def _on_response(self, response: Any) -> None:
        if response.status >= 400 and not (self.may_be_gone and response.status == 404):
            self.complaints.append(f"answer: {response.url}: {response.status}")


OpenTab = Callable[..., Any]


@pytest.fixture
def open_tab(chromium: Any, address: str) -> Iterator[OpenTab]:
    """A factory of tabs: ``open_tab("/jobs?state=available", role="viewer", dark=True)``.

    The test fails for what any of them complains of: errors of scripts, requests that failed,
    violations of the content security policy.
    """
    contexts: list[Any] = []
    watch = Watch()

    def open_tab(
        path: str = "/",
        *,
        role: str = "admin",
        size: dict[str, int] = LAPTOP,
        dark: bool = False,
        script: bool = True,
        may_be_gone: bool = False,
        **options: Any,
    ) -> Any:
        watch.may_be_gone = may_be_gone
        context = chromium.new_context(
            viewport=size,
            color_scheme="dark" if dark else "light",
            java_script_enabled=script,
            extra_http_headers={"x-role": role},
            base_url=address,
            reduced_motion="reduce",
            **options,
        )
        context.set_default_timeout(LIMIT)
        contexts.append(context)
        tab = context.new_page()
        watch.over(tab)
        tab.goto(path)
        return tab

    yield open_tab
    for context in contexts:
        context.close()
    assert not watch.complaints, "\n".join(watch.complaints)


def tab_to(tab: Any, selector: str, most: int = 300) -> None:
    """Move the focus by the tabulator alone until it is on what the selector finds."""
    wanted = tab.locator(selector).first
    for _ in range(most):
        if wanted.evaluate("each => each === document.activeElement"):
            assert tab.evaluate(IS_FOCUS_SEEN), f"nobody sees that {selector} has the focus"
            return
        tab.keyboard.press("Tab")
    pytest.fail(f"the tabulator does not come to {selector}")


#: True if the focused element has an outline.
IS_FOCUS_SEEN = """() => {
  const style = getComputedStyle(document.activeElement);
  return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
}"""


def save_for_people(tab: Any, name: str) -> None:
    """A picture of the tab, in the folder that ``PGJOBS_TEST_PICTURES`` names."""
    if folder := os.environ.get("PGJOBS_TEST_PICTURES"):
        tab.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

"""The page over a real database, asked as a browser would ask it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra web is not installed")
pytest.importorskip("jinja2", reason="the extra web is not installed")

from starlette.testclient import TestClient

from pgjobs_celery.web import dashboard

TOKEN = re.compile(r'name="pgjobs_csrf" value="([^"]+)"')


class Browser(TestClient):
    """A visitor with cookies, who sends forms as the page has them."""

    def post_form(self, path: str, page: str = "/", *, follow: bool = True, **fields: Any) -> Any:
        """Send a form that stands on a page, with its token; follows to the next page."""
        if "pgjobs_csrf" not in self.cookies:
            self.get(page)
        data = {"pgjobs_csrf": self.cookies["pgjobs_csrf"], "next": page, **fields}
        headers = {"sec-fetch-site": "same-origin"}
        return self.post(path, data=data, headers=headers, follow_redirects=follow)


@pytest.fixture
def open_page(url: str) -> Iterator[Callable[..., Browser]]:
    """A factory of visitors of the page: ``open_page(role="operator")``."""
    apps: list[Any] = []
    with ExitStack() as stack:

        def open_page(sources: Any = None, **options: Any) -> Browser:
            app = dashboard(sources if sources is not None else url, **options)
            apps.append(app)
            browser = Browser(app, base_url="http://page", raise_server_exceptions=True)
            return stack.enter_context(browser)

        yield open_page
    for app in apps:
        for examiner in app.state.pgjobs.examiners.values():
            # Its doctor holds locks, and the next test empties the tables.
            assert examiner.wait(30)


@pytest.fixture
def viewer(open_page: Callable[..., Browser]) -> Browser:
    """Somebody who may look."""
    return open_page()


@pytest.fixture
def admin(open_page: Callable[..., Browser]) -> Browser:
    """Somebody who may do all."""
    return open_page(role="admin")

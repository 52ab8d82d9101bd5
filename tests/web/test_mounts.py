"""The page in other programs: FastAPI and Starlette, Flask, twice, at a path, after a fork."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Mount
from starlette.testclient import TestClient

from pgjobs_celery.web import User, as_wsgi, dashboard
from pgjobs_celery.web.security import CSRF
from tests.support.rows import put

from .conftest import TOKEN

uvicorn = pytest.importorskip("uvicorn")


@contextmanager
def on_uvicorn(app: Any, **options: Any) -> Iterator[str]:
    """The address of an ASGI application."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", **options))
    is_up = threading.Event()
    startup = server.startup

    async def started(*args: Any, **kwargs: Any) -> None:
        await startup(*args, **kwargs)
        is_up.set()

    server.startup = started
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert is_up.wait(30)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def on_wsgi(app: Any) -> Iterator[str]:
    """The address of a WSGI application."""
    server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


def follow_all_links(browser: httpx.Client, place: str, base: str) -> None:
    """Each link of the page leads to a page, or a file, below its own path."""
    page = browser.get(place)
    assert page.status_code == 200, page.text
    links = set(re.findall(r'(?:href|src|action)="([^"#]+)"', page.text))
    assert links
    for link in links:
        assert link.startswith(f"{base}/"), link
        answer = browser.get(link)
        assert answer.status_code in (200, 405), link


def cancel(browser: httpx.Client, base: str) -> httpx.Response:
    """Send the form that cancels a job."""
    token = TOKEN.search(browser.get(f"{base}/job?id=a").text)
    assert token
    fields = {CSRF: token[1], "id": "a", "next": f"{base}/"}
    return browser.post(f"{base}/job/cancel", data=fields)


def audited(database: Any) -> list[tuple[str, str, str]]:
    return [(row.action, row.actor, row.via) for row in database.audit.list_actions(limit=None)]


def test_fastapi_with_its_session(url, database):
    fastapi = pytest.importorskip("fastapi")
    from starlette.middleware.sessions import SessionMiddleware

    app = fastapi.FastAPI()
    app.add_middleware(SessionMiddleware, secret_key="tests")

    async def sign_in(request: Request) -> PlainTextResponse:
        request.session["user"] = request.path_params["name"]
        return PlainTextResponse("welcome")

    app.add_route("/login/{name}", sign_in)

    async def login(request):
        name = request.session.get("user")
        return User(name, "operator") if name else RedirectResponse("/login/nobody", 303)

    app.mount("/jobs", dashboard(url, login=login))
    put(database, "a", queue="mail")
    with on_uvicorn(app) as place, httpx.Client(base_url=place) as browser:
        turned = browser.get("/jobs/")
        assert (turned.status_code, turned.headers["location"]) == (303, "/login/nobody")
        browser.get("/login/alice")
        follow_all_links(browser, "/jobs/", "/jobs")
        assert browser.get("/jobs", follow_redirects=True).url.path == "/jobs/"
        answer = cancel(browser, "/jobs")
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/")
    assert audited(database) == [("cancel_jobs", "alice", "web")]


def test_behind_a_proxy_that_strips_its_path(url, database):
    put(database, "a", queue="mail")
    with (
        on_uvicorn(dashboard(url, role="operator"), root_path="/ops/jobs") as place,
        httpx.Client(base_url=place) as browser,
    ):
        page = browser.get("/")
        assert set(re.findall(r'href="(/[^/"]+/[^/"]+/)', page.text)) == {"/ops/jobs/"}
        assert "Path=/ops/jobs" in page.headers["set-cookie"]
        assert browser.get("/static/pgjobs.css").status_code == 200


def test_flask_with_its_session(url, database):
    flask = pytest.importorskip("flask")
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    app = flask.Flask("shop")
    app.secret_key = "tests"

    @app.get("/login/<name>")
    def sign_in(name: str) -> str:
        flask.session["user"] = name
        return name

    def login(request):
        with app.request_context(request.scope["wsgi_environ"]):
            name = flask.session.get("user")
        return User(name, "operator") if name else None

    page = as_wsgi(dashboard(url, login=login))
    # At the very path that one of its own pages has.
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/jobs": page})  # type: ignore[method-assign]
    put(database, "a", queue="mail")
    with on_wsgi(app) as place, httpx.Client(base_url=place) as browser:
        assert browser.get("/jobs/").status_code == 403
        browser.get("/login/alice")
        follow_all_links(browser, "/jobs/", "/jobs")
        answer = cancel(browser, "/jobs")
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/")
        for odd in ("/jobs/?x=%ff&y=%00", "/jobs/%ff%fe", "/jobs/\u00fc", "/jobs/?\u00fc=1"):
            assert browser.get(odd).status_code < 500, odd
    assert audited(database) == [("cancel_jobs", "alice", "web")]


@pytest.mark.parametrize(
    "environ",
    [
        {"QUERY_STRING": "x=\xff&y=\xe4 z"},
        {"PATH_INFO": "/\xff\xfe"},
        {"SCRIPT_NAME": "/jobs", "PATH_INFO": ""},
        {"SCRIPT_NAME": "/\xff", "PATH_INFO": "/"},
    ],
)
def test_what_a_server_passes_on_as_it_came_is_no_error(url, environ):
    from wsgiref.util import setup_testing_defaults

    given: dict[str, Any] = dict(environ)
    setup_testing_defaults(given)
    statuses: list[str] = []
    body = b"".join(
        as_wsgi(dashboard(url))(given, lambda status, headers, error=None: statuses.append(status))
    )
    assert int(statuses[0].split()[0]) < 500, body


def test_a_fork_after_the_first_request_is_served_as_well(url, database):
    """gunicorn --preload: all is made in the parent, threads and connections included."""
    put(database, "a", queue="mail")
    page = as_wsgi(dashboard(url))

    def ask() -> bytes:
        from wsgiref.util import setup_testing_defaults

        environ: dict[str, Any] = {"PATH_INFO": "/"}
        setup_testing_defaults(environ)
        return b"".join(page(environ, lambda *_: None))

    assert b"mail" in ask()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, b"yes" if b"mail" in ask() else b"no")
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        assert answer.read() == b"yes"
    os.waitpid(child, 0)
    assert b"mail" in ask()


def test_two_pages_in_one_program_do_not_meet(url, database):
    one = dashboard(url, role="admin", title="Uno")
    two = dashboard({"x": url, "y": url}, title="Due")
    put(database, "a")
    app = Starlette(routes=[Mount("/one", one), Mount("/two", two), Mount("/again", one)])
    with TestClient(app) as browser:
        assert "Uno" in browser.get("/one/").text
        assert "Due" in browser.get("/two/").text
        assert 'href="/again/static' in browser.get("/again/").text
        assert browser.get("/two/").url.path == "/two/x/"
        assert cancel(browser, "/again").url.path == "/again/"
        # The first page's token is of no use where the second is looked at.
        browser.get("/two/x/")
        answer = browser.post("/two/x/job/cancel", data={CSRF: "x" * 40, "id": "a"})
        assert answer.status_code == 403
    assert len(audited(database)) == 1

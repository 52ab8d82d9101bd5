"""Who asks: by password, by a proxy's header, by a hook of the program's own."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode

import pytest
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.testclient import TestClient

from pgjobs_celery.errors import InvalidOption
from pgjobs_celery.web import (
    User,
    basic_auth,
    dashboard,
    hash_password,
    logins,
    trusted_header,
)
from pgjobs_celery.web.logins import is_password

PASSWORD = "correct horse: ü"


def basic(name: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}


def test_a_hash_holds_for_its_password_only():
    hashed = hash_password(PASSWORD)
    assert PASSWORD not in hashed
    assert hash_password(PASSWORD) != hashed
    assert is_password(PASSWORD, hashed)
    assert not is_password(PASSWORD + " ", hashed)


def test_names_and_passwords(open_page):
    login = basic_auth({"alice": hash_password(PASSWORD), "bob": "plain"}, roles={"alice": "admin"})
    page = open_page(login=login)

    asked = page.get("/")
    assert asked.status_code == 401
    assert asked.headers["www-authenticate"] == 'Basic realm="jobs", charset="UTF-8"'
    assert asked.headers["x-frame-options"] == "DENY"
    for name, word in [("alice", "wrong"), ("nobody", PASSWORD), ("alice", ""), ("", PASSWORD)]:
        assert page.get("/", headers=basic(name, word)).status_code == 401
    for header in ("Basic", "Basic !", "Basic YQ==", "Bearer x", "Basic \xff"):
        assert page.get("/", headers={"authorization": header.encode("latin-1")}).status_code == 401
    for _ in range(2):  # the second time it is known
        shown = page.get("/", headers=basic("alice", PASSWORD))
        assert shown.status_code == 200
        assert "alice" in shown.text
        assert "(admin)" in shown.text
    assert page.get("/", headers=basic("alice", "wrong")).status_code == 401
    assert "(viewer)" in page.get("/", headers=basic("bob", "plain")).text


def test_passwords_that_would_wait_for_long_are_not_tried(monkeypatch):
    monkeypatch.setattr(logins, "MOST_TRIED", 5)
    login = basic_auth({"alice": hash_password(PASSWORD)})

    def request(password: str) -> Request:
        name, value = "authorization", basic("alice", password)["authorization"]
        return Request({"type": "http", "headers": [(name.encode(), value.encode())]})

    async def flood() -> tuple[list[Response], User]:
        answers = await asyncio.gather(*(login(request(f"wrong {n}")) for n in range(20)))
        return answers, await login(request(PASSWORD))

    answers, user = asyncio.run(flood())
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [503] * 15
    assert user == User("alice", "viewer")


@pytest.mark.parametrize(
    ("passwords", "options", "reason"),
    [
        ({}, {}, "at least one"),
        ({"a": ""}, {}, "empty password"),
        ({"a": "scrypt$x"}, {}, "cannot be read"),
        ({"a": "b"}, {"roles": {"c": "admin"}}, "'c' has a role, and no password"),
        ({"a": "b"}, {"roles": {"a": "boss"}}, "no role 'boss'"),
    ],
)
def test_wrong_passwords_files_are_refused(passwords, options, reason):
    with pytest.raises(InvalidOption, match=reason) as error:
        basic_auth(passwords, **options)
    assert "scrypt$x" not in str(error.value)


@pytest.mark.parametrize(
    ("peer", "headers", "shown"),
    [
        ("10.0.0.1", [("X-User", "alice")], 'alice <span class="quiet">(admin)'),
        ("10.0.0.1", [("X-User", "bob")], 'bob <span class="quiet">(viewer)'),
        ("10.0.0.1", [("X-User", "J\u00fcrgen")], "J\u00fcrgen"),
        ("10.0.0.1", [("X-User", "<b>x</b>")], "&lt;b&gt;x&lt;/b&gt;"),
        ("10.0.0.1", [], None),
        ("10.0.0.1", [("X-User", " ")], None),
        ("10.0.0.1", [("X-User", "x" * 256)], None),
        # A proxy that adds to what the visitor has sent.
        ("10.0.0.1", [("X-User", "alice"), ("X-User", "bob")], None),
        ("203.0.113.9", [("X-User", "alice")], None),
    ],
)
def test_a_proxy_names_the_user(url, peer, headers, shown):
    login = trusted_header("X-User", trust="10.0.0.0/8", roles={"alice": "admin"})
    app = dashboard(url, login=login)

    async def from_peer(scope, receive, send):
        await app({**scope, "client": (peer, 50000)}, receive, send)

    raw = [(name, value.encode()) for name, value in headers]
    answer = TestClient(from_peer).get("/", headers=raw)
    assert answer.status_code == (403 if shown is None else 200)
    assert shown is None or shown in answer.text


def test_a_hook_that_is_not_async_runs_in_a_thread_and_may_answer_itself(open_page):
    seen: list[int] = []

    def login(request):
        seen.append(threading.get_ident())
        return RedirectResponse("/login", 303)

    async def turned_away(request):
        return None

    answer = open_page(login=login).get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert answer.headers["content-security-policy"]
    assert seen != [threading.get_ident()]
    assert open_page(login=turned_away).get("/").status_code == 403


@pytest.mark.parametrize("answer", [True, "alice", {"name": "alice"}])
def test_a_hook_that_returns_something_else_lets_nobody_in(open_page, answer):
    assert open_page(login=lambda request: answer).get("/").status_code == 403


def test_a_hook_that_names_an_unusable_user_lets_nobody_in(open_page):
    assert open_page(login=lambda request: User("a\0")).get("/").status_code == 403

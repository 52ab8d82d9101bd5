"""Raw requests, not clicks: each role at each action, forged forms, hostile words everywhere.

The tables are made of the page's own routes: a new page or action is covered by being there.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.requests import Request
from starlette.responses import Response

from pgjobs_celery.db.database import Database
from pgjobs_celery.job.flow import FlowRow
from pgjobs_celery.web import Role, User, pages
from pgjobs_celery.web.pages import ROUTES
from pgjobs_celery.web.roles import PERMISSIONS
from pgjobs_celery.web.routes import Act, Page, name_of
from pgjobs_celery.web.security import (
    CSRF,
    LARGEST_FORM,
    MOST_FIELDS,
    Unreadable,
    forgery,
    is_known_host,
    read_form,
)
from pgjobs_celery.web.visit import FLASH
from tests.support.lanes import rule
from tests.support.rows import put

from ..conftest import Connection
from .conftest import Browser

PAGES = [route for route in ROUTES if isinstance(route, Page)]
ACTS = [route for route in ROUTES if isinstance(route, Act)]
TOKEN = "t" * 40
#: Fields that one action or another reads.
FIELDS = {"queue": "mail", "id": "a", "task": "tasks.add", "name": "entry", "worker": "w@h"}


def done(database: Database) -> list[tuple[str, str, str]]:
    """All that the audit tells."""
    return [(row.action, row.actor, row.via) for row in database.audit.list_actions(limit=None)]


# Roles


@pytest.mark.parametrize("act", ACTS, ids=name_of)
def test_an_action_is_for_its_role_and_those_above_it(
    database: Database, open_page: Any, act: Act
) -> None:
    visitor = open_page(login=lambda request: User(*request.headers["x-user"].split("/")))
    for role in sorted(Role):
        put(database, str(role), queue="mail")
        visitor.headers["x-user"] = f"eve <{role}>/{role}"
        before = len(done(database))

        answer = visitor.post_form(act.path, **{**FIELDS, "id": str(role)})

        found = done(database)
        new = found[: len(found) - before]
        if role < PERMISSIONS[act.permission]:
            assert answer.status_code == 403, role
            assert f"eve &lt;{role}&gt; is " in answer.text
            assert new == []
        else:
            # The fields may not be those that it needs: then it is refused for that.
            assert answer.status_code != 403, answer.text
            assert answer.status_code < 500, answer.text
            assert {(actor, via) for _, actor, via in new} <= {(f"eve <{role}>", "web")}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("job_cancel", {}),
        ("job_delete", {}),
        ("job_prioritize", {"priority": "3"}),
        ("job_move", {"queue": "other"}),
        ("job_reschedule", {"when": "5m"}),
        ("pause_queue", {}),
        ("limit_queue", {"concurrency": "3"}),
        ("queue_rate", {"limit": "5/m", "by": "kwargs.tenant_id", "burst": "3"}),
        ("queue_running", {"limit": "5", "by": "kwargs.tenant_id"}),
        ("share_queue", {"by": "kwargs.tenant_id"}),
        ("weigh_key", {"key": "7", "weight": "3"}),
        ("bound_queue", {"depth": "9", "on_full": "wait"}),
        ("reset_queue", {}),
        ("pause_jobs", {"key": "7", "until": "2h"}),
        ("pause_jobs", {"key": "tasks.add", "kind": "task"}),
    ],
)
def test_an_action_is_recorded_with_its_visitor(database, open_page, name, fields):
    act = next(act for act in ACTS if name_of(act) == name)
    put(database, "a", queue="mail")
    rule(database, FlowRow("rate/task/tasks.add", 5, 1.0, "args.0"))  # so that it has keys to pause
    user = User("J\u00fcrgen \u202e'; --", "admin")
    answer = open_page(login=lambda request: user).post_form(act.path, **{**FIELDS, **fields})
    assert answer.status_code == 200, answer.text
    assert done(database) == [(act.permission, user.name, "web")]


@pytest.mark.parametrize("act", ACTS, ids=name_of)
def test_an_action_is_not_done_by_get(database: Database, admin: Browser, act: Act) -> None:
    put(database, "a", queue="mail")
    answer = admin.get(
        act.path, params={**FIELDS, CSRF: TOKEN}, headers={"cookie": f"{CSRF}={TOKEN}"}
    )
    # Its form may be a page of the same address.
    is_page = any(page.path == act.path for page in PAGES)
    assert answer.status_code in ((200, 400, 404) if is_page else (404, 405))
    assert done(database) == []
    assert answer.headers["x-frame-options"] == "DENY"


FORGED = [
    ("no token", {}, {CSRF: ""}),
    ("a wrong token", {}, {CSRF: "x" * 40}),
    ("a short cookie", {"cookie": f"{CSRF}=t"}, {CSRF: "t"}),
    ("an empty cookie", {"cookie": f"{CSRF}="}, {CSRF: ""}),
    ("another site", {"sec-fetch-site": "cross-site"}, {}),
    ("another subdomain", {"sec-fetch-site": "same-site"}, {}),
    ("no page", {"sec-fetch-site": "none"}, {}),
    ("another origin", {"origin": "https://evil.example"}, {}),
    ("an origin of the same beginning", {"origin": "http://page.evil.example"}, {}),
    ("another port", {"origin": "http://page:8080"}, {}),
    ("a sandbox", {"origin": "null"}, {}),
]


@pytest.mark.parametrize("act", ACTS, ids=name_of)
def test_a_forged_form_does_nothing(database: Database, admin: Browser, act: Act) -> None:
    put(database, "a", queue="mail")
    for how, headers, fields in FORGED:
        answer = admin.post(
            act.path,
            data={**FIELDS, CSRF: TOKEN, **fields},
            headers={"cookie": f"{CSRF}={TOKEN}", **headers},
        )
        assert answer.status_code == 403, how
    assert done(database) == []


def request_with(**headers: str) -> Request:
    raw = [
        (k.replace("_", "-").encode(), v.encode("utf-8", "surrogatepass"))
        for k, v in headers.items()
    ]
    return Request(
        {"type": "http", "headers": raw, "scheme": "http", "path": "/", "query_string": b""}
    )


@pytest.mark.parametrize(
    ("headers", "trusted"),
    [
        ({"sec_fetch_site": "same-origin"}, ()),
        ({"origin": "http://page", "host": "page"}, ()),
        ({"origin": "https://page:8443", "host": "page:8443"}, ()),
        ({"sec_fetch_site": "same-site", "origin": "https://ops.example"}, {"https://ops.example"}),
        ({}, ()),  # a program
    ],
)
def test_the_visitors_own_form_is_no_forgery(headers, trusted):
    assert forgery(request_with(cookie=f"{CSRF}={TOKEN}", **headers), TOKEN, trusted) is None


@pytest.mark.parametrize("sent", ["\udcff" * 40, "ü" * 40, "\0" * 40, TOKEN + "\0"])
def test_an_odd_token_is_a_wrong_one(sent):
    assert forgery(request_with(cookie=f"{CSRF}={TOKEN}"), sent.encode("utf-8", "replace").decode())


def test_a_cookie_that_a_browser_keeps_is_for_the_page_alone(viewer: Browser):
    cookie = viewer.get("/").headers["set-cookie"]
    assert re.search(r"(?i)httponly", cookie)
    assert re.search(r"(?i)samesite=strict", cookie)
    assert "Path=/" in cookie
    assert "secure" not in cookie.lower()
    viewer.base_url = "https://page"
    viewer.cookies.clear()
    assert "secure" in viewer.get("/").headers["set-cookie"].lower()


def test_the_cookie_of_an_outcome_is_for_tls_where_the_page_is(database: Database, admin: Browser):
    put(database, "a")
    for scheme, is_secure in (("http", False), ("https", True)):
        admin.base_url = f"{scheme}://page"
        admin.cookies.clear()
        answer = admin.post_form("/job/cancel", id="a", follow=False)
        (cookie,) = [
            each for each in answer.headers.get_list("set-cookie") if each.startswith(FLASH)
        ]
        assert ("secure" in cookie.lower()) is is_secure


# Forms


def form_of(
    body: bytes, kind: str = "application/x-www-form-urlencoded", chunk: int = 65536
) -> Any:
    chunks = [body[at : at + chunk] for at in range(0, len(body), chunk)] or [b""]
    messages = iter(
        {"type": "http.request", "body": each, "more_body": at < len(chunks) - 1}
        for at, each in enumerate(chunks)
    )

    async def receive() -> Any:
        return next(messages)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
    return asyncio.run(read_form(Request(scope, receive)))


def test_a_form_is_read_as_browsers_send_it():
    form = form_of(b"id=a&id=b%00&text=%C3%BC+%F0%9F%90%98&empty=")
    assert form.getlist("id") == ["a", "b\0"]
    assert (form["text"], form["empty"]) == ("ü 🐘", "")
    assert form_of(b"a=%ff%ed%a0%80")["a"].encode()  # no lone surrogates


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"x=" + b"a" * LARGEST_FORM, "application/x-www-form-urlencoded", 413),
        (b"&".join([b"a=1"] * (MOST_FIELDS + 1)), "application/x-www-form-urlencoded", 413),
        (b"{}", "application/json", 415),
        (b"x", "multipart/form-data; boundary=x; charset=unicode_escape", 415),
        (b"x=1", "text/plain", 415),
    ],
    ids=["large", "many", "json", "multipart", "text"],
)
def test_a_form_that_no_page_of_ours_has_is_refused(body, kind, status):
    with pytest.raises(Unreadable) as error:
        form_of(body, kind)
    assert error.value.status == status


@pytest.mark.parametrize("act", ACTS[:1], ids=name_of)
def test_a_form_that_is_too_large_is_told_so(admin: Browser, act: Act):
    answer = admin.post_form(act.path, more="x" * LARGEST_FORM)
    assert answer.status_code == 413
    assert "bytes" in answer.text


# Addresses


@pytest.mark.parametrize(
    "path",
    [
        "../routes.py", "..%2froutes.py", "%2e%2e/routes.py", "....//routes.py", "/etc/passwd",
        "%2fetc%2fpasswd", "pgjobs.css%00.js", "..\\routes.py", "%5c..%5croutes.py", "", ".", "%00",
        "pgjobs.css/..", "nothing.css",
    ],
)  # fmt: skip
def test_only_our_own_files_are_served(viewer: Browser, path: str):
    answer = viewer.get(f"http://page/static/{path}")
    assert answer.status_code == 404
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_file_may_be_kept_under_its_version_only(viewer: Browser):
    place = re.search(r'"(/static/pgjobs\.css\?v=\w+)"', viewer.get("/").text)
    assert place
    kept = viewer.get(place[1])
    assert "immutable" in kept.headers["cache-control"]
    assert kept.headers["content-type"].startswith("text/css")
    assert viewer.get("/static/pgjobs.css?v=x").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "given",
    [
        "//evil.example", "https://evil.example/", "/\\evil.example", "\\\\evil.example",
        "javascript:x", "/nothing", "/../admin", "/static/pgjobs.css",
        "/\t/evil.example", "/%09/evil.example", "",
        "/\r\nLocation: https://evil.example", "/queues\u2028",
        "///evil.example", "/.//evil.example", "///queues", "////queues", " ///queues",
        "http:///evil.example", "http:evil.example", "?x=1",
    ],
)  # fmt: skip
def test_an_action_leads_back_to_a_page_of_ours(database: Database, admin: Browser, given: str):
    put(database, "a")
    answer = admin.post_form("/job/cancel", next=given, id="a", follow=False)
    assert answer.status_code == 303
    assert answer.headers["location"].partition("?")[0] in ("/", "/job")


def test_the_next_page_keeps_its_words(database: Database, admin: Browser):
    put(database, "a")
    answer = admin.post_form("/job/cancel", next="/?range=day&x=%0d%0a", id="a", follow=False)
    assert answer.headers["location"] == "/?range=day&x=%0d%0a"


@pytest.mark.parametrize(
    ("host", "known", "is_known"),
    [
        ("anything", (), True),
        ("localhost:8080", {"localhost"}, True),
        ("LOCALHOST", {"localhost"}, True),
        ("[::1]:8080", {"::1"}, True),
        ("[::1]", {"::1"}, True),
        ("localhost.evil.example", {"localhost"}, False),
        ("evil.example:8080", {"localhost"}, False),
        ("localhost@evil.example", {"localhost"}, False),
        ("", {"localhost"}, False),
    ],
)
def test_a_host_is_known_or_not(host, known, is_known):
    assert is_known_host(host, known) is is_known


def test_a_page_is_shown_under_its_names_alone(open_page):
    page = open_page(hosts=["page"])
    assert page.get("/").status_code == 200
    for host in ("evil.example", "evil.example:80", "page.evil.example"):
        answer = page.get("/", headers={"host": host})
        assert answer.status_code == 421
        assert "evil" not in answer.text
    assert page.get("/health", headers={"host": "10.0.0.1"}).status_code == 200


@pytest.mark.parametrize("path", ["/queues/", "/nothing", "//evil.example", "/health/"])
def test_what_is_not_there_is_told_without_a_redirect_to_the_host_that_was_named(viewer, path):
    answer = viewer.get(
        f"http://page{path}", headers={"host": "evil.example"}, follow_redirects=False
    )
    assert answer.status_code == 404
    assert "evil" not in answer.text + str(answer.headers)
    assert answer.headers["content-security-policy"]


# Hostile words

MARKUP = "\u202e<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}"
#: Each as the value of each word by itself: of several, the first that cannot be read is told.
HOSTILE = [
    "\0",
    "9" * 400,
    "x" * 10_000,
    "1e999",
    "\u0663\u00b2",
    "9999-12-31T23:59:59+14:00",
    MARKUP,
]
#: And these for all words of an address at once.
ODD = [
    "%00", str(2**63), "-1", "NaN", "';--%\" [[[{", "0000-00-00T99:99", "\u2066x",
    "a\r\nSet-Cookie: x=1",
]  # fmt: skip
#: As bytes in the address: a lone surrogate, what is no UTF-8, an overlong NUL.
RAW = "%ED%A0%80%FF%FE%C0%80"

_WORDS = (
    re.compile(r"""(?:query|form)\.(?:get|getlist)\(\s*"(\w+)\""""),
    re.compile(r"""(?:query|form)\[\s*"(\w+)"\s*\]"""),
)


def words_of_pages() -> set[str]:
    """The words that the modules of pages read from addresses and forms."""
    texts = [path.read_text("utf-8") for path in Path(pages.__file__).parent.glob("*.py")]
    texts.append(Path(pages.__file__).parents[1].joinpath("visit.py").read_text("utf-8"))
    found = {word for text in texts for each in _WORDS for word in each.findall(text)}
    return found | {
        "id",
        "name",
        "state",
        "queue",
        "task",
        "range",
        "before",
        "after",
        "limit",
        "q",
    }


WORDS = sorted(words_of_pages() - {CSRF, "next"})


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_word_in_an_address_is_an_error_of_the_server(
    database: Database, viewer: Browser, page: Page
) -> None:
    put(database, "a", queue="mail")
    words = sorted(words_read_by(page) | {"id", "unknown"})
    queries = [f"{word}={quote(value)}" for word in words for value in HOSTILE]
    queries += ["&".join(f"{word}={quote(value)}" for word in words) for value in ODD]
    queries.append("&".join(f"{word}={RAW}&{word}=x" for word in words))
    for query in queries:
        answer = viewer.get(f"http://page{page.path}?{query}")
        where = f"{page.path}?{query[:200]}"
        assert answer.status_code < 500, where
        assert "<script>alert" not in answer.text, where
        assert "<img src=x" not in answer.text, where
        assert "set-cookie: x=1" not in str(answer.headers).lower(), where


def words_read_by(route: Page | Act) -> set[str]:
    """The words that the text of a route's module has."""
    source = source_of(route)
    return {word for word in WORDS if re.search(rf"\b{word}\b", source)}


def source_of(route: Page | Act) -> str:
    """The text of a route's module."""
    handler = getattr(route.handler, "func", route.handler)
    module = inspect.getmodule(handler)
    assert module is not None
    return inspect.getsource(module)


@pytest.mark.parametrize("act", ACTS, ids=name_of)
def test_no_field_of_a_form_is_an_error_of_the_server(
    database: Database, admin: Browser, act: Act
) -> None:
    put(database, "a", queue="mail")
    for word in sorted(words_read_by(act) | {"queue"}):
        for value in HOSTILE:
            answer = admin.post_form(act.path, **{**FIELDS, word: value}, follow=False)
            assert answer.status_code < 500, (act.path, word, value[:60])
    for value in ODD:
        answer = admin.post_form(act.path, **dict.fromkeys(FIELDS, value), follow=False)
        assert answer.status_code < 500, (act.path, value[:60])
        assert "x=1" not in answer.headers.get("set-cookie", "").split(";")[0]


def test_a_row_is_never_html(database: Database, viewer: Browser):
    evil = "<script>alert(1)</script>"
    put(database, "a", queue=evil, task=evil)
    for page in PAGES:
        answer = viewer.get(page.path, params={"name": evil, "id": "a"})
        assert answer.status_code < 500
        assert evil not in answer.text, page.path


# Secrets


@pytest.mark.parametrize(
    "path",
    ["/queue?name={}", "/task?name={}", "/audit?actor={}", "/failures?task={}", "/jobs?q=queue:{}"],
)
def test_what_looks_like_another_command_is_not_there_to_be_copied(
    database: Database, viewer: Browser, path: str
):
    for name, is_shown in (("mail", True), ("mail\u202e;x", False), ("mail\x1b[8m", False)):
        put(database, quote(name), task=name, queue=name)
        page = viewer.get(path.format(quote(name))).text
        found = re.search(r"<h3>CLI</h3>\s*<pre><code>(.*?)</code>", page, re.DOTALL)
        assert (found is not None) is is_shown, found


def test_an_outcome_tells_no_command_that_looks_like_another_one(
    database: Database, admin: Browser
):
    for name, is_shown in (("mail", True), ("mail\u202e;x", False)):
        put(database, quote(name), queue=name)
        page = admin.post_form("/queues/pause", queue=name).text
        assert "is paused" in page
        assert ("The same from a shell" in page) is is_shown


def test_no_page_tells_the_password_of_a_database(open_page):
    for url in ("pgjobs://nobody:s3cr3t-w0rd@127.0.0.1:1/nothing",):
        visitor = open_page(url, role="admin")
        for route in PAGES:
            answer = visitor.get(route.path)
            assert answer.status_code == 503
            assert "s3cr3t" not in answer.text + str(answer.headers)
        assert "127.0.0.1" not in visitor.get("/health").text


def test_what_breaks_is_told_by_the_log_alone(database: Database, open_page, monkeypatch):
    def broken(request: Request) -> Response:
        raise RuntimeError("s3cr3t-w0rd")

    visitor = open_page(login=broken)
    visitor._transport.raise_server_exceptions = False  # type: ignore[attr-defined]
    answer = visitor.get("/")
    assert answer.status_code == 500
    assert "s3cr3t" not in answer.text
    assert answer.headers["x-frame-options"] == "DENY"


# The database role


def test_a_database_role_that_may_only_read_makes_every_action_impossible(
    url: str, database: Database, connection: Connection, open_page: Any
) -> None:
    role = "pgjobs_page_viewer"
    connection.execute(f"DROP ROLE IF EXISTS {role}")
    connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 't0p-s3cret'")
    connection.execute(f"GRANT USAGE ON SCHEMA pgjobs TO {role}")
    connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA pgjobs TO {role}")
    try:
        put(database, "a", queue="mail")
        visitor = open_page(url.replace("://postgres@", f"://{role}:t0p-s3cret@"), role="admin")
        for page in PAGES:
            text = visitor.get(page.path, params={"id": "a", "name": "mail"}).text
            if "<main" in text:  # no download
                assert text.count(f"{role} may only read") == 1, page.path
            for form in re.findall(r'<form method="post".*?</form>', text, re.DOTALL):
                buttons = re.findall(r"<button[^>]*>", form)
                assert all("disabled" in button for button in buttons), (page.path, buttons)
        for act in ACTS:
            answer = visitor.post_form(act.path, **FIELDS)
            assert answer.status_code == 403, act.path
            assert "GRANT " in answer.text
            assert role in answer.text
            assert "t0p-s3cret" not in answer.text
        assert done(database) == []
    finally:
        connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")

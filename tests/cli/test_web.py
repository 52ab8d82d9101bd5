"""``celery pgjobs web``: serves, refuses, ends; and says in one line what is wrong."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pgjobs_celery.cli.web import Access, by_name, find_sources, read_passwords
from pgjobs_celery.errors import InvalidOption
from tests.support.celery_process import CeleryProcess, run_celery
from tests.support.rows import put

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")


ROOT = Path(__file__).parents[2]
WORDS = ("pgjobs", "web")


def env(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def run(*words: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return run_celery(*WORDS, *words, env=env(**more), input=stdin)


@contextmanager
def served(*words: str, **more: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Where the command shows the page, and its process."""
    process = CeleryProcess(
        [*WORDS, "--port", "0", *words], env=env(**more), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.match(r"the page is at (http://[\w.:\[\]]+)(/\S*) \(.*\)$", line)
        assert found, line
        yield found[1] + found[2].rstrip("/"), process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        process.stdout.close()


@pytest.fixture(scope="module")
def place(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of two sources behind a path, for users with passwords."""
    file = tmp_path_factory.mktemp("web") / "passwords"
    file.write_text("# who\nalice:wonder:land\nbob:builder\n")
    with served(
        "--url", f"shop={database_url}", "--url", f"archive={database_url}", "--prefix", "/ops",
        "--user", "alice:operator", "--passwords", str(file), "--title", "Nightshift",
    ) as (place, _):  # fmt: skip
        yield place


def test_it_serves_several_databases_at_a_path_for_users_with_passwords(place, database):
    put(database, "a", queue="mail")
    basic = {"authorization": "Basic " + b64encode(b"alice:wonder:land").decode()}
    with httpx.Client(headers=basic, follow_redirects=True) as browser:
        page = browser.get(f"{place}/")
        assert page.url.path == "/ops/shop/"
        assert "mail" in page.text
        assert "alice" in page.text
        assert "(operator)" in page.text
        assert "Nightshift" in page.text
        assert browser.get(f"{place}/archive/").status_code == 200
        style = re.search(r'href="(/ops/static/pgjobs\.css\?v=\w+)"', page.text)
        assert style
        assert browser.get(str(page.url.copy_with(raw_path=style[1].encode()))).status_code == 200
        assert "server" not in page.headers
    assert httpx.get(f"{place}/shop/").status_code == 401
    assert httpx.get(f"{place}/health").json() == {"ok": True, "databases": 2, "lost": 0}


def test_a_page_without_a_login_is_for_this_machine_and_its_name(url):
    with served("--url", url) as (place, process):
        assert "(viewer)" in httpx.get(f"{place}/").text
        # A site whose name leads to 127.0.0.1.
        assert httpx.get(f"{place}/", headers={"host": "evil.example"}).status_code == 421
        port = place.rpartition(":")[2]
        taken = run("--url", url, "--port", port)
        assert taken.returncode == 1
        assert taken.stderr == (
            f"Error: port {port} at 127.0.0.1 cannot be had: Address already in use\n"
        )
        # Neither a visitor who is slow to ask nor a stream of events holds up the end.
        with (
            socket.create_connection(("127.0.0.1", int(port))) as slow,
            httpx.stream("GET", f"{place}/live") as stream,
        ):
            slow.sendall(b"GET / HTTP/1.1\r\nHost: loc")
            assert next(stream.iter_lines()).startswith("retry")
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0


@pytest.mark.parametrize("proxy", [{"host": "jobs.example"}, {"host": "127.0.0.1"}])
def test_a_proxy_names_the_user_and_the_way_that_the_visitor_came(url, proxy):
    words = ("--user-header", "X-User", "--user", "alice:admin", "--trust", "127.0.0.0/8")
    with served("--url", url, *words) as (place, _):
        headers = {
            "X-User": "alice", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/jobs",
            "X-Forwarded-For": "203.0.113.9", **proxy,
        }  # fmt: skip
        page = httpx.get(f"{place}/", headers=headers)
        assert "(admin)" in page.text
        assert 'href="/jobs/static/' in page.text
        assert "secure" in page.headers["set-cookie"].lower()
        assert httpx.get(f"{place}/").status_code == 403


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--address", "0.0.0.0"], "no login"),
        (["--address", "::"], "no login"),
        (["--address", "example.com"], "no login"),
        (["--user", "alice:admin"], "--user needs passwords"),
        (["--user", "alice", "--user-header", "X"], "a name and a role"),
        (["--user", "alice:boss", "--user-header", "X"], "no role 'boss'"),
        (["--user-header", "X", "--trust", "10.0.0.0/99"], "10.0.0.0/8"),
        (["--prefix", "jobs"], "a path such as /jobs"),
        (["--origin", "example.com"], "https://example.com"),
        (["--schema", "a=b"], "no --url does"),
        (["--schema", "nothing"], "migrate"),
        (["--url", "a=pgjobs://x@y/z", "--url", "a=pgjobs://x@y/z"], "given twice"),
    ],
)
def test_it_says_in_one_line_what_is_wrong(url, words, error):
    done = run(*([] if "--url" in words else ["--url", url]), "--port", "0", *words)
    assert done.returncode == 1
    assert error in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    "where", ["--passwords", "PGJOBS_WEB_PASSWORDS_FILE", "PGJOBS_WEB_PASSWORDS"]
)
def test_passwords_that_are_given_and_empty_open_the_page_to_nobody(url, tmp_path, where):
    (tmp_path / "none").write_text("\n")
    value = "" if where == "PGJOBS_WEB_PASSWORDS" else str(tmp_path / "none")
    words, more = ([where, value], {}) if where.startswith("-") else ([], {where: value})
    done = run("--url", url, "--port", "0", *words, **more)
    assert done.returncode == 1
    assert "is empty: give name:password" in done.stderr
    assert done.stdout == ""


def test_of_several_databases_one_may_come_later(url):
    lost = "pgjobs://nobody:s3cr3t@127.0.0.1:1/nothing"
    with served("--url", f"shop={url}", "--url", f"lost={lost}") as (place, _):
        assert httpx.get(f"{place}/shop/").status_code == 200
        page = httpx.get(f"{place}/lost/")
        assert page.status_code == 503
        assert "s3cr3t" not in page.text
        health = httpx.get(f"{place}/health")
        assert (health.status_code, health.json()["lost"]) == (503, 1)
    done = run("--url", lost)
    assert done.returncode == 1
    assert "s3cr3t" not in done.stderr


def test_a_hash_is_made_of_a_password_that_is_asked_for(tmp_path):
    done = run("--hash-password", stdin="wonder\nwonder\n")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"scrypt\$\d+\$8\$5\$\S+\n", done.stdout)
    assert "wonder" not in done.stdout


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("# x\n\nalice: a:b \n", {"alice": "a:b"}),
        ("a:1\r\nb:scrypt$1$2$3$4$5", {"a": "1", "b": "scrypt$1$2$3$4$5"}),
    ],
)
def test_passwords_are_read_by_line(text, found):
    assert read_passwords(text) == found


@pytest.mark.parametrize("text", ["alice", ":word", "alice:", "a:1\n\nwonderland"])
def test_a_wrong_line_is_named_and_not_shown(text):
    with pytest.raises(InvalidOption, match=rf"line {len(text.splitlines())} ") as error:
        read_passwords(text)
    assert "wonderland" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "what", "found"),
    [
        (["pgjobs://a:b=c@d/e?x=y"], "--url", {"": "pgjobs://a:b=c@d/e?x=y"}),
        (["x=pgjobs://d/e", "y=pgjobs+django://z"], "--url",
         {"x": "pgjobs://d/e", "y": "pgjobs+django://z"}),
        (["jobs", "x=other"], "--schema", {"": "jobs", "x": "other"}),
    ],
)  # fmt: skip
def test_names_are_told_from_urls(given, what, found):
    assert by_name(given, what) == found


def test_the_app_comes_first_beside_urls_with_names(make_app, url):
    app = make_app("shop")
    app.task(lambda: None, name="shop.report", shared=False)
    assert find_sources(app, [], []) is app
    assert list(find_sources(app, [f"archive={url}"], [])) == ["app", "archive"]
    alone = find_sources(None, [url], ["jobs2"])
    assert alone.schema == "jobs2"
    named = find_sources(None, [f"a={url}", f"b={url}"], ["jobs2", "b=jobs3"])
    assert [named[name].schema for name in ("a", "b")] == ["jobs2", "jobs3"]


@pytest.mark.parametrize(
    ("address", "is_local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.example", False)],
)  # fmt: skip
def test_an_address_is_of_this_machine_or_public(address, is_local):
    access = Access(address, "viewer")
    if is_local:
        assert access.login() is None
        assert {"localhost", "127.0.0.1", "::1", address} <= set(access.hosts)
    else:
        with pytest.raises(InvalidOption, match="no login"):
            access.login()
    assert Access(address, "viewer", user_header="X").hosts == ()
    assert "jobs.example" in Access(address, "viewer", origins=["https://jobs.example:8443"]).hosts

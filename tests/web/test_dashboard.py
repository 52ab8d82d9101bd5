"""The page is found, framed and refused as its configuration says."""

from __future__ import annotations

import pytest

from pgjobs_celery.errors import InvalidOption
from pgjobs_celery.web import User, dashboard
from tests.support.rows import put


def test_the_overview_shows_the_queues(database, viewer):
    put(database, "a", "b", queue="mail")

    page = viewer.get("/")

    assert page.status_code == 200
    assert "mail" in page.text


def test_each_answer_forbids_scripts_within_it_and_frames_around_it(viewer):
    headers = viewer.get("/").headers

    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"


def test_a_visitor_whom_the_login_does_not_know_is_turned_away(open_page):
    assert open_page(login=lambda request: None).get("/").status_code == 403


def test_the_login_names_the_visitor(open_page):
    assert "alice" in open_page(login=lambda request: User("alice")).get("/").text


def test_two_pages_of_a_process_share_nothing_but_the_code_of_their_templates(open_page):
    shop, archive = open_page(title="Shop"), open_page(title="Archive")
    for _ in range(2):
        assert "Shop" in shop.get("/").text
        assert "Archive" in archive.get("/").text
        assert "Shop" not in archive.get("/").text


def test_several_sources_are_chosen_by_name(url, open_page):
    browser = open_page({"shop": url, "archive": url})

    assert browser.get("/").url.path == "/shop/"
    assert 'href="/archive/"' in browser.get("/shop/").text


def test_the_page_knows_the_path_that_it_is_mounted_at(url):
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.testclient import TestClient

    with TestClient(Starlette(routes=[Mount("/ops/jobs", dashboard(url))])) as browser:
        page = browser.get("/ops/jobs/")

        assert 'href="/ops/jobs/static/pgjobs.css' in page.text
        assert browser.get("/ops/jobs/static/pgjobs.css").status_code == 200


@pytest.mark.parametrize(
    ("sources", "options", "reason"),
    [
        ("redis://localhost", {}, "pgjobs://"),
        ({}, {}, "needs a Celery app"),
        ({"a/b": "pgjobs://x@y/z"}, {}, "stands in addresses"),
        ("pgjobs://x@y/z", {"role": "admn"}, "admin"),
        ("pgjobs://x@y/z", {"permissions": {"retry_job": "admin"}}, "retry_jobs"),
    ],
)
def test_a_wrong_configuration_is_refused(sources, options, reason):
    with pytest.raises(InvalidOption, match=reason):
        dashboard(sources, **options)


def test_a_database_that_is_not_there_is_told_on_the_page(open_page):
    page = open_page("pgjobs://nobody@127.0.0.1:1/nothing").get("/")

    assert page.status_code == 503
    assert "cannot be reached" in page.text

"""The web page among Django's URLs, for its users and their permissions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from pgjobs_celery.db.database import Database

from ..support.rows import put

pytest.importorskip("django")
pytest.importorskip("starlette")

PLACE = "/ops/jobs/"


@pytest.fixture
def urls(django_url: str, app: Celery) -> Iterator[None]:
    """The page at a path that one of its own pages has as well, and the admin."""
    from django.contrib import admin
    from django.test import override_settings
    from django.urls import path

    from pgjobs_celery.django.page import page_urls

    class Urls:
        urlpatterns = [path("ops/jobs/", page_urls(app)), path("admin/", admin.site.urls)]

    with override_settings(ROOT_URLCONF=Urls):
        yield


@pytest.fixture
def sign_in(url: str, urls: None) -> Iterator[Any]:
    """A browser of a user with these permissions; of a superuser without any."""
    from django.contrib.auth.models import Permission, User
    from django.test import Client

    def sign_in(*permissions: str, is_staff: bool = True) -> Client:
        user = User.objects.create_user(
            "ada lovelace", is_staff=is_staff, is_superuser=not permissions and is_staff
        )
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client(enforce_csrf_checks=True)
        client.force_login(user)
        return client

    yield sign_in
    User.objects.all().delete()


@pytest.mark.parametrize(
    ("permissions", "role"),
    [
        ((), "admin"),
        (("view_job",), "viewer"),
        (("change_job",), "operator"),
        (("view_job", "delete_job"), "viewer"),
    ],
)
def test_who_may_see_jobs_in_the_admin_may_see_the_page(database, sign_in, permissions, role):
    put(database, "a", queue="mail")
    page = sign_in(*permissions).get(PLACE)
    assert page.status_code == 200
    text = page.content.decode()
    assert "mail" in text
    assert f'ada lovelace <span class="quiet">({role})' in text
    assert f'href="{PLACE}static/pgjobs.css' in text
    assert page.headers["Content-Security-Policy"]


def test_who_may_delete_jobs_may_do_that_beside_the_role():
    from types import SimpleNamespace

    from pgjobs_celery.django.page import _user_of

    def user(*permissions: str) -> Any:
        return SimpleNamespace(
            is_authenticated=True, is_staff=True, is_superuser=False,
            get_username=lambda: "x", has_perm=lambda name: name in permissions,
        )  # fmt: skip

    found = _user_of(SimpleNamespace(user=user("pgjobs.view_job", "pgjobs.delete_job")))
    assert found.also == {"delete_jobs"}  # type: ignore[union-attr]


def test_others_are_turned_away_or_led_to_the_login(sign_in):
    from django.test import Client

    answer = Client().get(f"{PLACE}?range=day")
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/admin/login/?next=/ops/jobs/%3Frange%3Dday"
    assert sign_in("view_job", is_staff=False).get(PLACE).status_code == 403


def test_a_form_of_the_page_passes_djangos_check_by_its_own_token(database: Database, sign_in):
    put(database, "a", queue="mail")
    client = sign_in("change_job")
    form = "application/x-www-form-urlencoded"
    assert client.post(f"{PLACE}job/cancel", "id=a", content_type=form).status_code == 403
    client.get(PLACE)
    token = client.cookies["pgjobs_csrf"]
    assert (token["path"], token["httponly"]) == ("/ops/jobs", True)
    answer = client.post(
        f"{PLACE}job/cancel", f"id=a&next={PLACE}&pgjobs_csrf={token.value}", content_type=form,
    )  # fmt: skip
    assert (answer.status_code, answer.headers["Location"]) == (303, PLACE)
    assert [(row.actor, row.via) for row in database.audit.list_actions(limit=None)] == [
        ("ada lovelace", "web")
    ]
    command = "celery -A proj pgjobs cancel a"
    assert command in client.get(PLACE).content.decode()
    assert command not in client.get(PLACE).content.decode()  # told once


def test_the_admin_leads_to_the_page(database: Database, sign_in):
    put(database, "a/b", queue="mail")
    client = sign_in()
    listed = client.get("/admin/pgjobs/job/").content.decode()
    assert f'<a href="{PLACE}">' in listed
    change = re.search(r'href="(/admin/pgjobs/job/\d+/change/)"', listed)
    assert change
    assert f'href="{PLACE}job?id=a%2Fb"' in client.get(change[1]).content.decode()


def test_without_the_page_the_admin_has_no_link(app: Celery, sign_in, settings_urls):
    assert "web page" not in sign_in().get("/admin/pgjobs/job/").content.decode()


@pytest.fixture
def settings_urls(sign_in: Any) -> Iterator[None]:
    """The URLs of the other tests."""
    from django.test import override_settings

    with override_settings(ROOT_URLCONF="tests.django.views"):
        yield


@pytest.mark.parametrize("path", ["nothing", "static/../x", "x\ny", "%00", "static/pgjobs.css"])
def test_any_path_below_it_is_the_pages(sign_in, path):
    assert sign_in().get(PLACE + path).status_code in (200, 404)


def test_under_asgi_it_is_the_same(database: Database, sign_in):
    from asgiref.sync import async_to_sync, sync_to_async
    from django.test import AsyncClient

    put(database, "a", queue="mail")
    sign_in()
    from django.contrib.auth.models import User

    async def look() -> Any:
        client = AsyncClient()
        await sync_to_async(client.force_login)(await User.objects.aget())
        return await client.get(PLACE)

    page = async_to_sync(look)()
    assert page.status_code == 200
    assert b"mail" in page.content

"""The web page among Django's URLs: for its users, with the permissions of the admin.

    urlpatterns = [path("jobs/", page_urls(celery_app)), path("admin/", admin.site.urls)]

A request passes all of Django's middleware before it comes to the page, under WSGI and ASGI alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.db import connections, transaction
from django.http import HttpResponse
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, re_path, reverse
from django.views.decorators.csrf import csrf_exempt

from ..web.dashboard import dashboard
from ..web.proxies import PEER, UNIX
from ..web.roles import Role, User
from ..web.routes import POLLS
from .place import place_of_page

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Scope

#: Where the scope has Django's request, for a login of your own.
DJANGO = "django_request"


def page_urls(sources: Any, *, login: Any = None, **options: Any) -> tuple[list[Any], str, str]:
    """The page, for ``path()``: as ``admin.site.urls`` is.

    ``sources`` and the other options are those of :func:`pgjobs_celery.web.dashboard`. Without a
    ``login`` Django's own counts: see :func:`django_login`.
    """
    page = dashboard(sources, login=login or django_login, **options)
    # Named once: a link from the admin leads there.
    return [re_path(r"^(?P<path>.*)$", _view(page), name="page")], "pgjobs", "pgjobs"


async def django_login(request: Request) -> User | Response | None:
    """The user who is logged in to Django, with the rights that the admin's page of jobs gives.

    Members of the staff who may *view* jobs may look, who may *change* them are operators, who may
    *delete* them may do that as well, and superusers may do all. Nobody logged in: to the login.
    """
    user: User | Response | None = await sync_to_async(_user_of)(request.scope[DJANGO])
    return user


def _user_of(request: Any) -> User | Response | None:
    user = request.user
    if not user.is_authenticated:
        # Here, so that without the extra it is the package web that says what to install.
        from starlette.responses import RedirectResponse

        back = request.get_full_path() if request.method == "GET" else place_of_page()
        return RedirectResponse(redirect_to_login(back, _login_url())["Location"], 303)
    may_change = user.has_perm("pgjobs.change_job")
    if not user.is_staff or not (may_change or user.has_perm("pgjobs.view_job")):
        return None
    if user.is_superuser:
        return User(user.get_username(), Role.ADMIN)
    return User(
        user.get_username(),
        Role.OPERATOR if may_change else Role.VIEWER,
        also=["delete_jobs"] if user.has_perm("pgjobs.delete_job") else [],
    )


def _login_url() -> str:
    try:
        return str(reverse("admin:login"))
    except NoReverseMatch:
        return str(resolve_url(settings.LOGIN_URL))


def _view(page: ASGIApp) -> Any:
    """The page as an async view, which Django runs under WSGI as well."""

    # The page has a token of its own.
    @csrf_exempt  # type: ignore[untyped-decorator]
    async def view(request: Any, path: str) -> HttpResponse:
        scope = _scope_of(request, path)
        started: list[Message] = []
        body = bytearray()

        async def receive() -> Message:
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                started.append(message)
            else:
                body.extend(message.get("body", b""))

        await page(scope, receive, send)
        return _response(started[0], bytes(body))

    for alias in connections:
        # With ATOMIC_REQUESTS Django would refuse an async view; the page needs no transaction.
        view = transaction.non_atomic_requests(alias)(view)
    return view


def _scope_of(request: Any, path: str) -> Scope:
    """The facts that ASGI tells of a request."""
    place = request.path[: len(request.path) - len(path)]
    headers = {name.lower(): value for name, value in request.headers.items()}
    headers["host"] = request.get_host()
    address = request.META.get("REMOTE_ADDR") or ""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "root_path": place.rstrip("/"),
        "query_string": request.META.get("QUERY_STRING", "").encode("latin-1", "replace"),
        "headers": [
            (name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
            for name, value in headers.items()
        ],
        "server": (request.META.get("SERVER_NAME", ""), 0),
        "client": (address, 0) if address else None,
        PEER: address or UNIX,
        POLLS: True,
        DJANGO: request,
    }


def _response(start: Message, body: bytes) -> HttpResponse:
    response = HttpResponse(body, status=start["status"])
    for name, value in start["headers"]:
        if name == b"set-cookie":
            response.cookies.load(value.decode("latin-1"))
        else:
            response.headers[name.decode("latin-1")] = value.decode("latin-1")
    return response

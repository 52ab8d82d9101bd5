"""Views that publish, and where they are."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from pgjobs_celery import adelay

from .conftest import producer


def publish(request: HttpRequest) -> HttpResponse:
    """All of the request is one transaction."""
    result = producer["app"].tasks["add"].delay(1, 1)
    if "fail" in request.GET:
        raise ValueError("after it was published")
    return HttpResponse(result.id)


@transaction.non_atomic_requests
async def publish_async(request: HttpRequest) -> HttpResponse:
    """A transaction in a thread, and beside it what has nothing to do with it."""
    add: Any = producer["app"].tasks["add"]

    def in_transaction() -> None:
        with transaction.atomic():
            add.delay(1, 1)
            transaction.set_rollback(True)

    await sync_to_async(in_transaction)()
    return HttpResponse((await adelay(add, 2, 2)).id)


urlpatterns = [
    path("publish", publish),
    path("publish_async", publish_async),
    path("admin/", admin.site.urls),
]

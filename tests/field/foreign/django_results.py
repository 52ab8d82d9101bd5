"""django-celery-results keeps the results, in Django's database and in its cache."""

from __future__ import annotations

from typing import Any

import django
from celery import Celery, chord, group
from celery.result import GroupResult
from django.conf import settings
from observing import (
    BROKER,
    FOLDER,
    django_database,
    observe,
    running_worker,
    wait_until,
)

settings.configure(
    CACHES={
        "default": {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": str(FOLDER / "cache"),
        }
    },
    DATABASES={"default": django_database()},
    INSTALLED_APPS=["django_celery_results"],
    SECRET_KEY="of a test",
    USE_TZ=True,
)
django.setup()

from django_celery_results.backends.cache import CacheBackend  # noqa: E402 - needs the settings
from django_celery_results.models import TaskResult  # noqa: E402

app = Celery("django_results", broker=BROKER, backend="django-db")
app.conf.update(
    cache_backend="default",
    result_extended=True,
    task_default_queue="results",
    task_track_started=True,
)


@app.task
def add(first: int, second: int) -> int:
    return first + second


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def fail() -> None:
    raise ValueError("bad")


@app.task
def wait(name: str) -> None:
    wait_until((FOLDER / name).exists, 20)


@app.task(backend=CacheBackend(app=app))
def cached(number: int) -> int:
    return number + 1


def scenario() -> dict[str, Any]:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    seen: dict[str, Any] = {}
    with running_worker("django_results", "-c", "2"):
        added = add.delay(1, 2)
        seen["sum"] = added.get(timeout=20)
        failed = fail.delay()
        seen["error"] = repr(failed.get(timeout=20, propagate=False))
        joined = chord([add.s(number, number) for number in (1, 1, 3)], total.s()).delay()
        seen["chord"] = joined.get(timeout=20)
        together = group(add.s(number, number) for number in (1, 2, 3)).delay()
        together.save()
        seen["group"] = together.get(timeout=20)
        restored = GroupResult.restore(together.id, app=app)
        seen["restored group"] = restored.get(timeout=20)
        seen["row"] = _row(added.id)
        seen["failed row"] = _row(failed.id)[:2]
        name = f"go-{added.id}"
        waiting = wait.delay(name)
        seen["started"] = wait_until(lambda: waiting.state == "STARTED", 10)
        (FOLDER / name).touch()
        waiting.get(timeout=20)
        seen["django-cache"] = cached.delay(6).get(timeout=20)
    return seen


def _row(task_id: str) -> list[str]:
    row = TaskResult.objects.get(task_id=task_id)
    return [row.status, row.task_name, row.result]


if __name__ == "__main__":
    observe(scenario)

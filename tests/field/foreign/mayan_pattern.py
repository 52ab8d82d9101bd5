"""Mayan EDMS checks broker and backend before anything else, and joins a document's pages."""

from __future__ import annotations

from typing import Any

from celery import Celery, chord
from observing import BROKER, RESULTS, observe, running_worker

app = Celery("mayan_pattern", broker=BROKER, backend=RESULTS)
app.conf.update(task_default_queue="converter")


@app.task
def page(number: int) -> str:
    return f"p{number}"


@app.task
def document(pages: list[str]) -> list[str]:
    return sorted(pages)


def scenario() -> dict[str, Any]:
    seen: dict[str, Any] = {}
    with app.connection() as connection:
        connection.ensure_connection(max_retries=1)
        seen["connects"] = connection.connected
    backend = app.backend
    backend.set(key="__mayan_test_result", value="test")
    value = backend.get("__mayan_test_result")
    seen["get"] = value.decode() if isinstance(value, bytes) else value
    backend.delete(key="__mayan_test_result")
    seen["after delete"] = backend.get("__mayan_test_result")
    with running_worker("mayan_pattern", "-c", "2"):
        pages = chord([page.s(number) for number in (1, 2, 3)], document.s())
        seen["pages"] = pages.delay().get(timeout=20)
    return seen


if __name__ == "__main__":
    observe(scenario)

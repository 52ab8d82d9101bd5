"""Apps whose broker and backend nobody can reach: what is asserted here needs neither."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from pgjobs_celery import PgTask, Snooze

#: Nothing listens there.
NOWHERE = {
    "redis": "redis://127.0.0.1:1/0",
    "rabbitmq": "amqp://127.0.0.1:1//",
    "pgjobs": "pgjobs://127.0.0.1:1/nowhere",
}


@pytest.fixture
def make_app() -> Callable[..., Celery]:
    """A factory of Celery apps; keywords are settings."""

    def make_app(broker: str = "redis", **conf: Any) -> Celery:
        backend = NOWHERE[broker] if broker != "rabbitmq" else "rpc://"
        app = Celery("proj", broker=NOWHERE[broker], backend=backend, set_as_current=False)
        app.conf.update(task_publish_retry=False, **conf)

        @app.task(name="proj.add", shared=False)
        def add(x: int, y: int = 2) -> int:
            return x + y

        @app.task(name="proj.welcome", shared=False)
        def welcome(user_id: int, template: str = "short", **options: Any) -> str:
            return f"{user_id} {template}"

        return app

    return make_app


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    """An app that keeps Redis."""
    return make_app()


@pytest.fixture
def add(app: Celery) -> Any:
    """A task of two numbers, the second 2 by default."""
    return app.tasks["proj.add"]


@pytest.fixture
def welcome(app: Celery) -> Any:
    """A task with a keyword argument, and room for more."""
    return app.tasks["proj.welcome"]


@pytest.fixture
def ending(app: Celery) -> Any:
    """A task of two attempts that ends as it is told to."""

    @app.task(base=PgTask, bind=True, max_attempts=2, shared=False)
    def ending(self: Any, how: str) -> None:
        if how == "snooze":
            raise Snooze(10)
        if how == "cancel":
            raise self.cancel("no")
        if how == "discard":
            raise self.discard("no")
        if how == "fail":
            raise ValueError("no")

    return ending

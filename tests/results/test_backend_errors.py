"""Exceptions, serializers and compression: what a reader gets back, side by side with Redis."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.result import AsyncResult
from kombu import serialization
from kombu.exceptions import ContentDisallowed, DecodeError

from ..conftest import Connection
from ..support.getters import new
from ..support.holders import execute, hold

MakeApp = Callable[..., Celery]


class CustomError(Exception):
    """Has data in it."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code


class Outer:
    class NestedError(Exception):
        """Stands inside a class."""


class PickyError(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"because of {reason}")


class MuteError(Exception):
    """Cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def fail(app: Celery, error: BaseException, traceback: str | None = None) -> AsyncResult:
    result = new(app)
    app.backend.mark_as_failure(result.id, error, traceback)
    return app.AsyncResult(result.id)


SERIALIZERS = pytest.mark.parametrize("serializer", ["json", "pickle"])


@SERIALIZERS
@pytest.mark.parametrize(
    "error",
    [
        KeyError("a", 1),
        CustomError("no", 7),
        Outer.NestedError("in"),
        OSError(2, "gone"),
        ValueError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_comes_back_as_its_own_type(
    either: MakeApp, error: Exception, serializer: str
):
    app = either(result_serializer=serializer, accept_content=[serializer])
    result = fail(app, error, "Traceback: there\n")
    with pytest.raises(type(error)) as raised:
        result.get(timeout=5)
    assert type(raised.value) is type(error)
    assert raised.value.args == error.args
    assert getattr(raised.value, "code", None) == getattr(error, "code", None)
    assert (result.state, result.traceback) == ("FAILURE", "Traceback: there\n")
    assert result.failed()
    assert repr(result.get(propagate=False)) == repr(error)


@SERIALIZERS
def test_an_exception_that_cannot_be_made_again_says_what_it_was(either: MakeApp, serializer: str):
    app = either(result_serializer=serializer, accept_content=[serializer])
    with pytest.raises(Exception, match="because of the weather"):
        fail(app, PickyError(reason="the weather")).get(timeout=5)


@SERIALIZERS
def test_an_exception_from_a_module_that_is_not_here_keeps_its_name(
    either: MakeApp, serializer: str
):
    module = ModuleType("elsewhere")
    error_type = type("RemoteError", (Exception,), {"__module__": "elsewhere"})
    module.RemoteError = error_type  # type: ignore[attr-defined]
    sys.modules["elsewhere"] = module
    app = either(result_serializer=serializer, accept_content=[serializer])
    try:
        result = fail(app, error_type("far away"))
    finally:
        del sys.modules["elsewhere"]
    if serializer == "pickle":
        with pytest.raises(DecodeError, match="elsewhere"):
            result.get(timeout=1)
        return
    with pytest.raises(Exception, match="far away") as raised:
        result.get(timeout=5)
    assert type(raised.value).__name__ == "RemoteError"


@SERIALIZERS
@pytest.mark.parametrize("text", ["a\0b", "half a letter \udcff", "é" * 100_000], ids=repr)
def test_any_text_may_stand_in_an_error(either: MakeApp, text: str, serializer: str):
    app = either(result_serializer=serializer, accept_content=[serializer])
    result = fail(app, ValueError(text), f"Traceback: {text}")
    with pytest.raises(ValueError) as raised:
        result.get(timeout=5)
    assert raised.value.args == (text,)
    assert result.traceback.startswith(f"Traceback: {text[0]}")


@SERIALIZERS
def test_arguments_that_no_serializer_takes_are_shown_as_text(either: MakeApp, serializer: str):
    app = either(result_serializer=serializer, accept_content=[serializer])
    with pytest.raises(Exception, match="lambda"):
        fail(app, ValueError(lambda: None)).get(timeout=5)


@SERIALIZERS
def test_an_exception_that_cannot_be_shown_is_stored(make_app: MakeApp, serializer: str):
    app = make_app(result_serializer=serializer, accept_content=[serializer])
    with pytest.raises(MuteError):
        fail(app, MuteError("quiet")).get(timeout=5)


def test_a_class_that_is_no_exception_is_not_called(either: MakeApp):
    from celery.exceptions import SecurityError

    app = either()
    result = new(app)
    app.backend.store_result(
        result.id,
        {"exc_module": "os", "exc_type": "system", "exc_message": "true"},
        "FAILURE",
    )
    with pytest.raises(SecurityError):
        result.get(timeout=5)


@SERIALIZERS
def test_the_row_tells_what_failed(make_app: MakeApp, connection: Connection, serializer: str):
    app = make_app(task_serializer="json", result_serializer=serializer,
                   accept_content=["json", serializer])  # fmt: skip

    @app.task(shared=False, name="broken")
    def broken() -> None:
        raise CustomError("no\0", 7)

    result = app.send_task("broken")
    execute(app, hold(app))
    (row,) = connection.execute("SELECT state, traceback, errors FROM pgjobs.jobs").fetchall()
    assert row["state"] == "discarded"
    (error,) = row["errors"]
    assert (error["attempt"], error["type"], error["module"]) == (1, "CustomError", __name__)
    assert "no" in error["message"]
    assert "in broken" in error["traceback"]
    assert row["traceback"] == result.traceback


@pytest.mark.parametrize("keep", [False, True], ids=["ignored", "errors kept"])
def test_a_failure_whose_result_is_ignored(make_app: MakeApp, keep: bool, connection: Connection):
    app = make_app()

    @app.task(shared=False, name="broken", ignore_result=True, store_errors_even_if_ignored=keep)
    def broken() -> None:
        raise CustomError("no", 7)

    result = app.AsyncResult(broken.delay().id)
    execute(app, hold(app))
    if keep:
        assert result.state == "FAILURE"
        assert result.get(propagate=False).code == 7
    else:  # the worker's main process writes that it failed
        (row,) = connection.execute("SELECT state, result FROM pgjobs.jobs").fetchall()
        assert (row["state"], row["result"]) == ("executing", None)


# Serializers


class Upper:
    """A serializer of one's own: text, in capitals."""

    name, content_type = "upper", "application/x-upper"

    def __enter__(self) -> None:
        serialization.register(
            self.name, lambda data: json.dumps(data).upper(), lambda text: json.loads(text.lower()),
            content_type=self.content_type, content_encoding="utf-8",
        )  # fmt: skip

    def __exit__(self, *_: object) -> None:
        serialization.unregister(self.name)


def test_a_serializer_of_ones_own_is_used(make_app: MakeApp, connection: Connection):
    with Upper():
        app = make_app(result_serializer="upper", result_accept_content=["upper"])
        result = new(app)
        app.backend.mark_as_done(result.id, {"a": ["b"]})
        assert result.get(timeout=5) == {"a": ["b"]}
        (row,) = connection.execute("SELECT result, result_type FROM pgjobs.jobs").fetchall()
        assert (bytes(row["result"]), row["result_type"]) == (
            b'{"A": ["B"]}',
            "application/x-upper",
        )


@pytest.mark.parametrize("serializer", ["yaml", "msgpack"])
def test_other_serializers_that_are_installed_work(either: MakeApp, serializer: str):
    pytest.importorskip(serializer)
    app = either(result_serializer=serializer, accept_content=[serializer])
    result = new(app)
    app.backend.mark_as_done(result.id, {"a": [1, "ü"]})
    assert result.get(timeout=5) == {"a": [1, "ü"]}
    with pytest.raises(KeyError):
        fail(app, KeyError("no")).get(timeout=5)


def test_a_result_that_another_serializer_wrote_is_read(make_app: MakeApp):
    """As during a deployment that changes the serializer. Redis cannot tell them apart."""
    writers = {name: make_app(result_serializer=name) for name in ("json", "pickle")}
    for writer, reader in (("json", "pickle"), ("pickle", "json")):
        app = make_app(result_serializer=reader, accept_content=["json", "pickle"])
        result = new(app)
        writers[writer].backend.mark_as_done(result.id, ["x", 1])
        assert result.get(timeout=5) == ["x", 1]
        task_id = fail(writers[writer], CustomError("no", 7)).id
        with pytest.raises(CustomError):
            app.AsyncResult(task_id).get(timeout=5)
        task_id = fail(writers[writer], PickyError(reason="the weather")).id
        with pytest.raises(Exception, match="the weather"):
            app.AsyncResult(task_id).get(timeout=5)


def test_content_that_is_not_accepted_is_refused(make_app: MakeApp):
    app = make_app(accept_content=["json"])
    result = new(app)
    make_app(result_serializer="pickle").backend.mark_as_done(result.id, 1)
    with pytest.raises(ContentDisallowed):
        result.get(timeout=5)
    with pytest.raises(ContentDisallowed):
        app.AsyncResult(result.id).state  # noqa: B018
    assert make_app(result_accept_content=["pickle"]).AsyncResult(result.id).get(timeout=5) == 1


# Compression: new in Celery 5.7


def compressing(make_app: MakeApp, **conf: Any) -> Celery:
    pytest.importorskip("celery", minversion="5.7")
    return make_app(**conf)


@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize("method", ["gzip", "bzip2"])
def test_a_compressed_result_is_small_and_read_by_everybody(
    make_app: MakeApp, connection: Connection, method: str, serializer: str
):
    app = compressing(make_app, result_serializer=serializer, result_compression=method,
                      accept_content=["json", "pickle"])  # fmt: skip
    result = new(app)
    app.backend.mark_as_done(result.id, "x" * 100_000)
    (row,) = connection.execute("SELECT length(result) AS n FROM pgjobs.jobs").fetchall()
    assert row["n"] < 1000
    assert result.get(timeout=5) == "x" * 100_000
    for reader in ("json", "pickle"):
        plain = make_app(result_serializer=reader, accept_content=["json", "pickle"])
        assert plain.AsyncResult(result.id).get(timeout=5) == "x" * 100_000
    with pytest.raises(CustomError):
        fail(app, CustomError("no", 7)).get(timeout=5)


def test_results_from_before_compression_are_read(make_app: MakeApp):
    old, app = make_app(), compressing(make_app, result_compression="gzip")
    task_id = str(uuid4())
    old.backend.mark_as_done(task_id, [1])
    assert app.AsyncResult(task_id).get(timeout=5) == [1]


def test_an_unknown_compression_is_refused(make_app: MakeApp):
    from celery.exceptions import ImproperlyConfigured

    app = compressing(make_app, result_compression="nothing-such")
    with pytest.raises(ImproperlyConfigured, match="nothing-such"):
        app.backend  # noqa: B018

"""Options and settings are read once; a wrong name or value says what was likely meant."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import FrozenInstanceError, fields
from types import ModuleType
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from pgjobs_celery.config import (
    Options,
    Settings,
    read_options,
    read_setting,
    read_settings,
)
from pgjobs_celery.errors import InvalidOption, UnknownOption

# -- transport options ---------------------------------------------------------------------------


def test_without_options_all_have_their_defaults():
    assert read_options(None) == (Options(), [])
    assert read_options({}) == (Options(), [])


def test_options_begin_with_the_base():
    base = Options(schema="base", pool_size=3)
    options, _ = read_options({"pool_size": 4}, base)
    assert (options.schema, options.pool_size) == ("base", 4)


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("listen", "no", False), ("listen", "TRUE", True), ("listen", 0, False),
        ("listen", 1, True), ("prepare", "off", False), ("pool_size", "7", 7),
        ("connect_timeout", "2.5", 2.5), ("connect_timeout", 3, 3.0), ("poll_interval", 0, 0.0),
        ("listen_url", None, None), ("listen_url", "pgjobs://x", "pgjobs://x"),
    ],
)  # fmt: skip
def test_a_value_is_brought_to_its_type(name, value, read):
    options, warnings = read_options({name: value})
    assert (getattr(options, name), warnings) == (read, [])
    assert type(getattr(options, name)) is type(read)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("listen", "maybe", "true or false"), ("pool_size", "many", "a whole number"),
        ("pool_size", None, "a whole number"), ("connect_timeout", "soon", "a number"),
        ("pool_size", 0, "above 0"), ("max_claim", -1, "above 0"), ("max_body_size", 0, "above 0"),
        ("connect_timeout", 0, "above 0"), ("connect_timeout", "nan", "above 0"),
        ("read_ahead", -0.1, "0 or more"), ("poll_interval", -1, "0 or more"),
        ("read_ahead", "nan", "0 or more"), ("poll_interval", "nan", "0 or more"),
        ("priority_order", "ASC", "'asc'"), ("priority_order", None, "'asc'"),
        ("schema", "Jobs", "plain lower-case"), ("schema", "1x", "plain lower-case"),
        ("schema", "a;drop", "plain lower-case"), ("schema", "a" * 64, "plain lower-case"),
        ("schema", "", "plain lower-case"), ("schema", "a\n", "plain lower-case"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_says_what_can(name, value, complaint):
    with pytest.raises(InvalidOption, match=complaint) as caught:
        read_options({name: value})
    assert name in str(caught.value)


def test_an_option_of_another_transport_is_a_warning_and_no_error():
    given = {"priority_steps": [0, 5], "visibility_timeout": 60, "region": "x", "pool_sise": 5}
    options, warnings = read_options(given)
    assert options == Options()
    assert warnings == [
        "transport option 'priority_steps': a Redis option, ignored here",
        "transport option 'visibility_timeout': a Redis option, ignored here",
        "transport option 'region': an SQS option, ignored here",
        "transport option 'pool_sise' is not used here; did you mean 'pool_size'?",
    ]


def test_what_kombu_puts_there_is_not_even_a_warning():
    left = {"max_retries": 3, "confirm_publish": True}
    assert read_options(left) == (Options(), [])


@pytest.mark.parametrize("name", [field.name for field in fields(Options)])
def test_a_misspelt_option_is_named_with_the_nearest(name):
    _, (warning,) = read_options({name[:-1] + "x" if len(name) > 6 else name + "s": 1})
    assert f"did you mean {name!r}" in warning


def test_options_can_be_a_key_and_do_not_change():
    assert len({Options(), Options(), Options(schema="x")}) == 2
    with pytest.raises(FrozenInstanceError):
        Options().schema = "x"


@pytest.mark.parametrize(
    ("given", "poll"), [({}, 5.0), ({"listen": False}, 1.0), ({"poll_interval": 2}, 2.0)]
)
def test_a_waiting_worker_looks_less_often_where_it_is_told(given, poll):
    assert read_options(given)[0].poll == poll


@given(st.dictionaries(st.text(max_size=12), st.none() | st.text(max_size=5) | st.integers()))
def test_whatever_is_given_only_invalid_option_is_raised(given):
    with suppress(InvalidOption):
        read_options(given)


# -- settings, as Celery's configuration has them -------------------------------------------------

WAYS: dict[str, Callable[[dict[str, Any], Any], Celery]] = {}


def way(make: Callable[[dict[str, Any], Any], Celery]) -> Callable[[dict[str, Any], Any], Celery]:
    WAYS[make.__name__] = make
    return make


def new_app(**values: Any) -> Celery:
    return Celery("tests", set_as_current=False, **values)


def loaded_from(source: Any, namespace: str | None = None) -> Celery:
    app = new_app()
    app.config_from_object(source, namespace=namespace)
    return app


@way
def update(values, monkeypatch):
    app = new_app()
    app.conf.update(values)
    return app


@way
def attributes(values, monkeypatch):
    app = new_app()
    for name, value in values.items():
        setattr(app.conf, name, value)
    return app


@way
def keywords(values, monkeypatch):
    return new_app(**values)


@way
def dictionary(values, monkeypatch):
    return loaded_from(values)


@way
def config_object(values, monkeypatch):
    return loaded_from(type("Config", (), values))


@way
def config_object_upper_case(values, monkeypatch):
    return loaded_from(type("Config", (), {name.upper(): v for name, v in values.items()}))


@way
def django_namespace(values, monkeypatch):
    upper = {f"CELERY_{name.upper()}": value for name, value in values.items()}
    return loaded_from(type("Config", (), {**upper, "DEBUG": True}), namespace="CELERY")


@way
def lower_case_namespace(values, monkeypatch):
    return loaded_from({f"celery_{k}": v for k, v in values.items()}, namespace="celery")


@way
def environment(values, monkeypatch):
    module = ModuleType("pgjobs_test_settings")
    vars(module).update(values)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("TESTS_CONFIG", module.__name__)
    app = new_app()
    app.config_from_envvar("TESTS_CONFIG")
    return app


@way
def added_defaults(values, monkeypatch):
    app = new_app()
    app.add_defaults(values)
    return app


@pytest.mark.parametrize("name", WAYS)
def test_settings_are_read_however_the_app_was_configured(name, monkeypatch):
    app = WAYS[name]({"pgjobs_lease": 20, "pgjobs_maintenance": False}, monkeypatch)
    assert read_settings(app.conf) == Settings(lease=20, maintenance=False)


@pytest.mark.parametrize("name", WAYS)
def test_an_unknown_setting_is_refused_with_the_nearest_known_one(name, monkeypatch):
    app = WAYS[name]({"pgjobs_leese": 20}, monkeypatch)
    with pytest.raises(UnknownOption, match="'pgjobs_leese'; did you mean 'pgjobs_lease'"):
        read_settings(app.conf)


def test_without_settings_all_have_their_defaults():
    assert read_settings(new_app().conf) == Settings()
    assert read_settings({}) == Settings()
    assert read_settings({"pgjobs_lease": None, "broker_url": "x"}) == Settings()


def test_where_a_setting_is_there_twice_celery_says_which_counts():
    app = loaded_from({"CELERY_PGJOBS_LEASE": 20}, namespace="CELERY")
    app.conf.pgjobs_lease = 30
    assert read_settings(app.conf).lease == app.conf.pgjobs_lease


def test_a_setting_that_resembles_none_is_refused_without_a_guess():
    with pytest.raises(UnknownOption, match=r"there is no setting 'pgjobs_zzzzzz'$"):
        read_settings({"pgjobs_zzzzzz": 1})


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [("lease", "20", 20.0), ("lease", 20, 20.0), ("maintenance", "no", False),
     ("maintenance", 0, False), ("heartbeat_interval", "0.5", 0.5)],
)  # fmt: skip
def test_a_setting_is_brought_to_its_type(name, value, read):
    """From the environment, everything is text."""
    settings = read_settings({f"pgjobs_{name}": value})
    assert getattr(settings, name) == read
    assert type(getattr(settings, name)) is type(read)


DAY, WEEK = 86_400.0, 7 * 86_400.0


@pytest.mark.parametrize("backend", [None, "redis://localhost", "db+postgresql://x", "django-db"])
@pytest.mark.parametrize(
    ("values", "completed", "failed"),
    [
        ({}, DAY, WEEK),
        ({"result_expires": None}, DAY, WEEK),
        ({"result_expires": 0}, DAY, WEEK),
        ({"result_expires": 365 * DAY}, DAY, WEEK),
        ({"result_expires": 600}, 600, WEEK),
        ({"result_expires": None, "result_failure_expires": 600}, DAY, 600),
        ({"result_failure_expires": 0}, DAY, WEEK),
        ({"result_expires": None, "pgjobs_prune_max_age": 700}, 700, 700),
        ({"pgjobs_prune_max_age": 0}, 0, 0),
        ({"pgjobs_prune_failed_max_age": 0}, DAY, 0),
    ],
)
def test_rows_without_results_are_not_kept_because_results_are_elsewhere(
    backend, values, completed, failed
):
    app = new_app(backend=backend)
    app.conf.update(values)
    settings = read_settings(app.conf)
    assert (settings.prune_max_age, settings.prune_failed_max_age) == (completed, failed)


@pytest.mark.parametrize(
    "backend",
    ["pgjobs://x", "pgjobs+postgresql://x", "pgjobs+django://x", "pgjobs_celery.backend:PgBackend"],
)
def test_rows_with_results_are_kept_as_long_as_results_are(backend):
    settings = read_settings({"result_backend": backend, "result_expires": None})
    assert (settings.prune_max_age, settings.prune_failed_max_age) == (0, 0)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"pgjobs_lease": "long"}, "pgjobs_lease must be a number"),
        ({"pgjobs_maintenance": "sometimes"}, "pgjobs_maintenance must be true or false"),
        ({"pgjobs_lease": 2}, "below pgjobs_lease"),
        ({"pgjobs_heartbeat_interval": 0}, "above 0"),
        ({"pgjobs_heartbeat_interval": 15}, "below pgjobs_lease"),
        ({"pgjobs_lease": "nan"}, "below pgjobs_lease"),
    ],
)
def test_a_setting_that_cannot_be_used_says_why(values, complaint):
    with pytest.raises(InvalidOption, match=complaint):
        read_settings(values)


@pytest.mark.parametrize(
    ("given", "namespace"),
    [
        ({"pgjobs_step_max_size": 7}, None),
        ({"PGJOBS_STEP_MAX_SIZE": "7"}, None),
        ({"CELERY_PGJOBS_STEP_MAX_SIZE": 7}, "CELERY"),
        ({"celery_pgjobs_step_max_size": 7}, "CELERY"),
        ({}, None),
    ],
)
def test_one_setting_alone_is_what_all_of_them_say(given: dict[str, Any], namespace: str | None):
    app = Celery(set_as_current=False)
    app.config_from_object(given, namespace=namespace)
    app.conf.task_default_queue  # noqa: B018 - reads them
    assert read_setting(app.conf, "step_max_size") == read_settings(app.conf).step_max_size

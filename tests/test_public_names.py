"""What the package offers by name, and what it costs to import."""

from __future__ import annotations

import inspect
import json
import pickle
import pkgutil
import subprocess
import sys
import traceback

import pytest

import pgjobs_celery
from pgjobs_celery import Cancel, Discard, Snooze, testing
from pgjobs_celery.job.outcome import error_from

#: A name is added here when it is documented; none is ever taken away without a deprecation.
PUBLIC = [
    "Cancel",
    "Concurrency",
    "Debounce",
    "Discard",
    "Key",
    "PgTask",
    "QueueFull",
    "Rate",
    "RateExceeded",
    "Snooze",
    "Unique",
    "__version__",
    "aapply_async",
    "acting_as",
    "adelay",
    "aget",
    "asignal",
    "audit",
    "bulk",
    "cron",
    "enqueue_many",
    "flows",
    "jobs",
    "queues",
    "rate",
    "schedules",
    "signal",
    "signal_many",
    "using",
    "workers",
]

#: The same of pgjobs_celery.testing.
TESTING = [
    "Enqueued",
    "Inbox",
    "Performed",
    "advance",
    "all_enqueued",
    "assert_enqueued",
    "assert_enqueued_in_order",
    "drain_queue",
    "due",
    "due_entries",
    "expected",
    "perform_job",
    "refute_enqueued",
    "steps_of",
    "testing",
]

LOADED = """
import json, sys
import {module}
print(json.dumps(sorted(sys.modules)))
"""


def loaded_by(module: str) -> set[str]:
    output = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return set(json.loads(output))


def test_the_public_names_are_these():
    assert pgjobs_celery.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(pgjobs_celery, name) is not None


def test_no_module_at_the_top_bears_the_name_of_something_public():
    """Importing the module would put it in the place of the function."""
    for package, names in ((pgjobs_celery, PUBLIC), (testing, TESTING)):
        modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
        assert modules.isdisjoint(names)


@pytest.mark.parametrize(
    "name",
    ["audit", "bulk", "cron", "enqueue_many", "jobs", "queues", "schedules", "signal", "using"],
)
def test_a_public_function_lives_in_a_module_of_its_name(name):
    module = inspect.getmodule(getattr(pgjobs_celery, name))
    assert module is not None
    assert module.__name__.rpartition(".")[2] == name


@pytest.mark.parametrize("kind", [Snooze, Cancel, Discard])
def test_what_a_task_raises_is_shown_as_it_is_imported(kind):
    (line,) = traceback.format_exception_only(kind, kind(5))
    assert line.startswith(f"pgjobs_celery.{kind.__name__}: ")
    entry = json.loads(error_from(kind(5)))
    assert entry["module"] == "pgjobs_celery"
    assert type(pickle.loads(pickle.dumps(kind(5)))) is kind


def test_everything_public_comes_with_a_star():
    names: dict[str, object] = {}
    exec("from pgjobs_celery import *", names)
    del names["__builtins__"]
    assert sorted(names) == PUBLIC


def test_importing_the_package_loads_no_driver_no_celery_and_no_module_of_its_own():
    loaded = loaded_by("pgjobs_celery")
    for name in ("psycopg", "psycopg_binary", "psycopg_c", "celery", "click", "rich", "croniter"):
        assert name not in loaded
    ours = {name for name in loaded if name.startswith("pgjobs_celery")}
    assert ours == {"pgjobs_celery", "pgjobs_celery._register", "pgjobs_celery._version"}


def test_importing_celery_makes_the_scheme_known_and_loads_no_driver():
    loaded = loaded_by("celery")
    assert "psycopg" not in loaded
    code = (
        "import celery, kombu.transport as t; celery.Celery; print(t.resolve_transport('pgjobs'))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output == "<class 'pgjobs_celery.broker.transport.Transport'>\n"


@pytest.mark.parametrize(
    "words", ["job.states", "errors", "job", "job.outcome", "broker.claim_plan", "config"]
)
def test_the_words_know_neither_the_driver_nor_celery(words):
    loaded = loaded_by(f"pgjobs_celery.{words}")
    assert not {"psycopg", "celery"} & loaded


def test_the_names_for_tests_are_these_and_all_are_there():
    assert sorted(testing.__all__) == TESTING
    for name in TESTING:
        assert getattr(testing, name).__module__.startswith("pgjobs_celery.testing.")
    with pytest.raises(AttributeError, match="no attribute 'assert_enqueue'"):
        testing.assert_enqueue  # noqa: B018

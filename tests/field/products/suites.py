"""The integration tests of Celery and kombu themselves, from their source distributions."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from ..environments import ask_versions, unpack_source
from ..product import Environment, Judgement, Product, Side, Stage, on_both
from ..programs import FOREIGN
from ..suites import Difference, Results, judge, run_suite

SUITES = Environment(
    "suites",
    (
        "celery", "cryptography", "django", "freezegun", "greenlet", "kombu", "msgpack",
        "packaging", "psycopg2-binary", "pydantic", "pytest", "pytest-click", "pytest-order",
        "pytest-rerunfailures", "pytest-subtests", "pytest-timeout", "pyyaml", "redis", "requests",
        "setuptools", "sqlalchemy", "tblib",
    ),
)  # fmt: skip

#: Seconds for a suite, on one side.
LIMIT = 2700

#: Tests that may fail on pgjobs and not on Redis, with the reason of each.
KOMBU_DIFFERENCES: tuple[Difference, ...] = ()
CELERY_DIFFERENCES = (
    Difference(
        r".*test_chord::test_error_propagates_from_chord",
        "the error of a chain's task before a group does not reach the group's result: Celery's "
        "own, and expected to fail on Redis",
    ),
    Difference(
        r".*test_chord::test_chord_on_error",
        "asks the backend for the name of the key that counts a chord's members",
    ),
    Difference(
        r".*::test_chord_header_id_duplicated_on_rabbitmq_msg_duplication.*",
        "a task's id is a job's id, so that a message published twice under one id runs once; the "
        "test expects RabbitMQ's two runs, and leaves itself out on Redis",
    ),
)

#: What speaks to another backend than the one under test, or to services that are not there.
CELERY_IGNORED = (
    "test_backend", "test_cache_backend", "test_connection_recovery", "test_database_backend",
    "test_redis_backend",
)  # fmt: skip

#: The part of Celery's suite that ``.ci/run`` has time for, on pgjobs alone.
CELERY_FAST = ("test_inspect.py", "test_beat.py", "test_serialization.py", "test_loader.py")

#: Where what asks for a Redis result backend needs one that counts chords, and any will do.
CELERY_CANVAS = ("test_canvas.py", "test_group_chains.py")

#: A few of them wait for a minute that nothing comes.
CELERY_ARGUMENTS = ("-p", "celery.contrib.pytest", "--timeout=300", "--tb=native")

REDIS_ONLY = re.compile(r"(if not [\w.]*result_backend\.startswith)\((['\"]redis['\"])\)")


def run_kombu(stage: Stage) -> Judgement:
    source = _unpack(stage, "kombu")
    shutil.copy(FOREIGN / "kombu_contract.py", source / "t/integration/test_contract.py")

    def run(side: Side) -> Results:
        nowhere = {"pgjobs": "pgjobs://nobody@127.0.0.1:1/none", "Redis": "redis://127.0.0.1:1"}
        env = {"FIELD_BROKER": side.broker, "FIELD_NOWHERE": nowhere[side.name]}
        arguments = ["--timeout=60", "t/integration/test_contract.py"]
        return run_suite(stage, side.name, source, arguments, env, LIMIT)

    return judge(*on_both(stage, run), KOMBU_DIFFERENCES)


def run_celery(stage: Stage) -> Judgement:
    source = unpack_celery(stage)

    def run(side: Side) -> Results:
        env = celery_environment(side, is_redis=side is stage.redis)
        arguments = [*CELERY_ARGUMENTS]
        arguments += [f"--ignore=t/integration/{name}.py" for name in CELERY_IGNORED]
        chosen = CELERY_FAST if stage.is_fast else ("",)
        arguments += [f"t/integration/{name}" for name in chosen]
        return run_suite(stage, side.name, source, arguments, env, LIMIT)

    # One after the other: they count in one Redis database, whichever the broker.
    control = None if stage.redis is None or stage.is_fast else run(stage.redis)
    result, notes = judge(run(stage.pgjobs), control, CELERY_DIFFERENCES)
    if stage.is_fast:
        result += f" ({', '.join(CELERY_FAST)} alone, without Redis)"
    return Judgement(result, notes)


def unpack_celery(stage: Stage) -> Path:
    """The sources of the installed release, whose canvas tests take our backend for Redis'."""
    source = _unpack(stage, "celery")
    for name in CELERY_CANVAS:
        # Skipped for that, they would leave out the better half of the suite.
        path = source / "t/integration" / name
        text = path.read_text()
        path.write_text(REDIS_ONLY.sub(r"\1((\2, 'pgjobs'))", text))
    return source


def celery_environment(side: Side, *, is_redis: bool = False) -> dict[str, str]:
    """The variables by which Celery's tests know their servers."""
    redis = urlsplit(side.redis)
    # Its tests look into Redis' database 0, whichever the URL names.
    url = redis._replace(path="/0").geturl() if is_redis else side.broker
    return {
        "REDIS_HOST": str(redis.hostname),
        "REDIS_PORT": str(redis.port),
        "TEST_BACKEND": url,
        "TEST_BROKER": url,
    }


def _unpack(stage: Stage, distribution: str) -> Path:
    """The sources of the installed release, without the package, which is the installed one."""
    [version] = ask_versions(stage.python, [distribution])
    source = unpack_source(stage.python, distribution, version, stage.folder)
    shutil.rmtree(source / distribution, ignore_errors=True)
    return source


PRODUCTS = (
    Product(
        name="kombu",
        distribution="kombu",
        beside=(),
        environment=SUITES,
        ran="the contract of its integration tests: connections, exchanges, messages, time to "
        "live, priorities, the event loop, failover",
        run=run_kombu,
    ),
    Product(
        name="celery",
        distribution="celery",
        beside=("kombu",),
        environment=SUITES,
        ran="its integration tests, those that ask for a Redis result backend included",
        run=run_celery,
        needs_redis=True,
    ),
)

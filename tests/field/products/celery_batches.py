"""celery-batches: its source distributions have no tests, so its uses are run.

Its own tests are in its repository, of which a checkout can be named.
"""

import os
import shutil
from pathlib import Path

from ..product import Environment, Judgement, Product, Side, Size, Skip, Stage, on_both
from ..programs import run_program
from ..suites import Results, judge, run_suite

#: Names a checkout of the repository, of the release that the registry has.
CHECKOUT = "FIELD_CELERY_BATCHES"

ENVIRONMENT = Environment(
    "celery-batches", ("celery-batches", "packaging", "pytest", "pytest-timeout", "redis")
)

EXPECTED = {
    "results": True,
    "plain task beside": 2,
    "batches of 20": [20] * 5,
    "fewer, by the interval": [6],
    "waited for the interval": True,
    "acks_late": 7,
    "ignore_result": True,
    "failing": True,
    "plain tasks afterwards": True,
    "after a restart": 3,
    "run twice": 0,
}


def run(stage: Stage) -> Judgement:
    return run_program(stage, "batches", EXPECTED)


def run_own_tests(stage: Stage) -> Judgement:
    if not (checkout := os.environ.get(CHECKOUT)):
        raise Skip(
            "its source distributions have no tests: "
            f"name a checkout of its repository in {CHECKOUT}"
        )
    # Without the package beside them, which is the installed one.
    tests = stage.folder / "source"
    shutil.rmtree(tests, ignore_errors=True)
    shutil.copytree(Path(checkout) / "t", tests / "t")

    def run(side: Side) -> Results:
        env = {"TEST_BROKER": side.broker, "TEST_BACKEND": side.results}
        arguments = ["-p", "celery.contrib.pytest", "--timeout=60", "t"]
        return run_suite(stage, side.name, tests, arguments, env, 900)

    return judge(*on_both(stage, run), ())


PRODUCTS = (
    Product(
        name="celery-batches",
        distribution="celery-batches",
        environment=ENVIRONMENT,
        ran="five batches of 20, one by its interval, late acknowledgement, results, failures, "
        "plain tasks beside, a restart",
        run=run,
        needs_redis=True,
    ),
    Product(
        name="celery-batches-tests",
        distribution="celery-batches",
        environment=ENVIRONMENT,
        ran="its own integration tests, from a checkout of its repository",
        run=run_own_tests,
        size=Size.MEDIUM,
    ),
)

"""Celery's integration tests of canvas and tasks on the pool for coroutines, and on threads."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..foreign.as_coroutines import convert
from ..product import Judgement, Product, Size, Stage
from ..suites import Difference, Results, judge, run_suite
from .suites import (
    CELERY_ARGUMENTS,
    CELERY_DIFFERENCES,
    LIMIT,
    SUITES,
    celery_environment,
    unpack_celery,
)

#: The tests that run, each on every pool.
TESTS = ("test_canvas.py", "test_tasks.py", "test_group_chains.py")

POOL = "pgjobs_celery.worker.aio:TaskPool"
CONCURRENCY = 10

#: What may fail on the pool for coroutines and not on threads, with the reason of each.
DIFFERENCES: tuple[Difference, ...] = CELERY_DIFFERENCES

#: The same where each of its tasks is a coroutine.
COROUTINES_DIFFER: tuple[Difference, ...] = (
    *DIFFERENCES,
    Difference(r".*test_tasks::test_simple_call", "called like a function, a coroutine is awaited"),
    Difference(
        r".*test_tasks::test_pydantic_.*",
        "`pydantic=True` turns the returned model into a dict before the coroutine has returned it",
    ),
)

#: Put behind Celery's own conftest.py.
FIXTURES = """

@pytest.fixture(scope='session')
def celery_worker_pool():
    return os.environ['FIELD_POOL']


@pytest.fixture(scope='session')
def celery_worker_parameters():
    return {'concurrency': int(os.environ['FIELD_CONCURRENCY'])}
"""


def run_pools(stage: Stage) -> Judgement:
    source = unpack_celery(stage)
    conftest = source / "t/integration/conftest.py"
    if FIXTURES not in conftest.read_text():
        conftest.write_text(conftest.read_text() + FIXTURES)
    threads = _run(stage, source, "threads", "threads")
    plain = judge(_run(stage, source, "aio", POOL), threads, DIFFERENCES, "threads")
    coroutines = _run(stage, _as_coroutines(source), "coroutines", POOL)
    made = judge(coroutines, threads, COROUTINES_DIFFER, "threads")
    notes = [*plain.notes, *(f"as coroutines: {note}" for note in made.notes)]
    # FAILED comes first, where either has.
    first, second = sorted(
        [plain.result, f"{made.result} (as coroutines)"], key=lambda r: not r.startswith("FAILED")
    )
    return Judgement(f"{first}; {second}", tuple(notes))


def _as_coroutines(source: Path) -> Path:
    """A copy of the sources whose tasks are coroutines."""
    copied = source.with_name(f"{source.name}-coroutines")
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(source, copied)
    tasks = copied / "t/integration/tasks.py"
    tasks.write_text(convert(tasks.read_text()))
    return copied


def _run(stage: Stage, source: Path, name: str, pool: str) -> Results:
    env = {
        **celery_environment(stage.pgjobs),
        "FIELD_POOL": pool,
        "FIELD_CONCURRENCY": str(CONCURRENCY),
    }
    arguments = [*CELERY_ARGUMENTS, *(f"t/integration/{each}" for each in TESTS)]
    return run_suite(stage, name, source, arguments, env, LIMIT)


PRODUCTS = (
    Product(
        name="celery-pools",
        distribution="celery",
        beside=("kombu", "greenlet"),
        environment=SUITES,
        ran="its integration tests of canvas and tasks on the pool for coroutines, as they are and "
        "with each task made a coroutine, compared with the pool of threads",
        run=run_pools,
        size=Size.MEDIUM,
        needs_redis=True,
    ),
)

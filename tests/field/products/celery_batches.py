"""celery-batches: its source distribution has no tests, so its uses are run."""

from ..product import Environment, Judgement, Product, Stage
from ..programs import run_program

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


PRODUCT = Product(
    name="celery-batches",
    distribution="celery-batches",
    environment=Environment("celery-batches", ("celery-batches", "packaging", "redis")),
    ran="five batches of 20, one by its interval, late acknowledgement, results, failures, plain "
    "tasks beside, a restart",
    run=run,
    needs_redis=True,
)

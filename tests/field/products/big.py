"""Whole applications: hundreds of packages and minutes of migrations each, only with ``--big``."""

from ..product import Environment, Judgement, Product, Stage
from ..programs import run_program


def run_pretix(stage: Stage) -> Judgement:
    expected = {
        "mails of a rollback": 0,
        "waits for its retry": True,
        "sent": True,
        "inbox": ["Order KEPT1"],
    }
    return run_program(stage, "pretix_order", expected, limit=1800)


PRODUCTS = (
    Product(
        name="pretix-whole",
        distribution="pretix",
        beside=("django", "celery"),
        environment=Environment("pretix-whole", ("pretix", "aiosmtpd"), python="3.11"),
        ran="all its migrations, an order's mail in a transaction and in one that is rolled back, "
        "its own retry while the mail server is away",
        run=run_pretix,
        is_big=True,
        is_fast=False,
    ),
)

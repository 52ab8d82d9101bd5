"""Whole applications: hundreds of packages and minutes of migrations each, only with ``--big``."""

import shutil

from ..product import Environment, Judgement, Product, Size, Skip, Stage
from ..programs import run_program


def run_pretix(stage: Stage) -> Judgement:
    expected = {
        "mails of a rollback": 0,
        "waits for its retry": True,
        "sent": True,
        "inbox": ["Order KEPT1"],
    }
    return run_program(stage, "pretix_order", expected, limit=1800)


def run_airflow(stage: Stage) -> Judgement:
    names = ("print_date", "sleep", "templated")
    expected = {
        "killed while": "running",
        "DAG": ["success"],
        "ended by": "heartbeat",
        "tasks": dict.fromkeys(names, "success"),
        "tries": {**dict.fromkeys(names, 1), "sleep": 2},
    }
    return run_program(stage, "airflow_whole", expected, limit=1800)


def run_mayan(stage: Stage) -> Judgement:
    expected = {
        "starts": True,
        "document": "picture.png",
        "file": ["image/png", 64, 1],
        "picture": True,
        "found by the search": ["picture.png"],
    }
    return run_program(stage, "mayan_whole", expected, limit=1800)


def run_nautobot(stage: Stage) -> Judgement:
    names = ("ExportObjectList", "LogsCleanup", "RefreshDynamicGroupCaches")
    expected = {**{name: ["SUCCESS", "field"] for name in names}, "exported": True}
    return run_program(stage, "nautobot_whole", expected, limit=2400)


def run_weblate(stage: Stage) -> Judgement:
    if shutil.which("git") is None:
        raise Skip("needs git, for the repository that it follows")
    expected = {
        "queue statistics": 60,
        "alarm": True,
        "after the work": 0,
        "checks of Celery": [],
        "made by the worker": {"Hello": "Ahoj", "World": ""},
        "updated by the worker": {"Hello": "Ahoj", "World": "Svete", "Bye": ""},
        "state": "SUCCESS",
    }
    return run_program(stage, "weblate_whole", expected, limit=2400)


PRODUCTS = (
    Product(
        name="airflow-whole",
        distribution="apache-airflow",
        beside=("apache-airflow-providers-celery", "celery"),
        environment=Environment(
            "airflow-whole",
            (
                # The provider does not import with Celery 5.7, though it allows it.
                "apache-airflow>=3.3",
                "apache-airflow-providers-celery>=3.26",
                "celery<5.7",
                "asyncpg",
                "psycopg2-binary",
            ),
            python="3.11",
        ),
        ran="API server, scheduler, DAG processor and workers: its tutorial's DAG, the worker of a "
        "running task killed with all its processes, another one instead",
        run=run_airflow,
        size=Size.BIG,
    ),
    Product(
        name="weblate-whole",
        distribution="weblate",
        beside=("django", "celery"),
        environment=Environment(
            "weblate-whole",
            ("weblate[postgres]",),
            python="3.13",
            needs="headers of liblz4, libzstd, libxxhash, libacl1 and OpenSSL for borgbackup",
        ),
        ran="all its migrations, the statistics and the alarm of its queues, its own checks of "
        "Celery, a component that its worker makes from a git repository, and updates",
        run=run_weblate,
        size=Size.BIG,
        needs_redis=True,
    ),
    Product(
        name="pretix-whole",
        distribution="pretix",
        beside=("django", "celery"),
        environment=Environment("pretix-whole", ("pretix", "aiosmtpd"), python="3.11"),
        ran="all its migrations, an order's mail in a transaction and in one that is rolled back, "
        "its own retry while the mail server is away",
        run=run_pretix,
        size=Size.BIG,
    ),
    Product(
        name="nautobot-whole",
        distribution="nautobot",
        beside=("django", "celery"),
        environment=Environment("nautobot-whole", ("nautobot",), python="3.13"),
        ran="all its migrations, and three of its Jobs for a user: an export, a clean-up of its "
        "logs, its groups",
        run=run_nautobot,
        size=Size.BIG,
        needs_redis=True,
    ),
    Product(
        name="mayan-whole",
        distribution="mayan-edms",
        beside=("django", "celery"),
        environment=Environment(
            "mayan-whole",
            ("mayan-edms", "redis"),
            python="3.11",
            needs="headers of OpenLDAP and SASL for python-ldap",
        ),
        ran="its check of broker and backend at the start of each command and worker, all its "
        "migrations, a picture uploaded, read, shown and indexed by its tasks",
        run=run_mayan,
        size=Size.BIG,
    ),
)

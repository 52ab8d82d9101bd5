"""Small packages on top of Celery, and what large products were seen to do, as small programs.

They share an environment. The programs named after a large product do what that product's source
does with Celery; the product itself is one of those behind ``--big``, if it is one at all.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ..product import Environment, Judgement, Product, Stage
from ..programs import run_program

SMALL = Environment(
    "small",
    (
        "celery-once", "celery-progress", "celery-singleton", "django>=4.2",
        "aiosmtpd", "django-celery-results", "psycopg[binary]", "packaging", "redis", "six",
    ),
)  # fmt: skip


def _run(
    program: str, expected: Mapping[str, Any], differences: Mapping[str, str] | None = None
) -> Callable[[Stage], Judgement]:
    return lambda stage: run_program(stage, program, expected, differences=differences)


PRODUCTS = (
    Product(
        name="celery-once",
        distribution="celery-once",
        beside=("celery-singleton", "celery"),
        environment=SMALL,
        ran="with celery-singleton: duplicates refused, graceful, same id; locks gone at the end",
        run=_run(
            "once",
            {
                "once: refused": True,
                "once: graceful": "REJECTED",
                "singleton: same id": [True, False],
                "singleton: refused": True,
                "results": [1, 2, 1, 1, 1, 2, 1],
                "failed": "the lock must go",
                "again": [1, 1, 1],
                "again after a failure": True,
            },
        ),
        needs_redis=True,
    ),
    Product(
        name="django-celery-results",
        distribution="django-celery-results",
        beside=("django", "celery"),
        environment=SMALL,
        ran="django-db and django-cache behind the broker: states, a chord, a group that is "
        "restored, extended results, an error",
        run=_run(
            "django_results",
            {
                "sum": 3,
                "error": "ValueError('bad')",
                "chord": 10,
                "group": [2, 4, 6],
                "restored group": [2, 4, 6],
                "row": ["SUCCESS", "django_results.add", "3"],
                "failed row": ["FAILURE", "django_results.fail"],
                "started": True,
                "django-cache": 7,
            },
        ),
    ),
    Product(
        name="celery-progress",
        distribution="celery-progress",
        beside=("django", "celery"),
        environment=SMALL,
        ran="its recorder in tasks, its view beside them",
        run=_run(
            "progress",
            {
                "unknown": "PENDING",
                "half": {
                    "pending": False,
                    "current": 5,
                    "total": 10,
                    "percent": 50.0,
                    "description": "half",
                },
                "end": {
                    "state": "SUCCESS",
                    "complete": True,
                    "success": True,
                    "result": "done",
                    "progress": {"pending": False, "current": 100, "total": 100, "percent": 100},
                },
                "failed": "lost",
            },
        ),
    ),
    Product(
        name="nautobot",
        distribution="celery",
        beside=(),
        environment=SMALL,
        ran="reduced: options of its own passed on as message properties, a retry, and the "
        "worker's queues by inspect",
        run=_run(
            "nautobot_pattern",
            {
                "properties": ["42", "job-model", {"a": [1, None]}],
                # Celery does not hand them on to a retry, with any broker.
                "after a retry": [None, None, None],
                "from a chain": ["7", None, None],
                "worker on the queue": True,
            },
        ),
    ),
    Product(
        name="mayan",
        distribution="celery",
        beside=(),
        environment=SMALL,
        ran="reduced: the check of broker and backend at start (set, get, delete), and a chord of "
        "pages",
        run=_run(
            "mayan_pattern",
            {"connects": True, "get": "test", "after delete": None, "pages": ["p1", "p2", "p3"]},
        ),
    ),
    Product(
        name="weblate",
        distribution="celery",
        beside=(),
        environment=SMALL,
        ran="reduced: lengths of queues by declaring them, its ping, progress, purge",
        run=_run(
            "weblate_pattern",
            {
                "lengths": {"weblate": 3, "notify": 2, "translate": 0},
                "ping": True,
                "after the work": {"weblate": 0, "notify": 0, "translate": 0},
                "purged": 4,
            },
        ),
    ),
    Product(
        name="airflow",
        distribution="celery",
        beside=(),
        environment=SMALL,
        ran="reduced: a healthy task that is delivered again and ignored keeps its state, a killed "
        "worker's task runs again",
        run=_run(
            "airflow_pattern",
            {"after Ignore": "STARTED", "killed and run again": "SUCCESS", "runs": 2},
            {
                "killed and run again": "there a message of a killed worker comes back only by "
                "its visibility timeout, an hour by default",
                "runs": "for the same reason",
            },
        ),
    ),
    Product(
        name="pretix",
        distribution="celery",
        beside=("django",),
        environment=SMALL,
        ran="reduced: an order's mail sent on commit, retried while the mail server is away, and "
        "the asynchronous view's polling",
        run=_run(
            "pretix_pattern",
            {
                "rolled back": 0,
                "polled": True,
                "mails": ["order 1"],
                "retries": True,
            },
        ),
    ),
)

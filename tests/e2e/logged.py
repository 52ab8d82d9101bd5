"""An app whose task logs in each way that there is, and which sets its logging up itself or not.

``PGJOBS_TEST_LOGGING``: ``json`` for python-json-logger, ``structlog``; Celery's own otherwise.
"""

from __future__ import annotations

import logging
import logging.config
import os
import sys
import threading
from typing import Any

from celery import Celery, signals
from celery.utils.log import get_task_logger

from .tasks import app as parent
from .tasks import report_ready

URL = os.environ.get("PGJOBS_TEST_URL")

app = Celery("tests.e2e.logged", broker=URL, backend=URL, set_as_current=False)
app.conf.update(parent.conf.changes)
assert report_ready

SETUP = os.environ.get("PGJOBS_TEST_LOGGING")
FIELDS = "pgjobs_celery.worker.logs.JobFields"
FORMATTERS: dict[str | None, dict[str, Any]] = {
    "json": {"()": "pythonjsonlogger.json.JsonFormatter", "fmt": "%(levelname)s %(message)s"},
    "structlog": {"()": "tests.e2e.logged.make_structlog"},
}


def make_structlog() -> logging.Formatter:
    """A formatter as structlog's documents show it, of lines that come by logging as well."""
    import structlog

    shared: list[Any] = [structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    formatter: logging.Formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ExtraAdder(),
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ],
        foreign_pre_chain=shared,
    )
    return formatter


if SETUP:

    @signals.setup_logging.connect
    def set_up(**_: Any) -> None:
        logging.config.dictConfig({
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"job": {"()": FIELDS}},
            "formatters": {"theirs": FORMATTERS[SETUP]},
            "handlers": {
                "stderr": {
                    "class": "logging.StreamHandler", "formatter": "theirs", "filters": ["job"],
                    "stream": "ext://sys.__stderr__",
                },
            },
            "root": {"handlers": ["stderr"], "level": "INFO"},
        })  # fmt: skip


@app.task(name="say")
def say(word: str) -> str:
    """Log the word in each way."""
    logging.getLogger("shop").warning("plain %s", word)
    get_task_logger("shop.tasks").info("task logger %s", word)
    logging.getLogger("shop").info("with extra %s", word, extra={"user": 7, "queue": "mine"})
    try:
        raise LookupError(word)
    except LookupError:
        logging.getLogger("shop").exception("caught %s", word)
    print(f"printed {word}")
    if SETUP == "structlog":
        import structlog

        structlog.get_logger("shop").warning(f"structured {word}", user=7)
    return threading.current_thread().name


@app.task(name="fail")
def fail(word: str) -> None:
    """Fail, so that Celery logs it."""
    raise LookupError(f"{word}\x1b]0;title\x07\nsecond line\x7f")


if __name__ == "__main__":
    sys.exit("run by a worker")

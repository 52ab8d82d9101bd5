"""Say in each log line which job it belongs to; write the lines of a worker as JSON.

:class:`JobFields` is for any handler of yours, with the formatter of python-json-logger, structlog
or ``logging``; ``pgjobs_log_json`` gives Celery's own handlers it and a formatter that writes JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from celery import current_task, signals
from celery.utils.log import ColorFormatter, get_multiprocessing_logger

from ..errors import RequirementMissing
from ..job.held_claim import held_claim

#: The fields that a line begins with, by logging's names.
FIELDS = "%(levelname)s %(name)s %(process)d %(message)s"
#: Their names in JSON.
NAMES = {"levelname": "level", "name": "logger"}
#: Celery's own attribute, which repeats what the line says, arguments and all.
CELERYS = "data"


class JobFields(logging.Filter):
    """Add ``job_id``, ``task``, ``attempt``, ``queue`` and ``worker`` to records.

    To those that the code of a task writes while it runs, in a child, a thread or a greenlet of the
    pool, and to Celery's own lines about a task; all others of a worker get ``worker`` alone. An
    attribute that a record has stays as it is. Add it to a handler: a logger's filter does not see
    what the loggers below it write.

        >>> handler.addFilter(JobFields())
    """

    #: The name of this process's worker; None in any other program.
    worker: ClassVar[str | None] = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True."""
        for name, value in self._fields(record):
            if value is not None and not hasattr(record, name):
                setattr(record, name, value)
        return True

    def _fields(self, record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
        data = getattr(record, CELERYS, None)
        about = data if isinstance(data, Mapping) and "id" in data else None
        request = current_task.request if current_task else None
        if request is not None and (about is None or about["id"] == request.id):
            held = held_claim(request)
            yield "job_id", request.id
            yield "task", current_task.name
            yield "attempt", held.fence.attempt if held else None
            routing_key = (request.delivery_info or {}).get("routing_key")
            yield "queue", held.queue or routing_key if held else routing_key
            yield "worker", request.hostname
        elif about is not None:
            yield "job_id", about["id"]
            yield "task", about.get("name")
        yield "worker", self.worker


def json_formatter() -> logging.Formatter:
    """The formatter of ``pgjobs_log_json``; raises RequirementMissing where it is not installed."""
    try:
        from pythonjsonlogger.core import RESERVED_ATTRS
        from pythonjsonlogger.json import JsonFormatter
    except ImportError:
        raise RequirementMissing(
            'pgjobs_log_json needs python-json-logger: pip install "pgjobs-celery[logs]"'
        ) from None
    reserved = [*RESERVED_ATTRS, CELERYS]
    formatter: logging.Formatter = JsonFormatter(
        FIELDS, rename_fields=NAMES, reserved_attrs=reserved, timestamp=True
    )
    return formatter


def write_json(formatter: logging.Formatter) -> None:
    """Have the handlers that Celery is about to make in this process write JSON lines.

    A handler with a formatter of yours keeps it, and gets the fields.
    """

    def change(logger: logging.Logger, **_: Any) -> None:
        for handler in (*logger.handlers, *get_multiprocessing_logger().handlers):
            if not any(isinstance(each, JobFields) for each in handler.filters):
                handler.addFilter(JobFields())
            if isinstance(handler.formatter, ColorFormatter):
                handler.setFormatter(formatter)

    for signal in (signals.after_setup_logger, signals.after_setup_task_logger):
        signal.connect(change, weak=False, dispatch_uid="pgjobs-log-json")

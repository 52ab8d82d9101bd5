"""Make text from other programs safe to show in a terminal or a log.

Any publisher chooses a task's name, id, queue and arguments. Shown as they are, they could clear a
terminal, retitle it, or write lines into a log that look like the worker's own.
"""

from __future__ import annotations

import json
import logging
import traceback
from typing import Any

#: Celery's loggers that show parts of a message: names and ids of tasks, and their exceptions.
CELERYS = (
    "celery.app.trace",
    "celery.beat",
    "celery.worker.consumer.consumer",
    "celery.worker.control",
    "celery.worker.request",
    "celery.worker.strategy",
)


def printable(text: str) -> str:
    """One line, without control characters and changes of the writing direction."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def printable_lines(text: str) -> str:
    """As :func:`printable`, of a text that may have several lines, and tabs."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def one_line(text: str) -> str:
    """As :func:`printable`, of a text whose lines become one."""
    return text if text.isprintable() else printable(" ".join(text.split()))


def to_json(data: Any) -> str:
    """JSON for machines that a terminal may show as well: it escapes all but ASCII's own DEL."""
    return json.dumps(data, indent=2).replace("\x7f", "\\u007f")


class Printable(logging.Filter):
    """Make a logger of ours write one printable line a record, and a printable traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True; the record is changed only where it has to be."""
        message = record.getMessage()
        if not message.isprintable():
            record.msg, record.args = one_line(message), None
        _clean_traceback(record)
        return True


class PrintableArgs(logging.Filter):
    """As :class:`Printable`, for Celery's loggers: some of their formats have several lines."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True; the arguments are changed only where they have to be."""
        args: Any = record.args
        if isinstance(args, dict):
            if any(isinstance(value, str) and not value.isprintable() for value in args.values()):
                record.args = {name: _clean(value, name) for name, value in args.items()}
        elif isinstance(args, tuple):
            record.args = tuple(map(_clean, args))
        _clean_traceback(record)
        return True


def _clean(value: Any, name: str = "") -> Any:
    if isinstance(value, BaseException):
        text = str(value)
        return value if text.isprintable() else one_line(text)
    if not isinstance(value, str) or value.isprintable():
        return value
    return printable_lines(value) if name == "traceback" else one_line(value)


def _clean_traceback(record: logging.LogRecord) -> None:
    # A formatter takes exc_text for its own rendering of exc_info, and does not render it again.
    if isinstance(record.exc_info, tuple) and record.exc_info[0] and not record.exc_text:
        text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        clean = printable_lines(text)
        if clean != text:
            record.exc_text = clean


_OURS, _THEIRS = Printable(), PrintableArgs()


def guarded(logger: logging.Logger) -> logging.Logger:
    """Make a logger of ours show only printable text."""
    logger.addFilter(_OURS)
    return logger


def guard_celery() -> None:
    """Make Celery's loggers in this process, a worker or a beat, show only printable text."""
    for name in CELERYS:
        logging.getLogger(name).addFilter(_THEIRS)

"""Publish a job of an entry: with the entry's arguments and options, and its name in ``meta``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from celery.beat import BeatLazyFunc
from kombu.utils.json import loads

from ..db.rows.schedules import ScheduleRow
from ..errors import InvalidOption, PgJobsError
from ..job.options import HEADER, NAMES, check_meta, merge
from ..tasks.task import PgTask
from .schedule import find_own


def publish_entry(
    app: Any,
    task: str,
    args: Iterable[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    known: Mapping[str, Any],
) -> Any:
    """Publish a job of an entry with ``known`` in its meta; return the handle on its result."""
    given = [_called(value) for value in args]
    named = {key: _called(value) for key, value in kwargs.items()}
    sent = noted(app, task, options, known)
    registered = app.tasks.get(task)
    if registered is not None:
        return registered.apply_async(given, named, **sent)
    return app.send_task(task, given, named, **sent)


def _called(value: Any) -> Any:
    """The argument's value: a BeatLazyFunc computes it when the job is due."""
    return value() if isinstance(value, BeatLazyFunc) else value


def read_published(row: ScheduleRow, app: Any) -> tuple[Any, Any, Any]:
    """Arguments and options of the jobs of a row; the program's own where the row has none.

    Raises PgJobsError where this is not that program.
    """
    if row.args is not None and row.kwargs is not None and row.options is not None:
        return loads(row.args), loads(row.kwargs), loads(row.options)
    own = find_own(app, row.name) if row.is_configured else None
    if own is None:
        raise PgJobsError(
            f"entry {row.name!r} has arguments that only its program knows: run it there"
        )
    return own.args or (), own.kwargs or {}, own.options or {}


def noted(
    app: Any, task: str, options: Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of an entry's job, with ``known`` added to its meta.

    Raises InvalidOption for an option that only a PgTask can have.
    """
    noted = dict(options)
    headers = dict(noted.get("headers") or {})
    ours = {name: noted.pop(name) for name in NAMES if name in noted}
    ours["meta"] = {**check_meta(ours.get("meta") or {}), **known}
    if isinstance(app.tasks.get(task), PgTask):
        noted.update(ours)
    elif ours.pop("unique", None):
        raise InvalidOption(f"unique is for a PgTask that beat knows; {task} is not one")
    else:  # Celery would not know what they are
        headers[HEADER] = merge({}, ours, headers.get(HEADER))
    noted["headers"] = headers
    return noted

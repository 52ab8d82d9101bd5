"""Revoke jobs in their rows, before the command reaches the workers.

A worker's memory of a revoke is lost with the worker, and a worker that starts later knows nothing
of it. A job has one row, so ``destination`` makes no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kombu.utils.functional import maybe_list

from ..db.rows.results import possible_ids
from ..job.envelope import read_command
from .acting import CONTROL, begin_action
from .jobs import Selection

if TYPE_CHECKING:
    from ..db.database import Database
    from ..db.rows.audit import Action

#: The exchange over which workers are remote controlled (``control_exchange``).
PIDBOX = ".pidbox"

#: Celery's commands that revoke.
BY_ID, BY_STAMP = ("revoke", "terminate"), "revoke_by_stamped_headers"


def revoke_jobs(database: Database, message: Mapping[str, Any]) -> bool:
    """Cancel the jobs that a remote control command revokes; False for another command.

    The revoke of a task that is not yet published is kept: the task is cancelled on publishing.
    Raises InvalidOption for an unknown signal.
    """
    command = read_command(message)
    method, arguments = command.get("method"), command.get("arguments")
    if method not in (*BY_ID, BY_STAMP) or not isinstance(arguments, Mapping):
        return False
    terminate = bool(arguments.get("terminate")) or method == "terminate"
    signal = arguments.get("signal") or "SIGTERM"
    details = {"command": method, **({"signal": str(signal)} if terminate else {})}
    action = begin_action("cancel_jobs", via=CONTROL, details=details)
    for selection in _selections(database, method, arguments, action):
        selection.cancel(terminate=terminate, signal=signal)
    return True


def _selections(
    database: Database, method: Any, arguments: Mapping[str, Any], action: Action
) -> Iterator[Selection]:
    """The jobs that are meant; of those that have no row it is noted."""
    every = Selection(database, under=action)
    if method in BY_ID and (ids := possible_ids(maybe_list(arguments.get("task_id")) or ())):
        database.jobs.forbid_jobs(ids, action)
        yield every.filter(id=ids)
    elif method == BY_STAMP:
        for stamp, values in _stamps(arguments.get("headers")):
            yield every.filter(stamps={stamp: values})


def _stamps(headers: Any) -> Iterator[tuple[str, list[Any]]]:
    """Each stamp and its values: from a dict or, as the command line has it, ``name=value``."""
    if isinstance(headers, Mapping):
        given = [(str(name), maybe_list(values)) for name, values in headers.items()]
    else:
        words = [str(each).partition("=") for each in maybe_list(headers) or ()]
        given = [(name, [value]) for name, _, value in words]
    yield from ((name, values) for name, values in given if values)

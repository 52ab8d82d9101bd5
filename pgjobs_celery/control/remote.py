"""Tell workers to shut down, or to change their pools, by Celery's remote control."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidOption
from ..job.checks import did_you_mean, is_whole_number
from .acting import begin_action
from .app import database_of
from .filters import text
from .workers import list_workers

#: How long a worker may take to answer, in seconds. It answers between two tasks' messages.
ANSWER_SECONDS = 2.0
#: By how many a pool is changed at once, at most.
MOST = 100


@dataclass(frozen=True)
class Answer:
    """The answer of a worker to what it was told."""

    worker: str
    #: It has answered in time, and agreed.
    is_ok: bool
    #: Its words, or ours where it has not answered.
    text: str


def ping(app: Any, names: Iterable[str], timeout: float = ANSWER_SECONDS) -> list[Answer]:
    """Ask these workers whether they answer; one answer for each, in their order.

    Raises InvalidOption for the name of none that has a row. Two processes of one name are one.
    """
    chosen = _known(app, names)
    return _ask(app, "ping", chosen, {}, timeout)


def shut_down(app: Any, name: str) -> None:
    """Tell a worker to end when its running tasks have ended, as by SIGTERM; it does not answer.

    Raises InvalidOption for the name of none that has a row.
    """
    (name,) = _known(app, [name])
    _record(app, "shutdown_worker", name)
    app.control.shutdown(destination=[name])


def resize_pool(app: Any, name: str, by: int, timeout: float = ANSWER_SECONDS) -> Answer:
    """Have a worker run so many more tasks at once, or fewer where ``by`` is below 0.

    The answer says whether its pool can; that of solo and threads cannot. Raises InvalidOption for
    a number that is 0 or beyond 100, and for the name of no worker that has a row.
    """
    if not is_whole_number(by, -MOST, MOST) or by == 0:
        raise InvalidOption(f"a pool grows or shrinks by 1 to {MOST}, not {by!r}")
    (name,) = _known(app, [name])
    verb = "grow" if by > 0 else "shrink"
    _record(app, f"{verb}_pool", name, n=abs(by))
    return _ask(app, f"pool_{verb}", [name], {"n": abs(by)}, timeout)[0]


def _known(app: Any, names: Iterable[str]) -> Sequence[str]:
    """The names, each of which must be that of a worker that has a row."""
    there = {worker.name for worker in list_workers(database_of(app))}
    chosen = [text("worker", name) for name in names]
    for name in chosen:
        if name not in there:
            raise InvalidOption(f"there is no worker {name!r}{did_you_mean(name, there)}")
    return chosen


def _ask(
    app: Any, command: str, names: Sequence[str], arguments: dict[str, Any], timeout: float
) -> list[Answer]:
    replies = app.control.broadcast(
        command,
        arguments=arguments,
        destination=list(names),
        reply=True,
        timeout=timeout,
        limit=len(set(names)),  # so many answers end the wait
    )
    found: dict[str, Any] = {}
    for reply in replies or ():
        found.update(reply)
    return [read_answer(name, found.get(name), timeout) for name in names]


def read_answer(name: str, reply: Any, timeout: float) -> Answer:
    """A worker's reply; None for none."""
    if reply is None:
        return Answer(name, False, f"it has not answered within {timeout:g} s")
    if not isinstance(reply, dict):
        return Answer(name, True, str(reply))
    if "error" in reply:
        return Answer(name, False, str(reply["error"]))
    return Answer(name, True, str(reply.get("ok", reply)))


def _record(app: Any, action: str, name: str, **details: Any) -> None:
    """Write it down first: what cannot be recorded is not done."""
    audit = database_of(app).audit
    with audit.acting():
        audit.record_action(begin_action(action, app, details={"worker": name, **details}))

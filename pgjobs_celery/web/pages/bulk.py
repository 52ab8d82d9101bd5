"""Act on the jobs that are ticked, or on all that match: ask, do, and follow what takes long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from ...control.counting import count_states, total
from ...control.filters import Filters
from ...control.jobs import ACTS_ON
from ...control.listing import MOST, find
from ...control.operations import RECORDED, Operations, act
from ...control.spelled import COMMANDS, as_cli
from ...errors import InvalidOption
from ...job.spelling import read_duration
from ...job.states import State
from ..routes import Act, Page, Route
from ..runners import start
from ..searches import read_search

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..visit import Visit

#: Up to so many jobs are acted on while the visitor waits: one batch.
AT_ONCE = 1000

#: For how long a preview counts what no index counts, in seconds.
PREVIEW_SECONDS = 1.0

Options = dict[str, Any]


@dataclass(frozen=True)
class Deed:
    """Something that is done to jobs."""

    #: The method of Selection.
    action: str
    #: On the button, and in the question: ``Cancel 12 jobs?``
    label: str
    #: The participle: ``3 jobs were cancelled``.
    done: str
    #: Its arguments from the fields of the form; None where they have not been given yet.
    read: Callable[[Visit], Options | None]
    #: The options of the command that does the same.
    flags: Callable[[Options], Options]
    #: How it is undone; empty if it cannot be.
    undo: str = ""
    #: Ask first even for a few jobs that were ticked.
    asks: bool = False

    @property
    def permission(self) -> str:
        """The name of the right to it, and of its address."""
        return RECORDED[self.action]

    @property
    def states(self) -> str:
        """Those that it applies to."""
        *first, last = sorted(ACTS_ON[self.action])
        return f"{', '.join(first)} or {last}" if first else str(last)


def _field(visit: Visit, name: str) -> str:
    value = visit.form.get(name, "")
    return value.strip() if isinstance(value, str) else ""


def _nothing(visit: Visit) -> Options:
    return {}


def _reason(visit: Visit) -> Options:
    options: Options = {"reason": _field(visit, "reason")} if _field(visit, "reason") else {}
    if _field(visit, "terminate"):
        if why := visit.why_not("terminate_jobs"):
            raise InvalidOption(f"to end what runs: {why}")
        options["terminate"] = True
    return options


def _moment(visit: Visit) -> Options | None:
    return read_moment(_field(visit, "when"))


def read_moment(given: str) -> Options | None:
    """A time in ISO 8601, or a duration from now on; None for nothing. Raises InvalidOption."""
    if not given:
        return None
    try:
        moment = datetime.fromisoformat(given.replace("Z", "+00:00"))
    except ValueError:
        return {"countdown": read_duration(given)}
    return {"eta": (moment if moment.tzinfo else moment.astimezone()).isoformat()}


def _rank(visit: Visit) -> Options | None:
    given = _field(visit, "priority")
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 6):
        raise InvalidOption(f"priority must be 0 to 255, not {given[:40]!r}")
    return {"priority": int(given)}


def _queue(visit: Visit) -> Options | None:
    return {"queue": _field(visit, "queue")} if _field(visit, "queue") else None


def _renamed(**names: str) -> Callable[[Options], Options]:
    return lambda options: {
        flag: options[name] for name, flag in names.items() if options.get(name) is not None
    }


DEEDS = {
    deed.action: deed
    for deed in (
        Deed("retry", "Retry", "put in line again", _nothing, _renamed(),
             "Cancel them again; the results that they had are gone."),
        Deed("cancel", "Cancel", "cancelled, or told to stop", _reason,
             _renamed(reason="--reason", terminate="--terminate"),
             "Retry them: they go to the end of their lines."),
        Deed("reschedule", "Reschedule", "given another time", _moment,
             _renamed(countdown="--in", eta="--at")),
        Deed("set_priority", "Change priority", "given another priority", _rank,
             _renamed(priority="--to")),
        Deed("move", "Move", "moved", _queue, _renamed(queue="--to")),
        Deed("delete", "Delete", "deleted", _nothing, _renamed(), asks=True),
    )
}  # fmt: skip

#: The buttons above the list: the deed, the label, and fields that it sends.
BUTTONS: tuple[tuple[Deed, str, str, str], ...] = (
    (DEEDS["retry"], "Retry", "", ""),
    (DEEDS["cancel"], "Cancel", "", ""),
    (DEEDS["reschedule"], "Run now", "when", "0"),
    (DEEDS["reschedule"], "Time…", "", ""),
    (DEEDS["set_priority"], "Priority…", "", ""),
    (DEEDS["move"], "Queue…", "", ""),
    (DEEDS["delete"], "Delete…", "", ""),
)


def do(deed: Deed, visit: Visit) -> Response:
    """Do it, or ask first."""
    is_all = bool(_field(visit, "all"))
    ids = [] if is_all else [str(id) for id in visit.form.getlist("id")]
    if not ids and not is_all:
        text = "No job is ticked: tick some, or all that match."
        return visit.redirect(visit.back("jobs"), text, is_error=True)
    if len(ids) > MOST:
        raise InvalidOption(f"{MOST} jobs may be ticked at a time: act on all that match")
    is_sure = _field(visit, "sure") == "1"
    try:
        options = deed.read(visit)
        if not is_sure and (options is None or is_all or deed.asks):
            return _ask(deed, visit, ids)
        if options is None:
            raise InvalidOption(f"{deed.label.lower()} to what?")
        return _do_to_all(deed, visit, options) if is_all else _do_to(deed, visit, ids, options)
    except InvalidOption as error:
        return _ask(deed, visit, ids, str(error))


def _do_to(deed: Deed, visit: Visit, ids: list[str], options: Options) -> Response:
    changed = act(visit.source.jobs.filter(id=ids), deed.action, options)
    left = len(set(ids)) - len(changed)
    text = f"{_jobs(len(changed))} {deed.done}."
    if left:
        text += f" {_jobs(left)} left alone: {deed.label.lower()} is for what is {deed.states}."
    filters = Filters().narrow(id=ids)
    cli = as_cli(filters, COMMANDS[deed.action], deed.flags(options))
    return visit.redirect(visit.back("jobs"), text, cli=cli, is_error=not changed)


def _do_to_all(deed: Deed, visit: Visit, options: Options) -> Response:
    operations = Operations(visit.source.database, visit.source.app)
    read_search(visit, _field(visit, "q"))  # what is hidden is not acted on by a guess either
    until = _field(visit, "until")
    operation = operations.begin(
        deed.action,
        _field(visit, "q"),
        options,
        until=int(until) if until.isascii() and until.isdigit() and len(until) < 19 else None,
        expected=_field(visit, "expected")[:40],
        actor=visit.user.name,
    )
    expected = _field(visit, "expected").replace(",", "")
    if expected.isascii() and expected.isdigit() and int(expected[:9]) <= AT_ONCE:
        ended = operations.go_on(operation.id)
        cli = _command(deed, visit, _filters(visit, operation.search), options)
        return visit.redirect(visit.back("jobs"), f"{_jobs(ended.changed)} {deed.done}.", cli=cli)
    start(operations, operation.id)
    return visit.redirect(visit.url("operation", id=operation.id), "It has begun.")


def _ask(deed: Deed, visit: Visit, ids: list[str], error: str = "") -> Response:
    """How many it would be, and whether that is meant."""
    text = _field(visit, "q")
    filters = Filters().narrow(id=ids) if ids else _filters(visit, text)
    counts = count_states(visit.source.database, filters, seconds=PREVIEW_SECONDS)
    states = filters.given.get("state", frozenset(State))
    applies = {state: counts[state] for state in ACTS_ON[deed.action] & states}
    left = {state: counts[state] for state in states - applies.keys() if counts[state].number}
    count = total(applies)
    survey = visit.source.database.matches.survey_jobs()
    return visit.render(
        "bulk.html",
        400 if error else 200,
        deed=deed,
        ids=ids,
        text=text,
        error=error,
        count=count,
        applies={state: number for state, number in applies.items() if number.number},
        left=left,
        until=_field(visit, "until") or survey.newest or 0,
        values={name: _field(visit, name) for name in ("reason", "when", "priority", "queue")},
        back=visit.back("jobs"),
        cli=_command(deed, visit, filters, {}) if len(ids) <= 20 else "",
    )


def _filters(visit: Visit, text: str) -> Filters:
    return find(visit.source.database, read_search(visit, text)).filters


def _command(deed: Deed, visit: Visit, filters: Filters, options: Options) -> str:
    return as_cli(filters, COMMANDS[deed.action], deed.flags(options))


def _jobs(number: int) -> str:
    return f"{number:,} {'job was' if number == 1 else 'jobs were'}"


# Operations


def operation(visit: Visit) -> Response:
    """How far an operation is; asks again by itself while it runs."""
    operations = Operations(visit.source.database, visit.source.app)
    seen = operations.look(visit.query.get("id", ""))
    filters = _filters(visit, seen.operation.search)
    deed = DEEDS[seen.operation.action]
    response = visit.render(
        "operation.html",
        seen=seen,
        operation=seen.operation,
        began=datetime.fromisoformat(seen.operation.began_at),
        deed=deed,
        cli=_command(deed, visit, filters, seen.operation.options),
    )
    if seen.is_alive:
        response.headers["Refresh"] = "2"
    return response


def stop(visit: Visit) -> Response:
    """Have an operation end after the batch that it is at."""
    operations = Operations(visit.source.database, visit.source.app)
    operations.stop(_field(visit, "id"))
    to = visit.url("operation", id=_field(visit, "id"))
    return visit.redirect(to, "It ends after the batch that it is at.")


def resume(visit: Visit) -> Response:
    """Go on where it ended, or where its process fell silent."""
    operations = Operations(visit.source.database, visit.source.app)
    known = operations.look(_field(visit, "id")).operation
    if why := visit.why_not(RECORDED[known.action]):
        raise InvalidOption(why)
    if known.options.get("terminate") and (why := visit.why_not("terminate_jobs")):
        raise InvalidOption(f"to end what runs: {why}")
    if operations.resume(known.id):
        start(operations, known.id)
    return visit.redirect(visit.url("operation", id=known.id), "It goes on.")


def undo(visit: Visit) -> Response:
    """Take a cancellation back."""
    if why := visit.why_not("retry_jobs"):
        raise InvalidOption(why)
    operations = Operations(visit.source.database, visit.source.app)
    begun = operations.begin_undoing(_field(visit, "id"), visit.user.name)
    start(operations, begun.id)
    return visit.redirect(visit.url("operation", id=begun.id), "It is taken back.")


ROUTES: tuple[Route, ...] = (
    *(Act(f"/jobs/{COMMANDS[each.action]}", partial(do, each), each.permission)
      for each in DEEDS.values()),
    Page("/jobs/operation", operation, "operation"),
    Act("/jobs/operation/stop", stop, "stop_operation"),
    Act("/jobs/operation/resume", resume, "resume_operation"),
    Act("/jobs/operation/undo", undo, "undo_operation"),
)  # fmt: skip

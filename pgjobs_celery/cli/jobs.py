"""``celery pgjobs jobs`` and the commands beside it that show jobs and act on them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import InvalidOption
from ..job.checks import did_you_mean
from ..printable import one_line
from .database import database_options, find_database, reported, rights_of
from .filters import FILTER_OPTIONS, filter_options, read_duration
from .job_views import actions_of, as_data, described, jobs_of, print_table, result_of, steps_of
from .output import echo, echo_json, echo_lines, failure, json_option
from .signal import send_signal

if TYPE_CHECKING:
    from ..control.jobs import Selection

F = TypeVar("F", bound=Callable[..., Any])

#: How long the table is searched for ids that begin so, in seconds: each row of it is read.
SEARCH_SECONDS = 5.0


def action(name: str, done: str) -> Callable[[F], click.Command]:
    """A command that acts on the jobs that ids and filters name; ``done`` is its participle.

    The decorated function takes a selection, a progress callback, and the command's own options.
    """

    def decorate(act: F) -> click.Command:
        @click.pass_context
        def run(
            ctx: click.Context,
            /,
            url: str | None,
            schema: str | None,
            given: tuple[str, ...],
            is_all: bool,
            yes: bool,
            as_json: bool,
            **options: Any,
        ) -> None:
            tasks = options.get("task", ())
            with selected(ctx, url, schema, options, given) as (jobs, ids):
                if not jobs.is_filtered and not is_all:
                    raise click.UsageError("name ids or filters, or give --all for every job")
                # An action on no job still reports a wrong option.
                act(jobs.filter(id=[]), on_batch=None, **options)
                count = confirm(jobs, act.__name__, name, yes or bool(ids))
                with progress(count, as_json) as on_batch:
                    changed = act(jobs, on_batch=on_batch, **options) if count else []
                report(jobs, changed, ids, done, as_json)
                if not count and (hint := near_tasks(ctx, jobs, tasks)):
                    echo(hint, err=True)
                ctx.exit(1 if ids and set(ids) - set(changed) else 0)

        run.__doc__ = act.__doc__
        run.__click_params__ = getattr(act, "__click_params__", [])  # type: ignore[attr-defined]
        command: Any = run
        for option in (
            json_option,
            click.option("--yes", "-y", is_flag=True, help="Do not ask."),
            click.option("--all", "is_all", is_flag=True, help="Every job: there is no filter."),
            filter_options,
            click.argument("given", nargs=-1, metavar="[ID]..."),
        ):
            command = option(command)
        return click.command(name)(command)

    return decorate


@click.command("jobs")
@filter_options
@click.option(
    "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="0: all of them."
)
@click.option("--oldest-first", is_flag=True, help="The newest come first otherwise.")
@json_option
@click.pass_context
def list_jobs(
    ctx: click.Context,
    /,
    *,
    url: str | None,
    schema: str | None,
    limit: int,
    oldest_first: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """List jobs, newest first."""
    tasks = options.get("task", ())
    with selected(ctx, url, schema, options) as (jobs, _):
        found = jobs.list(limit or None, newest=not oldest_first)
        if as_json:
            echo_json([as_data(job) for job in found])
        elif found:
            print_table(found, no_color=bool(getattr(ctx.obj, "no_color", False)))
            if limit and len(found) == limit:
                echo(f"The first {limit}; --limit 0 shows all.")
        else:
            echo(" ".join(filter(None, ("No jobs.", near_tasks(ctx, jobs, tasks)))))


def not_there(id: str) -> click.ClickException:
    """The error for an id that names no job."""
    return click.ClickException(one_line(f"there is no job {id!r}"))


@click.command("show")
@database_options
@json_option
@click.argument("given", metavar="ID")
@click.pass_context
def show(
    ctx: click.Context, *, url: str | None, schema: str | None, as_json: bool, given: str
) -> None:
    """Show all that is known of one job, named by its id or the beginning of that."""
    with selected(ctx, url, schema, {}, (given,)) as (jobs, (id,)):
        job = jobs.get(id)
        if job is None:
            raise not_there(id)
        data = as_data(job) | result_of(jobs, job) | actions_of(jobs, job) | steps_of(jobs, job)
    if as_json:
        echo_json(data)
    else:
        echo_lines("\n".join(described(data)))


@click.command("explain")
@database_options
@json_option
@click.argument("given", metavar="ID")
@click.pass_context
def explain(
    ctx: click.Context, *, url: str | None, schema: str | None, as_json: bool, given: str
) -> None:
    """Say why a job does not run, or did not; it is named by its id or the beginning of that."""
    from ..control.explain import ANSWER_SECONDS
    from ..control.explain import explain as explain_job
    from ..db.database import answered_by
    from ..scopes.steady import monotonic

    with (
        answered_by(monotonic() + ANSWER_SECONDS),
        selected(ctx, url, schema, {}, (given,)) as (jobs, (id,)),
    ):
        found = explain_job(jobs.database, id)
        if found is None:
            raise not_there(id)
    if as_json:
        echo_json(asdict(found))
        return
    echo(found.text)
    if found.remedy is not None:
        echo(f"Try: {found.remedy}")


@action("cancel", "cancelled, or told to stop")
@click.option("--reason", default="", help="Is kept in the row and shown in the error.")
@click.option("--terminate", is_flag=True, help="End what runs, by --signal.")
@click.option("--signal", default="SIGTERM", show_default=True, help="The signal's name.")
def cancel(jobs: Selection, **options: Any) -> list[str]:
    """Cancel jobs: what waits never starts, what runs is told to stop."""
    return jobs.cancel(**options)


@action("retry", "put in line again")
@click.option(
    "--keep-time",
    "keeps_time",
    is_flag=True,
    help="Those whose time has not come wait for it again.",
)
@click.option("--forget-steps", is_flag=True, help="Do what their steps have done once more.")
def retry(jobs: Selection, **options: Any) -> list[str]:
    """Put jobs in line again that have finished, or wait for their time."""
    return jobs.retry(**options)


@action("delete", "deleted")
def delete(jobs: Selection, **options: Any) -> list[str]:
    """Delete jobs with their results; not those that run."""
    return jobs.delete(**options)


@action("reschedule", "rescheduled")
@click.option(
    "--in",
    "countdown",
    callback=read_duration,
    metavar="TIME",
    help="From now on: 90, 15m, 2h, 3d; 0: now.",
)
@click.option("--at", "eta", help="A time in ISO 8601: 2027-01-31T06:00+01:00.")
def reschedule(
    jobs: Selection, *, countdown: float | None, eta: str | None, **options: Any
) -> list[str]:
    """Run waiting jobs at another time."""
    if (countdown is None) == (eta is None):
        raise click.UsageError("say when: --in 15m, or --at 2027-01-31T06:00+01:00")
    return jobs.reschedule(countdown=countdown, eta=moment(eta), **options)


@action("prioritize", "given another priority")
@click.option("--to", "priority", type=int, required=True, help="0 to 255.")
def set_priority(jobs: Selection, *, priority: int, **options: Any) -> list[str]:
    """Give waiting jobs another priority."""
    return jobs.set_priority(priority, **options)


@action("move", "moved")
@click.option("--to", metavar="QUEUE", required=True, help="The queue.")
def move(jobs: Selection, *, to: str, **options: Any) -> list[str]:
    """Move waiting jobs to another queue."""
    return jobs.move(to, **options)


#: The commands that act, by the method of Selection that each runs.
ACTIONS: dict[str, click.Command] = {
    "cancel": cancel,
    "retry": retry,
    "delete": delete,
    "reschedule": reschedule,
    "set_priority": set_priority,
    "move": move,
}
#: The commands for ``celery pgjobs``.
COMMANDS = [list_jobs, show, explain, send_signal, *ACTIONS.values()]


@contextmanager
def selected(
    ctx: click.Context,
    url: str | None,
    schema: str | None,
    options: dict[str, Any],
    ids: tuple[str, ...] = (),
) -> Iterator[tuple[Selection, tuple[str, ...]]]:
    """The jobs that ids, and the filters among the options, select; removes the filters.

    With them the ids, each in full. Every error in the block is one line.
    """
    # Every celery command imports this module; only these open a database.
    from ..control.jobs import Selection
    from ..db.database import CONNECTION_ERRORS, get_database

    filters: dict[str, Any] = {}
    for name in FILTER_OPTIONS:
        value = options.pop(name, None)
        if value is not None and value != ():
            filters[name] = value
    app = getattr(ctx.obj, "app", None)
    with reported():
        database = get_database(*find_database(app, url, schema))
        database.rights = rights_of(ctx)
        try:
            every = Selection(database, app=app)
            ids = full_ids(every, ids)
            if ids:
                filters["id"] = [*filters.get("id", ()), *ids]
            yield every.filter(**filters), ids
        except CONNECTION_ERRORS as error:
            raise failure(error) from error
        finally:
            database.close()


def full_ids(jobs: Selection, given: tuple[str, ...]) -> tuple[str, ...]:
    """Full ids, from ids or from the beginning of exactly one."""
    if not given:
        return ()
    there = {job.task_id for job in jobs.filter(id=given)}
    full = []
    for id in given:
        found = [] if id in there or not id else ids_from(jobs, id)
        if len(found) > 1:
            few = ", ".join(sorted(found)[:3]) + (", ..." if found[3:] else "")
            raise click.ClickException(one_line(f"{id!r} is the beginning of several ids: {few}"))
        full.append(found[0] if found else id)
    return tuple(dict.fromkeys(full))


def ids_from(jobs: Selection, beginning: str) -> list[str]:
    """Up to four ids that begin so; raises ClickException where the table is too large to tell."""
    from ..db.database import OutOfTime, answered_by
    from ..scopes.steady import monotonic

    try:
        with answered_by(monotonic() + SEARCH_SECONDS):
            return jobs.database.matches.find_ids(beginning, 4)
    except OutOfTime:
        raise click.ClickException(
            one_line(
                f"there is no job {beginning!r}, and whether an id begins so was not found out in"
                f" {SEARCH_SECONDS:g} s: give the id in full"
            )
        ) from None


def near_tasks(ctx: click.Context, jobs: Selection, given: tuple[str, ...]) -> str:
    """Hints for task names without a job: the task that may be meant."""
    from ..control.jobs import jobs as jobs_of_database

    if not given:
        return ""
    known = {job.task for job in jobs_of_database(jobs.database).list(500)}
    if (app := getattr(ctx.obj, "app", None)) is not None:
        with suppress(Exception):  # it is only a hint
            app.loader.import_default_modules()
            known |= {name for name in app.tasks if not name.startswith("celery.")}
    hints = []
    for name in given:
        if name not in known:
            ends = sorted(each for each in known if each.rpartition(".")[2] == name)
            near = f"; did you mean {ends[0]!r}?" if ends else did_you_mean(name, known)
            hints.append(f"No task {name!r} is known here{near}")
    return one_line(" ".join(hints))


def confirm(jobs: Selection, method: str, name: str, is_sure: bool) -> int:
    """How many jobs the action will change; asks for confirmation."""
    from ..control.jobs import ACTS_ON

    count = jobs.filter(state=ACTS_ON[method]).count()
    if count and not is_sure:
        if not has_terminal():
            raise click.ClickException(
                f"this would {name} {jobs_of(count)}, and there is no terminal to ask: give --yes"
            )
        click.confirm(f"{name.capitalize()} {jobs_of(count)}?", abort=True, err=True)
    return count


def has_terminal() -> bool:
    """True if a person can be asked."""
    return sys.stdin.isatty()


@contextmanager
def progress(count: int, as_json: bool) -> Iterator[Callable[[int], object]]:
    """Show a bar on a terminal, for an action of several batches."""
    if as_json or count <= 1000 or not sys.stderr.isatty():
        yield lambda done: None
    else:
        with click.progressbar(length=count, file=sys.stderr) as bar:
            yield bar.update


def report(
    jobs: Selection, changed: list[str], ids: tuple[str, ...], done: str, as_json: bool
) -> None:
    """Print the result, and why a named job was not changed."""
    if as_json:
        echo_json({"count": len(changed), "ids": changed})
    else:
        echo(f"{jobs_of(len(changed))} {done}")
    left = [id for id in dict.fromkeys(ids) if id not in set(changed)]
    there = {job.task_id: job for job in jobs.filter(id=left)} if left else {}
    for id in left:
        job = there.get(id)
        why = f"it is {job.state}" if job else "there is no such job, or the filters exclude it"
        echo(f"Not changed: {id}: {why}", err=True)


def moment(text: str | None) -> datetime | None:
    """A time from ISO 8601; without a zone it is this machine's. Raises InvalidOption."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text.strip().replace("Z", "+00:00")).astimezone()
    except (ValueError, OverflowError):
        raise InvalidOption(f"{text!r} is not a time: write 2027-01-31T06:00+01:00") from None

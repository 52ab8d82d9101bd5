"""``celery pgjobs schedules``: look at the entries that beat publishes, and change them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..job.checks import did_you_mean
from .database import reported, rights_of
from .filters import read_duration, read_json
from .jobs import moment
from .output import echo, echo_json, failure, json_option
from .schedule_views import as_data, print_entries, when

if TYPE_CHECKING:
    from celery.schedules import BaseSchedule

    from ..beat.schedules import Schedules

#: Names that cannot stand in --options.
ARGUMENTS = (
    "name", "task", "schedule", "args", "kwargs", "missed", "missed_limit", "next_run_at",
)  # fmt: skip

names_argument = click.argument("names", nargs=-1, required=True, metavar="NAME...")


@click.group("schedules")
def schedules() -> None:
    """Look at the entries that beat publishes, change and run them."""


@schedules.command("list")
@json_option
@click.pass_context
def list_schedules(ctx: click.Context, *, as_json: bool) -> None:
    """List the entries: when they are due, and what came of the last time."""
    with controlled(ctx) as control:
        entries = list(control)
        if as_json:
            echo_json([as_data(entry) for entry in entries])
        elif entries:
            zone = control.app.timezone
            print_entries(entries, zone, no_color=bool(getattr(ctx.obj, "no_color", False)))
            echo(f"Times are those of {zone}.")
        else:
            echo(
                f"No entries of app {control.app.main!r}; those of beat_schedule are here once a "
                "beat has started."
            )


@schedules.command()
@json_option
@click.argument("name")
@click.pass_context
def show(ctx: click.Context, *, as_json: bool, name: str) -> None:
    """Show all that is known of one entry, and of the job that it has published last."""
    from ..control.jobs import jobs

    with controlled(ctx) as control:
        entry = control.get(name)
        if entry is None:
            raise no_entry(control, name)
        job = jobs(control.app).get(entry.last_task_id) if entry.last_task_id else None
        data = as_data(entry) | {"last_errors": job.errors if job else []}
    if as_json:
        echo_json(data)
        return
    width = max(map(len, data))
    for key, value in data.items():
        if value not in (None, [], {}, ""):
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            echo(f"{key:<{width}}  {shown}")


def schedule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options for when an entry is due."""
    for option in (
        click.option(
            "--solar", type=(str, float, float), metavar="EVENT LAT LON", help="Celery's."
        ),
        click.option("--tz", metavar="ZONE", help="Of --cron: Europe/Berlin; default: the app's."),
        click.option("--crontab", metavar="FIELDS", help="Celery's, in cron's order of fields."),
        click.option("--cron", metavar="EXPRESSION", help="'0 2 * * *', @daily."),
        click.option(
            "--every", callback=read_duration, metavar="TIME", help="An interval: 90, 15m, 2h, 3d."
        ),
    ):
        command = option(command)
    return command


@schedules.command()
@click.argument("name")
@click.argument("task")
@schedule_options
@click.option("--args", metavar="JSON", callback=read_json, help="An array: by position.")
@click.option("--kwargs", metavar="JSON", callback=read_json, help="An object: by name.")
@click.option("--queue", help="Where its jobs go.")
@click.option("--priority", type=int, help="0 to 255.")
@click.option("--tag", "tags", multiple=True, help="A tag of its jobs; may be repeated.")
@click.option("--max-attempts", type=int, help="How often a job may be begun.")
@click.option(
    "--expires", callback=read_duration, metavar="TIME", help="A job is not begun later than that."
)
@click.option("--options", metavar="JSON", callback=read_json, help="An object: what else.")
@click.option(
    "--missed",
    type=click.Choice(["once", "skip", "all"]),
    default="once",
    show_default=True,
    help="How to treat ticks for which no beat was running.",
)
@click.option("--missed-limit", type=int, default=100, show_default=True, help="Of --missed all.")
@click.option("--first", metavar="TIME", help="When it is due first: 2027-01-31T06:00+01:00.")
@click.option("--replace", is_flag=True, help="Change the entry, if there is one.")
@click.pass_context
def add(
    ctx: click.Context,
    /,
    *,
    name: str,
    task: str,
    every: float | None,
    cron: str | None,
    tz: str | None,
    crontab: str | None,
    solar: tuple[str, float, float] | None,
    args: Any,
    kwargs: Any,
    options: Any,
    missed: str,
    missed_limit: int,
    first: str | None,
    replace: bool,
    **given: Any,
) -> None:
    """Make an entry."""
    if options is not None and not isinstance(options, Mapping):
        raise click.UsageError("--options must be a JSON object")
    for key in options or {}:
        if key in ARGUMENTS:
            raise click.UsageError(f"{key!r} is not an option of a job: it has its own here")
    declared = {key: value for key, value in given.items() if value not in (None, ())}
    with controlled(ctx) as control:
        schedule = read_schedule(control.app, every, cron, tz, crontab, solar)
        entry = (control.put if replace else control.add)(
            name,
            task,
            schedule,
            () if args is None else args,
            kwargs,
            missed=missed,
            missed_limit=missed_limit,
            next_run_at=moment(first),
            **{**(options or {}), **declared},
        )
        echo(f"{entry.name} {when(entry, control.app.timezone)}")


@schedules.command()
@names_argument
@click.pass_context
def pause(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Publish no tick of these entries until they are resumed."""
    with controlled(ctx) as control:
        for name in names:
            if not control.pause(name):
                raise no_entry(control, name)
            echo(f"{name} is paused")


@schedules.command()
@names_argument
@click.pass_context
def resume(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Publish the ticks of these entries again, from the next one on."""
    with controlled(ctx) as control:
        for name in names:
            was_paused = control.resume(name)
            entry = control.get(name)
            if entry is None:
                raise no_entry(control, name)
            due = when(entry, control.app.timezone)
            echo(f"{name} {due}" if was_paused else f"{name} was not paused")


@schedules.command()
@names_argument
@click.pass_context
def run(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Publish these entries now, beside their ticks."""
    with controlled(ctx) as control:
        for name in names:
            result = control.run(name)
            if result is None:
                raise no_entry(control, name)
            echo(f"{name} is published as {result.id}")


@schedules.command()
@names_argument
@click.pass_context
def repair(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Repair the times of these entries that were written by hand and cannot be read."""
    with controlled(ctx) as control:
        for name in names:
            entry = control.get(name)
            if entry is None:
                raise no_entry(control, name)
            if not entry.damage:
                echo(f"{name} needs no repair")
                continue
            control.repair(name)
            echo(f"{name} {when(control.get(name) or entry, control.app.timezone)}")


@schedules.command()
@names_argument
@click.pass_context
def delete(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Take these entries away; not those of the program's beat_schedule."""
    with controlled(ctx) as control:
        for name in names:
            if not control.delete(name):
                raise no_entry(control, name)
            echo(f"{name} is deleted")


@schedules.command()
@json_option
@click.pass_context
def check(ctx: click.Context, *, as_json: bool) -> None:
    """Name what works, and maybe not as it is meant; exit with 1 if there is anything."""
    from ..beat.check import check_schedules

    with controlled(ctx) as control:
        findings = check_schedules(control.app, control, control.now())
    if as_json:
        echo_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            echo(f"{finding.name}: {finding.rule}: {finding.text}")
        if not findings:
            echo("Nothing to say.")
    ctx.exit(1 if findings else 0)


@schedules.command("import-django-celery-beat")
@click.option("--from", "url", metavar="URL", help="Where its tables are; default: the app's.")
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would become of each.")
@json_option
@click.pass_context
def import_django(ctx: click.Context, *, url: str | None, dry_run: bool, as_json: bool) -> None:
    """Take over the entries of django-celery-beat; exit with 1 if any is left out."""
    from ..beat.django_celery_beat import LEFT_OUT, import_entries
    from ..db.dsn import parse_url
    from ..db.rows.django_celery_beat import read_django_entries

    with controlled(ctx) as control:
        there = read_django_entries(parse_url(url) if url else control.database.conninfo)
        outcomes = list(import_entries(control, there, dry_run=dry_run))
    if as_json:
        echo_json([asdict(outcome) for outcome in outcomes])
    else:
        for outcome in outcomes:
            actions = "; ".join((outcome.action, *outcome.notes))
            echo(f"{outcome.name}: {actions}")
        counts = Counter(outcome.action for outcome in outcomes)
        totals = ", ".join(f"{count} {action}" for action, count in sorted(counts.items()))
        echo(f"{totals or 'No entries there'}{': nothing was written' if dry_run else ''}")
    ctx.exit(1 if any(outcome.action == LEFT_OUT for outcome in outcomes) else 0)


@contextmanager
def controlled(ctx: click.Context) -> Iterator[Schedules]:
    """The entries of the app; every error in the block is one line.

    It takes no --url: entries belong to an app, which has the tasks and the time zone.
    """
    # Every celery command imports this module; only these open a database.
    from ..beat.schedules import Schedules
    from ..db.database import CONNECTION_ERRORS

    app = ctx.obj.app
    if app.main == "default" and all(name.startswith("celery.") for name in app.tasks):
        # Celery's stand-in for an app that was not named; no beat would publish what it has.
        raise click.UsageError("entries belong to an app: name it with `celery -A proj`")
    with reported():
        try:
            app.loader.import_default_modules()  # its tasks, as a beat has them
            control = Schedules(app)
            control.database.rights = rights_of(ctx)
        except ImportError as error:
            raise failure(ImportError(f"the app cannot be loaded: {error}")) from error
        try:
            yield control
        except CONNECTION_ERRORS as error:
            raise failure(error) from error
        finally:
            control.database.close()


def no_entry(control: Schedules, name: str) -> click.ClickException:
    """The error for an unknown name, with the nearest one."""
    near = did_you_mean(name, [entry.name for entry in control])
    return click.ClickException(f"app {control.app.main!r} has no entry {name!r}{near}")


def read_schedule(
    app: Any,
    every: float | None,
    expression: str | None,
    tz: str | None,
    fields: str | None,
    sun: tuple[str, float, float] | None,
) -> BaseSchedule | float:
    """The one schedule that is given. Raises click.UsageError if there is not one."""
    from celery.schedules import crontab, solar

    from ..beat.cron import cron
    from ..errors import InvalidOption

    if sum(each is not None for each in (every, expression, fields, sun)) != 1:
        raise click.UsageError("say when it is due: --every, --cron, --crontab or --solar")
    if tz is not None and expression is None:
        raise click.UsageError("--tz belongs to --cron")
    if expression is not None:
        return cron(expression, tz, app=app)
    if every is not None:
        return every
    try:
        if sun is not None:
            return solar(*sun, app=app)
        words = str(fields).split()
        if len(words) != 5:
            raise InvalidOption("write minute, hour, day of month, month and day of week")
        minute, hour, day_of_month, month_of_year, day_of_week = words
        return crontab(minute, hour, day_of_week, day_of_month, month_of_year, app=app)
    except Exception as error:  # solar() without its library has one of its own, and so has crontab
        raise InvalidOption(f"Celery has no schedule {fields or sun!r}: {error}") from error

"""``celery pgjobs doctor``: everything that is wrong with a database and an app."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from .database import database_options, find_database, reported
from .output import echo, echo_json, json_option

if TYPE_CHECKING:
    from ..control.doctor.findings import Report


@click.command("doctor")
@database_options
@json_option
@click.pass_context
def doctor(ctx: click.Context, *, url: str | None, schema: str | None, as_json: bool) -> None:
    """Say what is wrong with the database and the app; exit with 1 for an error or a warning."""
    # Every celery command imports this module; only this one examines a database.
    from ..beat.doctor import look_at_schedules
    from ..control.doctor.doctor import doctor as examine
    from ..db.database import get_database
    from ..db.dsn import describe

    app = getattr(ctx.obj, "app", None)
    named = None if app is None or is_stand_in(app) else app
    with reported():
        database = get_database(*find_database(app, url, schema))
        more: dict[str, Callable[[], Any]] = {}
        if named is not None:
            more["schedules"] = partial(look_at_schedules, named, database)
        report = examine(database, named, more=more)
        database.close()
    if as_json:
        echo_json(
            {
                "database": describe(database.conninfo),
                "schema": database.schema,
                "findings": [asdict(each) for each in report.findings],
                "left_out": report.left_out,
            }
        )
    else:
        for line in lines(report):
            echo(line)
    ctx.exit(0 if report.is_well else 1)


def is_stand_in(app: Any) -> bool:
    """True for the app that Celery makes up where none was named."""
    return app.main == "default" and all(name.startswith("celery.") for name in app.tasks)


def lines(report: Report) -> Iterator[str]:
    """The report for people: a paragraph for each finding, the worst first."""
    for each in report.findings:
        yield f"{each.severity.value:<7}  {each.code}: {each.title}"
        yield f"{'':9}{each.evidence}"
        yield f"{'':9}Try: {each.remedy}"
    for why in dict.fromkeys(report.left_out.values()):
        families = [family for family, reason in report.left_out.items() if reason == why]
        yield f"left out: {', '.join(families)} ({why})"
    counts = Counter(each.severity.value for each in report.findings)
    totals = ", ".join(
        f"{number} {name}{'' if number == 1 else 's'}" for name, number in counts.items()
    )
    yield totals or "Nothing is wrong."

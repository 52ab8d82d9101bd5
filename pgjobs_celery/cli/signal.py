"""``celery pgjobs signal``: send a job what it waits for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidOption
from ..printable import one_line
from .database import database_options, find_database, reported, rights_of
from .output import echo, echo_json, failure, json_option

if TYPE_CHECKING:
    from ..job.steps import Key


@click.command("signal")
@database_options
@click.option("--key", is_flag=True, help="ADDRESS is the key that the job waits with.")
@click.option("--payload", metavar="JSON", default="null", show_default=True)
@click.option("--first", is_flag=True, help="Only if none of this name was sent there before.")
@json_option
@click.argument("address")
@click.argument("name")
@click.pass_context
def send_signal(
    ctx: click.Context,
    *,
    url: str | None,
    schema: str | None,
    key: bool,
    payload: str,
    first: bool,
    as_json: bool,
    address: str,
    name: str,
) -> None:
    """Send a signal NAME to the job with the id ADDRESS: it goes on if it waits for that.

    A job that does not wait yet, or is not there yet, gets it later. Exits with 1 if --first is
    given, and another was sent before.
    """
    from ..control.signal import send
    from ..db.database import CONNECTION_ERRORS, get_database
    from ..job.steps import Key

    to: str | Key = Key(address) if key else address
    app = getattr(ctx.obj, "app", None)
    with reported():
        database = get_database(*find_database(app, url, schema))
        database.rights = rights_of(ctx)
        try:
            was_sent = bool(send(database, app, [(to, name, _value(payload))], first=first))
        except CONNECTION_ERRORS as error:
            raise failure(error) from error
        finally:
            database.close()
    if as_json:
        echo_json({"sent": was_sent})
    elif was_sent:
        echo(one_line(f"Signal {name} was sent to {address}."))
    else:
        echo(one_line(f"Not sent: {address} has got a signal {name} before."), err=True)
    ctx.exit(0 if was_sent else 1)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidOption(f"--payload must be JSON: {error}") from None

"""``celery pgjobs web``: serve the page to browsers."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import click

from ..errors import InvalidOption, RequirementMissing
from .database import database_options, find_database, reported
from .doctor import is_stand_in
from .output import echo

if TYPE_CHECKING:
    from ..db.database import Database


@click.command()
@database_options
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option("--address", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--role",
    type=click.Choice(["viewer", "operator", "admin"]),
    default="viewer",
    show_default=True,
    help="What everybody may do who can reach the page.",
)
@click.option("--prefix", default="", help="The path at which a proxy shows the page: /jobs.")
@click.pass_context
def web(
    ctx: click.Context,
    *,
    url: str | None,
    schema: str | None,
    port: int,
    address: str,
    role: str,
    prefix: str,
) -> None:
    """Serve a page to see what waits, runs and fails, and to act on it."""
    # Every celery command imports this module; only this one serves pages.
    from ..db.database import get_database

    app = getattr(ctx.obj, "app", None)
    with reported():
        try:
            import uvicorn
        except ModuleNotFoundError:
            raise RequirementMissing(
                "the web page needs uvicorn: pip install 'pgjobs-celery[web]'"
            ) from None
        from ..web import dashboard

        refuse_public(address)
        database = get_database(*find_database(app, url, schema))
        named = None if url or app is None or is_stand_in(app) else app
        page = dashboard(database if named is None else named, role=role)
        check(database)
        echo(f"the page is at http://{address}:{port}{prefix}/ (every visitor is {role})")
        uvicorn.run(page, host=address, port=port, root_path=prefix, log_level="warning")


def check(database: Database) -> None:
    """Connect once, so that an error is a line here rather than a page."""
    from ..web.sources import RIGHTS

    database.rights = RIGHTS
    database.verify()
    database.close()


def refuse_public(address: str) -> None:
    """Raise InvalidOption for an address that others can reach: the page has no login there."""
    try:
        is_local = address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_local = False
    if not is_local:
        raise InvalidOption(
            f"{address} can be reached from elsewhere, and the page would have no login: listen at "
            "127.0.0.1 behind a proxy, or mount dashboard(app, login=...) in an app of yours"
        )

"""``celery pgjobs web``: serve the page to browsers."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidOption, RequirementMissing
from .database import find_database, reported
from .doctor import is_stand_in
from .output import echo

if TYPE_CHECKING:
    from ..web.logins import Login

#: Where names and passwords may stand instead of a file.
PASSWORDS = "PGJOBS_WEB_PASSWORDS"
#: The name of that file, where it is no option.
FILE = f"{PASSWORDS}_FILE"
#: The addresses that are taken for a proxy's by default.
LOCAL = ("127.0.0.1", "::1")

_NAMED = re.compile(r"(?P<name>[\w.-]+)=(?P<url>[\w+]+://.*)", re.DOTALL)


@dataclass(frozen=True)
class Access:
    """The visitors that may reach the page, and from where, as the command line has it."""

    address: str
    role: str
    users: Sequence[str] = ()
    passwords: str = ""
    user_header: str = ""
    trust: Sequence[str] = ()
    origins: Sequence[str] = ()

    @property
    def has_login(self) -> bool:
        """True if visitors are told apart."""
        return bool(self.user_header or self.passwords)

    @property
    def roles(self) -> dict[str, str]:
        """The role of each user that is named. Raises InvalidOption."""
        found = {}
        for given in self.users:
            name, colon, role = given.rpartition(":")
            if not colon or not name:
                raise InvalidOption(f"--user is a name and a role, such as alice:admin: {given!r}")
            found[name] = role
        return found

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names under which a page without a login is shown."""
        named = [origin.partition("://")[2].rsplit(":", 1)[0] for origin in self.origins]
        return () if self.has_login else ("localhost", *LOCAL, self.address, *named)

    @property
    def words(self) -> str:
        """The roles of visitors, in a few words."""
        if self.user_header:
            return f"a proxy names the user in {self.user_header}"
        return "by name and password" if self.passwords else f"every visitor is {self.role}"

    def login(self) -> Login | None:
        """The hook; None where all visitors are alike. Raises InvalidOption."""
        from ..web.logins import basic_auth, trusted_header

        if self.user_header and self.passwords:
            raise InvalidOption("passwords and --user-header cannot be used together")
        if self.user_header:
            return trusted_header(
                self.user_header, trust=self.trust or LOCAL, roles=self.roles, role=self.role
            )
        if self.passwords:
            return basic_auth(read_passwords(self.passwords), roles=self.roles, role=self.role)
        if self.users:
            raise InvalidOption(
                f"--user needs passwords (--passwords FILE, or {PASSWORDS}), or --user-header"
            )
        self.refuse_public()
        return None

    def refuse_public(self) -> None:
        """Raise InvalidOption for an address that others can reach: there is no login."""
        try:
            local = self.address == "localhost" or ipaddress.ip_address(self.address).is_loopback
        except ValueError:
            local = False
        if not local:
            raise InvalidOption(
                f"{self.address} can be reached from elsewhere, and the page would have no login: "
                "give --user and --passwords, or --user-header behind a proxy, listen at "
                "127.0.0.1, or mount dashboard(app, login=...) in an app of yours"
            )


def find_passwords(file: str | None) -> str:
    """What the file or the environment has of passwords; empty where neither is given.

    Raises InvalidOption for one that is given and empty: the page would be open to everybody.
    """
    found = Path(file).read_text("utf-8") if file else os.environ.get(PASSWORDS, "")
    names = [file] if file else [name for name in (FILE, PASSWORDS) if name in os.environ]
    if names and not found.strip():
        raise InvalidOption(
            f"{names[0]} is empty: give name:password, one a line, or unset it for a page without "
            "a login"
        )
    return found


def read_passwords(text: str) -> dict[str, str]:
    """``name:password`` or ``name:hash``, one a line. Raises InvalidOption, without passwords."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, password = line.partition(":")
        if not colon or not name.strip() or not password.strip():
            raise InvalidOption(f"line {number} of the passwords is not name:password")
        found[name.strip()] = password.strip()
    return found


def by_name(given: Sequence[str], what: str) -> dict[str, str]:
    """``name=value`` or a value alone, whose name is empty. Raises InvalidOption."""
    found: dict[str, str] = {}
    for each in given:
        named = _NAMED.fullmatch(each) if what == "--url" else re.fullmatch(r"(.+)=(.*)", each)
        name, value = (named[1], named[2]) if named else ("", each)
        if name in found:
            of = f" of {name}" if name else " without a name"
            raise InvalidOption(f"{what}{of} is given twice: write name=... for each")
        found[name] = value
    return found


def find_sources(app: Any, urls: Sequence[str], schemas: Sequence[str]) -> Any:
    """The sources that :func:`~pgjobs_celery.web.dashboard` shows: app, database, or URLs."""
    from ..db.database import get_database

    named, schema = by_name(urls, "--url"), by_name(schemas, "--schema")
    if unknown := schema.keys() - named.keys() - {""}:
        raise InvalidOption(f"--schema names {min(unknown)!r}, which no --url does")

    def database(url: str | None, name: str = "") -> Any:
        return get_database(*find_database(app, url, schema.get(name) or schema.get("")))

    has_tasks = app is not None and not is_stand_in(app)
    if has_tasks:
        app.loader.import_default_modules()  # all of them, as a worker has them
    own = app if has_tasks and not schema.get("") else None
    if not named:
        return own or database(None)
    found = {name or "jobs": database(url, name) for name, url in named.items()}
    if own is not None and "" not in named:
        # The app's first, with the archives beside it.
        found = {"app": own, **found}
    return found if len(found) > 1 or "" not in named else found["jobs"]


def web_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of the command."""
    role = click.Choice(["viewer", "operator", "admin"])
    for option in (
        click.option(
            "--url", "urls", multiple=True, metavar="[NAME=]URL",
            help="pgjobs://user@host:5432/database; default: the app's. Repeat it, with names, for "
            "several.",
        ),
        click.option(
            "--schema", "schemas", multiple=True, metavar="[NAME=]SCHEMA",
            help="The schema of the tables, of all URLs or of a named one.",
        ),
        click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True),
        click.option("--address", default="127.0.0.1", show_default=True, help="Where to listen."),
        click.option(
            "--role", type=role, default="viewer", show_default=True,
            help="The role of every visitor whom no --user names; a viewer only reads.",
        ),
        click.option(
            "--user", "users", multiple=True, metavar="NAME:ROLE", help="The role of a user.",
        ),
        click.option(
            "--passwords", type=click.Path(exists=True, dir_okay=False), envvar=FILE,
            help=f"A file with name:password, or name:hash, a line; or all in {PASSWORDS}.",
        ),
        click.option(
            "--hash-password", "hashes", is_flag=True,
            help="Ask for a password, print its hash for the file, and leave.",
        ),
        click.option("--user-header", default="", help="Where a proxy names the user."),
        click.option(
            "--trust", multiple=True, metavar="NETWORK",
            help="Whose X-Forwarded-... and --user-header count; default: this machine.",
        ),
        click.option(
            "--origin", "origins", multiple=True,
            help="https://jobs.example.com, where a proxy shows the page.",
        ),
        click.option("--prefix", default="", help="The path at which a proxy shows it: /jobs."),
        click.option(
            "--stripped", is_flag=True, help="The proxy takes the prefix away from the path.",
        ),
        click.option("--title", default="Jobs", show_default=True),
    )[::-1]:  # fmt: skip
        command = option(command)
    return command


@click.command()
@web_options
@click.pass_context
def web(
    ctx: click.Context,
    /,
    *,
    urls: Sequence[str],
    schemas: Sequence[str],
    port: int,
    prefix: str,
    stripped: bool,
    passwords: str | None,
    hashes: bool,
    title: str,
    **access: Any,
) -> None:
    """Serve a page to see what waits, runs and fails, and to act on it."""
    # Every celery command imports this module; only this one serves pages.
    with reported():
        try:
            from ..web.server import listen, serve
        except ModuleNotFoundError as error:
            if error.name != "uvicorn":
                raise
            raise RequirementMissing(
                "the web page needs uvicorn: pip install 'pgjobs-celery[web]'"
            ) from None
        from ..web import dashboard, hash_password
        from ..web.proxies import check_prefix

        if hashes:
            word = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
            echo(hash_password(word))
            return
        given = Access(passwords=find_passwords(passwords), **access)
        page = dashboard(
            find_sources(getattr(ctx.obj, "app", None), urls, schemas),
            role=given.role,
            login=given.login(),
            trusted_origins=given.origins,
            hosts=given.hosts,
            title=title,
        )
        base = check_prefix(prefix)
        check(page.state.pgjobs.sources)
        with listen(given.address, port) as sock:
            place = f"[{given.address}]" if ":" in given.address else given.address
            number = sock.getsockname()[1]
            echo(f"the page is at http://{place}:{number}{base}/ ({given.words})")
            serve(page, sock, trust=given.trust or LOCAL, prefix=base, strips=stripped)


def check(sources: Mapping[str, Any]) -> None:
    """Connect once, so that an error is a line here; one of several may come later."""
    from ..db.database import CONNECTION_ERRORS
    from ..errors import PgJobsError

    for source in sources.values():
        try:
            source.database.check()
        except (PgJobsError, *CONNECTION_ERRORS) as error:
            if len(sources) == 1:
                raise
            echo(f"Warning: {source.name}: {error}", err=True)
        finally:
            source.database.close()

"""Turn a ``pgjobs://`` URL into a libpq connection string, and show one without its secrets."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ..errors import InvalidURL

SCHEMES = ("pgjobs+postgresql", "pgjobs+postgres", "pgjobs", "postgresql", "postgres")

#: libpq parameters that hold a secret.
_SECRETS = frozenset({"password", "sslpassword", "sslkey", "passfile", "oauth_client_secret"})


def parse_url(url: str) -> str:
    """The libpq connection string for a ``pgjobs://`` (or ``pgjobs+postgresql://``) URL.

    Everything behind the scheme is libpq's: several hosts, ``sslmode``, ``?host=/socket``,
    service files, ``target_session_attrs``. Raises InvalidURL, without the URL's password.

    >>> parse_url("pgjobs://app@db/app?connect_timeout=3")
    'user=app dbname=app host=db connect_timeout=3'
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise InvalidURL(
            f"{hide_secrets(url)!r} is not a pgjobs URL; write pgjobs://user@host:5432/database"
        )
    try:
        params: dict[str, Any] = conninfo_to_dict(f"postgresql://{rest}")
        _refuse_unescaped(params)
        return make_conninfo(**params)
    except ProgrammingError as error:
        # libpq's message may quote the URI, password and all; keep only what it says is wrong.
        reason = str(error).split(":", 1)[0].split('"', 1)[0].strip()
        raise InvalidURL(
            f"{hide_secrets(url)!r} is not a PostgreSQL URI ({reason or 'cannot be parsed'}); "
            "write pgjobs://user@host:5432/database?sslmode=require"
        ) from None


def _refuse_unescaped(params: dict[str, Any]) -> None:
    """libpq reads an unescaped ``/`` or ``@`` in a password as part of host, port or database,
    and would then show pieces of the password in its errors."""
    port = str(params.get("port") or "")
    name_and_host = f"{params.get('dbname') or ''}{params.get('host') or ''}"
    if "@" in name_and_host or (port.strip(",") and not port.replace(",", "").isdigit()):
        raise InvalidURL(
            "the broker or backend URL cannot be split into user, host, port and database; "
            "write /, @, : and # in a user name or password as %2F, %40, %3A and %23"
        )


class Target(str):
    """Where to connect, as text that is fit to be shown; ``conninfo`` holds the secrets.

    kombu and Celery show a connection's ``hostname`` and alternates in log lines, ``inspect
    stats`` and reprs. This is what they get to show.
    """

    conninfo: str

    def __new__(cls, url: str) -> Target:
        conninfo = parse_url(url)
        target = super().__new__(cls, describe(conninfo))
        target.conninfo = conninfo
        return target

    def __reduce__(self) -> tuple[Any, ...]:
        return _target_from, (str(self), self.conninfo)


def _target_from(text: str, conninfo: str) -> Target:
    target = str.__new__(Target, text)
    target.conninfo = conninfo
    return target


def hide_secrets(url: str) -> str:
    """``url`` with every secret in it replaced by ``**``, fit for a log line.

    >>> hide_secrets("pgjobs://app:secret@db/app")
    'pgjobs://app:**@db/app'
    """
    head, separator, rest = url.partition("://")
    if not separator:
        return "**" if "=" in url or "@" in url else url
    # The last @ before the path: a password may hold one.
    authority, slash, tail = rest.partition("/")
    if "@" not in authority and "@" in rest:  # an unescaped / in the password
        authority, _, tail = rest.rpartition("@")
        authority, slash = f"{authority}@", ""
    user_info, at, hosts = authority.rpartition("@")
    user, colon, _ = user_info.partition(":")
    shown = f"{user}:**@{hosts}" if colon else f"{user_info}{at}{hosts}"
    path, question, query = tail.partition("?")
    if not slash and not question:
        shown, question, query = (*shown.partition("?"),)
    if query:
        query = "&".join(
            f"{name}={'**' if name in _SECRETS else value}"
            for name, value in parse_qsl(query, keep_blank_values=True)
        )
    return f"{head}://{shown}{slash}{path}{question}{query}"


def describe(conninfo: str) -> str:
    """Where a connection string leads, for an error: ``user@host:port/database``."""
    params = conninfo_to_dict(conninfo)
    host = params.get("host") or params.get("hostaddr") or "local socket"
    port = f":{params['port']}" if params.get("port") else ""
    user = f"{params['user']}@" if params.get("user") else ""
    return f"{user}{host}{port}/{params.get('dbname') or ''}"

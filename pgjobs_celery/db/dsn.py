"""Turn a ``pgjobs://`` URL into a libpq connection string, and show one without its secrets."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from ..errors import InvalidURL

#: Those of a broker or backend; and PostgreSQL's own, which kombu and Celery make of two of them.
OURS = ("pgjobs+postgresql", "pgjobs+postgres", "pgjobs")
BARE = ("postgresql", "postgres")
SCHEMES = (*OURS, *BARE)
#: Those of a database that Django's settings name; the second is what kombu and Celery make of it.
DJANGO_SCHEMES = ("pgjobs+django", "django")

#: libpq parameters that hold a secret.
_SECRETS = frozenset({"password", "sslpassword", "sslkey", "passfile", "oauth_client_secret"})

#: Every parameter that libpq knows; and one that it takes in a URI only.
PARAMETERS = frozenset(option.keyword.decode() for option in Conninfo.get_defaults())
_IN_URI = PARAMETERS | {"ssl"}

_HOST = r"(?:\[[^\[\]]*\]|[^\[\]:,]*)(?::\d*)?"
_HOSTS = re.compile(f"{_HOST}(?:,{_HOST})*")


# Sentry opens a connection of Celery's for each task, to ask for its name: 70 µs are parsing.
@lru_cache(maxsize=64)
def parse_url(url: str) -> str:
    """The libpq connection string for a ``pgjobs://`` (or ``pgjobs+postgresql://``) URL.

    Everything behind the scheme is libpq's: several hosts, ``sslmode``, ``?host=/socket``,
    service files, ``target_session_attrs``. For ``pgjobs+django://alias`` it stands for what
    Django's settings say when a connection is opened (:mod:`pgjobs_celery.db.django_aliases`).
    Raises
    InvalidURL, without the URL's password.

    >>> parse_url("pgjobs://app@db/app?connect_timeout=3")
    'user=app dbname=app host=db connect_timeout=3'
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme in DJANGO_SCHEMES:
        return _parse_alias(url, rest)
    if not separator or scheme not in SCHEMES:
        raise InvalidURL(
            f"{hide_secrets(url)!r} is not a pgjobs URL; write pgjobs://user@host:5432/database"
        )
    try:
        params: dict[str, Any] = conninfo_to_dict(f"postgresql://{rest}")
    except ProgrammingError as error:
        # libpq's message may quote the URI, password and all; keep only what it says is wrong.
        reason = str(error).split(":", 1)[0].split('"', 1)[0].strip()
        raise InvalidURL(
            f"{hide_secrets(url)!r} is not a PostgreSQL URI ({reason or 'cannot be parsed'}); "
            "write pgjobs://user@host:5432/database?sslmode=require"
        ) from None
    _refuse_unescaped(rest, params)
    return make_conninfo(**params)


def _parse_alias(url: str, alias: str) -> str:
    if re.search("[/?#@:]", alias):
        raise InvalidURL(
            f"{hide_secrets(url)!r} says more than pgjobs+django://alias does: host, user, OPTIONS "
            "and the rest stand in Django's DATABASES"
        )
    return f"django://{unquote(alias) or 'default'}"


def alias_of(conninfo: str) -> str | None:
    """The alias that a connection string stands for; None for libpq's own.

    >>> alias_of(parse_url("pgjobs+django://default"))
    'default'
    """
    scheme, separator, alias = conninfo.partition("://")
    return alias if separator and scheme == "django" else None


def _refuse_unescaped(rest: str, params: dict[str, Any]) -> None:
    """libpq reads an unescaped ``/`` or ``@`` in a password as part of host, port or database,
    and would then show pieces of the password in its errors."""
    port = str(params.get("port") or "")
    if _is_ambiguous(rest) or (port.strip(",") and not port.replace(",", "").isdigit()):
        raise InvalidURL(
            "the broker or backend URL cannot be split into user, host, port and database; "
            "write /, @, : and # in a user name or password as %2F, %40, %3A and %23"
        )


def first_url(setting: Any) -> str | None:
    """The first pgjobs URL of a ``broker_url``: one, several with ``;`` between, or a list."""
    return next(iter(our_urls(setting)), None)


def our_urls(setting: Any) -> list[str]:
    """The pgjobs URLs of a ``broker_url``."""
    schemes = (*OURS, *DJANGO_SCHEMES)
    return [url for url in urls_of(setting) if url.partition("://")[0] in schemes]


def urls_of(setting: Any) -> list[str]:
    """The URLs of a ``broker_url``."""
    if not setting:
        return []
    return setting.split(";") if isinstance(setting, str) else [str(each) for each in setting]


def bare_url(setting: Any) -> str | None:
    """The first URL of a ``broker_url`` that is PostgreSQL's own, and not a broker's; or None."""
    return next((url for url in urls_of(setting) if url.partition("://")[0] in BARE), None)


def write_ours(url: str) -> str:
    """The error for a URL of PostgreSQL's own where a broker or backend is named."""
    return (
        f"{hide_secrets(url)!r} names a database, and no broker or result backend of Celery's: "
        "write pgjobs:// in place of postgresql://"
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

    @property
    def parts(self) -> dict[str, Any]:
        """Port, user and database as kombu calls them, where the URL has them; nothing secret."""
        if alias_of(self.conninfo) is not None:
            return {}
        params = conninfo_to_dict(self.conninfo)
        # libpq's several hosts may each have a port: the first is the one that is tried first.
        port = str(params.get("port") or "").partition(",")[0]
        return {
            "port": int(port) if port.isdigit() else None,
            "userid": params.get("user"),
            "virtual_host": params.get("dbname") or "/",
        }

    @property
    def uri(self) -> str:
        """A URI that is fit to be shown."""
        alias = alias_of(self.conninfo)
        return f"pgjobs://{self}" if alias is None else f"pgjobs+django://{quote(alias)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _target_from, (str(self), self.conninfo)


def _target_from(text: str, conninfo: str) -> Target:
    target = str.__new__(Target, text)
    target.conninfo = conninfo
    return target


def hide_secrets(url: str) -> str:
    """``url`` with every secret in it replaced by ``**``, fit for a log line.

    Where it cannot be told what is a secret (a ``/``, ``@`` or ``?`` that was not escaped), only
    the scheme is shown.

    >>> hide_secrets("pgjobs://app:secret@db/app")
    'pgjobs://app:**@db/app'
    """
    head, separator, rest = url.partition("://")
    if not separator or not re.fullmatch("[a-z][a-z0-9+.-]*", head):
        return "**" if re.search("[=@:]", url) else url
    if _is_ambiguous(rest):
        return f"{head}://**"
    before, question, query = rest.partition("?")
    authority, slash, path = before.partition("/")
    user_info, _, hosts = authority.rpartition("@")
    user, colon, _ = user_info.partition(":")
    shown = f"{user}:**@{hosts}" if colon else authority
    query = "&".join(map(_shown, query.split("&"))) if query else ""
    return f"{head}://{shown}{slash}{path}{question}{query}"


def _is_ambiguous(rest: str) -> bool:
    """True if what stands behind the scheme can be split in more than one way."""
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    user_info, _, hosts = authority.rpartition("@")
    return "@" in user_info or "@" in rest[len(authority) :] or not _HOSTS.fullmatch(hosts)


def _shown(part: str) -> str:
    name, equals, _ = part.partition("=")
    is_known = equals and unquote(name) in _IN_URI - _SECRETS
    return part if is_known else f"{name}=**" if unquote(name) in _SECRETS else "**"


@lru_cache(maxsize=64)
def describe(conninfo: str) -> str:
    """Where a connection string leads, for an error: ``user@host:port/database``, or an alias."""
    if (alias := alias_of(conninfo)) is not None:
        return f"the Django alias {alias}"
    params = conninfo_to_dict(conninfo)
    hosts = str(params.get("host") or params.get("hostaddr") or "local socket").split(",")
    ports = str(params.get("port") or "").split(",")
    if len(ports) == 1:  # it stands for all of them
        ports *= len(hosts)
    pairs = zip(hosts, ports, strict=False)
    where = ",".join(f"{host}:{port}" if port else host for host, port in pairs)
    user = f"{params['user']}@" if params.get("user") else ""
    return f"{user}{where}/{params.get('dbname') or ''}"

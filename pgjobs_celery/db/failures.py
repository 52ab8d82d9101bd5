"""Say what a failed connection or statement means, and what to do about it."""

from __future__ import annotations

import psycopg

from ..errors import ConnectionFailed, PgJobsError
from .dsn import describe

#: All errors of the driver.
SERVER_ERRORS = psycopg.Error

#: Messages of libpq and the server, each with a remedy. libpq gives no SQLSTATE for a failed login.
_REMEDIES = (
    ("password authentication failed", "check the user and the password in the URL"),
    ("no password supplied", "put the password into the URL, or use a service or passfile"),
    (
        "no pg_hba.conf entry",
        "let pg_hba.conf accept this user from this host, or add sslmode=require",
    ),
    ("does not exist", "create it, or correct the name in the URL"),
    ("Connection refused", "is the server running, and is this its host and port?"),
    ("No such file or directory", "is the server running, and is this its socket directory?"),
    ("Name or service not known", "check the host name in the URL"),
    ("could not translate host name", "check the host name in the URL"),
    ("failed to resolve host", "check the host name in the URL"),
    ("timeout expired", "is the server reachable from here (firewall, address)?"),
    ("too many", "raise max_connections, or put a pooler in between"),
    ("remaining connection slots", "raise max_connections, or put a pooler in between"),
    ("no more connections allowed", "raise the pooler's max_client_conn"),
    ("ax client", "raise the pooler's limit of clients"),
    ("is starting up", "the server will be there in a moment"),
    ("is shutting down", "the server is being stopped"),
)


#: So the server, or a pooler in front of it, says that it has no place for another connection.
_FULL = (
    "too many",  # clients; connections for role, for database
    "remaining connection slots",
    "no more connections allowed",  # pgbouncer
    "max clients reached",  # supavisor, "MaxClientsInSessionMode"
    "Max client connections reached",
)


def is_full(error: psycopg.Error) -> bool:
    """True for a connection that was refused for want of a place: there may be one soon."""
    return any(words in str(error) for words in _FULL)


def is_cancelled(error: Exception) -> bool:
    """True for a statement that the server has ended: by its statement_timeout, or by a person."""
    return isinstance(error, psycopg.errors.QueryCanceled)


def connection_failed(error: psycopg.Error, conninfo: str) -> psycopg.OperationalError:
    """The error for a connection that could not be made.

    Both a ConnectionFailed, with where and what to do, and a psycopg OperationalError, so that
    kombu sees a connection error and tries again where it is told to.
    """
    message = " ".join(str(error).split())
    remedy = next((advice for words, advice in _REMEDIES if words in message), "")
    return CannotConnect(
        f"cannot connect to PostgreSQL at {describe(conninfo)}: {message}"
        + (f" ({remedy})" if remedy else "")
    )


def read_only(conninfo: str) -> psycopg.OperationalError:
    """The error for a server that takes no writes: one that has not taken over yet, perhaps."""
    return CannotConnect(
        f"PostgreSQL at {describe(conninfo)} takes no writes (a standby that has not taken over? "
        "Name all servers in the URL, with target_session_attrs=read-write)"
    )


def cause(error: psycopg.Error) -> str:
    """The server's message, in one line."""
    parts = (error.diag.message_primary or str(error), error.diag.message_detail)
    return " ".join(". ".join(filter(None, parts)).split())


class CannotConnect(ConnectionFailed, psycopg.OperationalError):
    """The server cannot be reached or refuses the login."""


class QueueGone(PgJobsError, psycopg.OperationalError):
    """A queue was taken away while we consumed from it: declare it again, with a new connection."""

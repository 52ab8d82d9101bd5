"""Decide about the connection and the server: pure functions of the facts, but for two trials."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ...db.rights import quoted
from ...db.rows.doctor import Link, Server
from ..explanation import span
from .findings import Finding, finding

if TYPE_CHECKING:
    from ...db.rows.doctor import Looks
    from .thresholds import Thresholds

OLDEST = 140_000
RELOAD = "SELECT pg_reload_conf();"
POOLER = "docs/how-to/pgbouncer.md"
#: The values of sslmode that check the server's certificate.
VERIFYING = ("verify-ca", "verify-full")


def look_at_connection(looks: Looks, limits: Thresholds) -> Iterator[Finding]:
    """How we are connected, and whether a worker could work over it."""
    server = looks.examine_server()
    yield from decide_link(looks.link)
    yield from decide_clock(server, limits)
    yield from decide_writes(server)
    if looks.options.listen and not server.is_standby and not looks.hears_notifications():
        yield finding(
            "listen_not_heard",
            "A connection listened, another one sent a notification, and it did not arrive"
            " within 2 s: a pooler gives sessions to transactions. Workers start jobs up to 5 s"
            " late.",
            "Set listen_url in broker_transport_options to a URL of the server itself, or"
            ' {"listen": False}; see ' + POOLER,
        )
    if looks.options.prepare and looks.keeps_prepared() is False:
        yield finding(
            "prepared_statements_lost",
            "A statement that was prepared in one transaction did not exist in the next one: a"
            " pooler gives sessions to transactions, and does not carry prepared statements.",
            'Set {"prepare": False} in broker_transport_options, or max_prepared_statements = 100'
            " in pgbouncer (1.21 and newer); see " + POOLER,
        )


def decide_link(link: Link) -> Iterator[Finding]:
    """Whether others can read what goes over it."""
    if is_local(link):
        return
    details = link._asdict()
    if not link.is_encrypted:
        yield finding(
            "not_encrypted",
            f"The connection to {link.host} uses no TLS: who is in between can read arguments and"
            " results.",
            "Add sslmode=verify-full to the URL, and the server's certificate to it: sslrootcert",
            link.host,
            **details,
        )
    elif link.sslmode not in VERIFYING:
        yield finding(
            "server_not_verified",
            f"The connection to {link.host} is encrypted, but sslmode={link.sslmode} takes any"
            " server for the right one.",
            "Add sslmode=verify-full and sslrootcert to the URL",
            link.host,
            **details,
        )


def is_local(link: Link) -> bool:
    """True for a Unix socket, and within this machine."""
    if not link.host or link.host.startswith(("/", "@")):
        return True
    try:
        return ipaddress.ip_address(link.address or link.host).is_loopback
    except ValueError:
        return False


def decide_clock(server: Server, limits: Thresholds) -> Iterator[Finding]:
    """Whether the clocks here and there agree."""
    skew = server.our_clock - server.clock
    if abs(skew) - server.uncertainty <= limits.clock:
        return
    how = "ahead of" if skew > 0 else "behind"
    yield finding(
        "clock_skew",
        f"The clock here is {span(abs(skew))} {how} the server's: it shows"
        f" {datetime.fromtimestamp(server.our_clock, timezone.utc):%Y-%m-%d %H:%M:%S} UTC. What"
        " is published here with a countdown or expires is early or late by as much.",
        "Set the clock of this machine, and keep it right by NTP: timedatectl set-ntp true",
        skew=round(skew, 3),
    )


def decide_writes(server: Server) -> Iterator[Finding]:
    """Whether jobs could be published."""
    if server.is_standby:
        yield finding(
            "standby",
            f"Database {server.database} is on a server in recovery.",
            "Name all servers in the URL, with target_session_attrs=read-write, or promote this"
            " one: SELECT pg_promote();",
        )
    elif server.settings.get("default_transaction_read_only") == "on":
        yield finding(
            "read_only",
            f"default_transaction_read_only is on for role {server.user} in database"
            f" {server.database}, or for the whole server.",
            "SET default_transaction_read_only = off; "
            + _reset(server, "default_transaction_read_only", "off"),
            "default_transaction_read_only",
        )


def look_at_server(looks: Looks, limits: Thresholds) -> Iterator[Finding]:
    """The server and its settings."""
    yield from decide_server(looks.examine_server(), limits)


def decide_server(server: Server, limits: Thresholds) -> Iterator[Finding]:
    """What of the server's version and settings matters here."""
    if server.version_number < OLDEST:
        yield finding(
            "server_too_old",
            f"The server is PostgreSQL {server.version}.",
            "Upgrade the server: this package is tested with PostgreSQL 14 to 18",
            version=server.version,
        )
    if server.encoding != "UTF8":
        yield finding(
            "encoding_not_utf8",
            f"Database {server.database} is encoded in {server.encoding}: it cannot hold every"
            " message.",
            "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0, and use that",
            server.database,
            encoding=server.encoding,
        )
    yield from _durability(server)
    yield from _behaviour(server, limits)
    yield from _room(server, limits)


def _durability(server: Server) -> Iterator[Finding]:
    for name, code, text in (
        ("fsync", "fsync_off", "nothing makes sure that what was committed is on the disk"),
        ("full_page_writes", "full_page_writes_off", "a page half written is not made whole again"),
    ):
        if server.settings.get(name) == "off":
            yield finding(
                code,
                f"{name} is off: {text}.",
                f"ALTER SYSTEM SET {name} = on; {RELOAD} -- for anything but a test",
                name,
            )
    commit = server.settings.get("synchronous_commit")
    if commit == "off":
        yield finding(
            "synchronous_commit_off",
            f"synchronous_commit is off for role {server.user}: a commit does not wait for the"
            " disk, so that a crash loses the last fraction of a second.",
            _reset(server, "synchronous_commit", "on"),
            "synchronous_commit",
        )


def _behaviour(server: Server, limits: Thresholds) -> Iterator[Finding]:
    settings = server.settings
    off = [name for name in ("autovacuum", "track_counts") if settings.get(name) == "off"]
    if off:
        yield finding(
            "autovacuum_off",
            f"{' and '.join(off)} {'is' if len(off) == 1 else 'are'} off: dead rows stay, and"
            " each claim has to pass more of them.",
            " ".join(f"ALTER SYSTEM SET {name} = on;" for name in off) + f" {RELOAD}",
            off[0],
        )
    level = settings.get("default_transaction_isolation", "")
    if level in ("repeatable read", "serializable"):
        yield finding(
            "isolation_level",
            f"default_transaction_isolation is {level} for role {server.user}: of two workers that"
            " claim at once one may fail with a serialization error, and connects anew.",
            _reset(server, "default_transaction_isolation", "'read committed'"),
            "default_transaction_isolation",
        )
    timeout = int(settings.get("statement_timeout") or 0) / 1000
    if 0 < timeout < limits.statement_timeout:
        yield finding(
            "statement_timeout_short",
            f"statement_timeout is {timeout:g} s for role {server.user}: large prunes and purges,"
            " and claims from a locked table, end with an error.",
            _reset(server, "statement_timeout", "'60s'"),
            "statement_timeout",
            seconds=timeout,
        )


def _room(server: Server, limits: Thresholds) -> Iterator[Finding]:
    settings = server.settings
    reserved = sum(
        int(settings.get(name) or 0)
        for name in ("superuser_reserved_connections", "reserved_connections")
    )
    total = max(1, int(settings["max_connections"]) - reserved)
    database, role = quoted(server.database), quoted(server.user)
    places = (
        (
            "max_connections", server.used, total, "of the server",
            f"ALTER SYSTEM SET max_connections = {2 * (total + reserved)}; -- and restart it, or"
            f" put a pooler in between: {POOLER}",
        ),
        (
            "role", server.used_by_role, server.role_limit, f"of role {server.user}",
            f"ALTER ROLE {role} CONNECTION LIMIT -1;",
        ),
        (
            "database", server.used_by_database, server.database_limit,
            f"of database {server.database}",
            f"ALTER DATABASE {database} CONNECTION LIMIT -1;",
        ),
    )  # fmt: skip
    for subject, used, limit, of_what, remedy in places:
        if limit >= 0 and used >= limits.connections * limit:
            yield finding(
                "connections_near_limit",
                f"{used:,} of {limit:,} connections {of_what} are in use: a worker or a program"
                " that needs one more may be refused.",
                remedy,
                subject,
                used=used,
                limit=limit,
            )
    if server.notify_usage >= limits.notify_usage:
        yield finding(
            "notify_queue_filling",
            f"{server.notify_usage:.0%} of the queue of notifications is in use. When it is full,"
            " every commit that notifies fails. A session that listens and stays in a"
            " transaction holds it.",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in"
            " transaction' ORDER BY xact_start LIMIT 1; -- the server's log names the PID of"
            " that session",
            usage=round(server.notify_usage, 4),
        )


def _reset(server: Server, setting: str, value: str) -> str:
    return f"ALTER ROLE {quoted(server.user)} SET {setting} = {value}; -- and connect anew"

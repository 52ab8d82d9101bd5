"""A finding, as a value, and every code that one may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ...printable import one_line
from ..explanation import as_data


class Severity(str, Enum):
    """How bad it is; the first two end the command with 1."""

    #: Jobs cannot run, or may be lost.
    ERROR = "error"
    #: It works, and will not for ever, or not as well as it could.
    WARNING = "warning"
    #: Worth knowing, and maybe meant so.
    NOTICE = "notice"


E, W, N = Severity.ERROR, Severity.WARNING, Severity.NOTICE

#: Every code by its family: the severity, and the title.
CODES: dict[str, dict[str, tuple[Severity, str]]] = {
    "connection": {
        "no_connection": (E, "The database cannot be reached"),
        "standby": (E, "The server is a standby, and takes no writes"),
        "read_only": (E, "Transactions of this role are read-only"),
        "listen_not_heard": (E, "Notifications do not reach workers that wait"),
        "prepared_statements_lost": (E, "Prepared statements are lost between transactions"),
        "clock_skew": (W, "The clock of this machine is wrong"),
        "not_encrypted": (N, "The connection is not encrypted"),
        "server_not_verified": (N, "The server's certificate is not checked"),
    },
    "server": {
        "server_too_old": (E, "The server is older than PostgreSQL 14"),
        "encoding_not_utf8": (E, "The database is not encoded in UTF8"),
        "fsync_off": (E, "A crash of the machine may destroy the database"),
        "full_page_writes_off": (E, "A crash of the machine may damage tables"),
        "synchronous_commit_off": (W, "A crash of the server may lose jobs that were published"),
        "autovacuum_off": (W, "Autovacuum is off on the whole server"),
        "isolation_level": (W, "Transactions of this role are stricter than READ COMMITTED"),
        "statement_timeout_short": (W, "Statements of this role are cut off after a short time"),
        "connections_near_limit": (W, "Few connections are left"),
        "notify_queue_filling": (W, "The queue of notifications fills up"),
    },
    "sessions": {
        "long_transaction": (W, "A transaction has been open for long"),
        "xmin_held_by_session": (W, "A session keeps VACUUM from removing dead rows"),
        "xmin_held_by_slot": (W, "A replication slot keeps VACUUM from removing dead rows"),
        "xmin_held_by_standby": (W, "A standby keeps VACUUM from removing dead rows"),
        "prepared_transaction": (W, "A prepared transaction was neither committed nor rolled back"),
    },
    "locks": {"table_locked": (E, "A session has locked a table against workers")},
    "schema": {
        "no_schema": (E, "The tables do not exist"),
        "foreign_schema": (E, "The schema belongs to another program"),
        "schema_behind": (E, "The schema is behind this release"),
        "schema_too_new": (E, "The schema belongs to a newer, incompatible release"),
        "schema_newer": (N, "The schema belongs to a newer release"),
        "migration_changed": (N, "A migration is not the one that was applied"),
        "schema_drift": (E, "An object is not as the migrations have made it"),
        "index_on_claim": (W, "An index of yours makes each claim more expensive"),
        "schema_extra": (N, "One of the tables has something that no migration made"),
        "storage_options": (N, "A table's storage options were changed"),
    },
    "rights": {
        "missing_rights": (E, "The role lacks privileges"),
        "role_reads_only": (N, "The role may read, and nothing else"),
    },
    "tables": {
        "invalid_index": (W, "An index is not valid"),
        "table_autovacuum_off": (W, "Autovacuum is off for a table"),
        "vacuum_behind": (W, "Dead rows are not removed"),
        "table_bloat": (N, "A table is much larger than its rows"),
        "index_bloat": (N, "An index is much larger than its entries"),
    },
    "work": {
        "no_maintenance": (E, "No process sees to jobs that are due"),
        "queue_without_consumer": (W, "Jobs wait in a queue that no worker consumes from"),
        "queue_paused": (N, "Jobs wait in a queue that is paused"),
        "jobs_paused": (N, "Jobs of a task, with a tag or of a key have been paused for long"),
        "rule_allows_none": (W, "Jobs wait for a rule that allows none"),
        "key_missing": (W, "A rule counts by an argument that no waiting job has"),
        "dead_node": (W, "A worker is dead, and no process has taken its jobs"),
        "orphan_jobs": (W, "Jobs are held by a worker that does not exist"),
        "orphan_messages": (W, "Messages are held by a worker that does not exist"),
        "unread_messages": (W, "Messages wait in a queue that no process consumes from"),
        "chord_incomplete": (W, "A chord cannot complete"),
        "chord_not_published": (W, "The body of a complete chord is not published"),
        "chord_unsized": (N, "A chord was never published in full"),
        "no_beat": (W, "No beat publishes entries that are due"),
    },
    "settings": {
        "settings_refused": (E, "A setting cannot be used"),
        "always_eager": (W, "Tasks run where they are called, and no job is published"),
        "jobs_kept_for_ever": (W, "Finished jobs are never deleted"),
        "no_reconnect": (W, "A worker ends when it loses its connection"),
        "ssl_setting_ignored": (W, "TLS is asked for where it has no effect"),
        "lease_short": (W, "A short stall of a worker looks like its death"),
        "results_elsewhere": (N, "Results are kept in another place than jobs"),
        "remote_control_off": (N, "Workers do not answer remote control"),
        "worker_lost_ignored": (N, "task_reject_on_worker_lost has no effect"),
        "setting_ignored": (N, "A setting has no effect here"),
    },
    "schedules": {
        "schedule_wrong": (W, "An entry cannot be published as it is"),
        "crontab_clocks": (N, "A change of the clocks skips or repeats a crontab"),
    },
    "any": {"not_looked_at": (W, "Something could not be looked at")},
}  # fmt: skip

KNOWN: Mapping[str, tuple[Severity, str]] = {
    code: known for family in CODES.values() for code, known in family.items()
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or will be. All of it is printable, whatever the rows hold."""

    #: A stable word for programs, one of :data:`CODES`.
    code: str
    severity: Severity
    title: str
    #: The object that it is about: a queue, a table, a setting; empty for the whole.
    subject: str
    evidence: str
    remedy: str
    #: The facts of the evidence; JSON can hold them.
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_wrong(self) -> bool:
        """True for an error or a warning."""
        return self.severity is not N


def finding(code: str, evidence: str, remedy: str, subject: str = "", **details: Any) -> Finding:
    """A finding with the severity and the title of its code."""
    severity, title = KNOWN[code]
    return Finding(
        code, severity, title, one_line(subject), one_line(evidence), one_line(remedy),
        as_data(details),
    )  # fmt: skip


class LeftOut(Exception):
    """A family cannot look at something, which is no fault; the message says why."""


@dataclass(frozen=True)
class Report:
    """All that was found, the worst first, and the families that were left out, with why."""

    findings: tuple[Finding, ...]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def is_well(self) -> bool:
        """True without an error and without a warning."""
        return not any(each.is_wrong for each in self.findings)

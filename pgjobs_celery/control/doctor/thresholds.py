"""From where on something is worth a finding."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """Where the doctor draws its lines; durations in seconds."""

    #: How far this machine's clock may be off the server's: due times of ``countdown`` are made
    #: here.
    clock: float = 2.0
    #: How much of the connections, and of the queue of notifications, may be in use.
    connections: float = 0.9
    notify_usage: float = 0.25
    #: A shorter ``statement_timeout`` would cut off maintenance.
    statement_timeout: float = 10.0
    #: How long a transaction may be open.
    transaction: float = 600.0
    #: For how many transactions a slot or a standby may keep VACUUM from removing rows.
    xmin_age: int = 1_000_000
    #: How many times the number of dead rows from which autovacuum acts may be there, and how many
    #: in
    #: any case; and how long ago the last VACUUM may be then.
    dead: float = 5.0
    fewest_dead: int = 50_000
    vacuum: float = 600.0
    #: From how many bytes on, and how many times the bytes that it needs, a table or an index is
    #: bloated.
    bloat_bytes: int = 500_000_000
    bloat: float = 4.0
    #: How long jobs may wait in a queue that no worker consumes from.
    unconsumed: float = 60.0
    #: How long jobs may be paused by task, tag or key without an end.
    paused: float = 86_400.0
    #: How long a message that is not a job may wait, and be held by a node that is gone.
    message: float = 600.0
    #: How long a node may be past its lease while others live: they take its jobs within seconds.
    silence: float = 30.0
    #: How long a job may be due without being in line.
    late_job: float = 60.0
    #: How late an entry's tick may be.
    late_tick: float = 300.0
    #: How long a chord may be complete before its body is published, and be open without a size.
    chord: float = 60.0
    unsized_chord: float = 3600.0
    #: How many seconds apart a family is looked at twice whose findings may be those of a moment.
    twice: float = 1.0
    #: How long all of it may take.
    all: float = 30.0


DEFAULT = Thresholds()

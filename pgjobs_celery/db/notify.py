"""Wait for something to happen in the database, and let others know of the waiter.

Workers listen on one channel and who waits for results on another, so that they do not wake each
other. A payload is one letter for the kind and the name of what it is about. A process that waits
holds an advisory lock on the name, shared, on its LISTEN connection: the server frees it when the
process dies, and nothing is left to clean up. A process with news tries that lock, and notifies
only if it is taken.
"""

from __future__ import annotations

import select
import zlib
from collections.abc import Iterable

from psycopg import sql

from ..scopes.steady import monotonic
from .connection import Connection, Row, call
from .refusals import SLEEPERS, Refusals

__all__ = [
    "BACK", "BOUND", "CANCEL", "DUE", "JOB", "MESSAGE", "QUEUE", "RESULT", "SLEEPERS", "STATE",
    "Listener", "result_channel", "waiter", "work_channel",
]  # fmt: skip

#: Kinds of payload: a job is ready, a job was put back in line, a message came, a job was
#: scheduled, a result is there, a task has reported a state, a running job must be cancelled,
#: a queue was paused, resumed or limited, a queue was bound to an exchange.
JOB, BACK, MESSAGE, DUE, RESULT, STATE, CANCEL, QUEUE = "j", "b", "m", "d", "r", "s", "c", "q"
BOUND = "e"

#: Waiters for results share this many keys, so that waiting for 10,000 takes no 10,000 locks.
SLOTS = 1024


def waiter(task_id: str, kind: str = RESULT) -> str:
    """The name that a waiter for this result, or for every STATE of it, announces."""
    slot = zlib.crc32(task_id.encode("utf-8", "replace")) % SLOTS
    return f":{kind}{slot}"


def work_channel(schema: str) -> str:
    """The channel on which workers hear of jobs and messages."""
    return f"pgjobs_w_{schema}"[:63]


def result_channel(schema: str) -> str:
    """The channel on which who waits for results hears of them."""
    return f"pgjobs_r_{schema}"[:63]


class Listener:
    """A connection that waits for notifications and says for what."""

    def __init__(self, connection: Connection, channel: str) -> None:
        self._connection = connection
        self._channel = channel
        self._wanted: set[str] = set()
        self._held: set[str] = set()
        #: The names that were refused, and when to ask again.
        self.refusals = Refusals()
        #: Notifications that came while a statement ran: psycopg hands them over.
        self._heard: set[str] = set()
        connection.psycopg.add_notify_handler(lambda notify: self._heard.add(notify.payload))
        connection.psycopg.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))

    def fileno(self) -> int:
        """The socket, for an event loop."""
        return self._connection.fileno()

    def announce(self, names: Iterable[str]) -> bool:
        """From now on we wait for these, and for nothing else; True if that is known.

        Look once more before waiting: what came before the announcement woke no waiter; and read,
        for what came meanwhile cannot be seen on the socket any more. Where it is not known of
        all, announce again when :attr:`refusals` says, and look then as well.
        """
        self._wanted = set(names)
        if withdrawn := self._held - self._wanted:
            self._held -= withdrawn
            self._run("withdraw_names", withdrawn)
        if added := self._wanted - self._held:
            rows = self._run("announce_names", added)
            refused = {key[len(self._channel) :] for (key,) in rows}
            self._held |= added - refused
            self.refusals.note(len(refused))
        elif not self.is_refused:
            self.refusals.note(0)
        return not self.is_refused

    def announce_again(self) -> bool:
        """Ask for what was refused, if it is time to; True if nothing is refused any more."""
        if self.is_refused and monotonic() >= self.refusals.due_at:
            self.announce(self._wanted)
        return not self.is_refused

    @property
    def is_refused(self) -> bool:
        """True while another session holds a lock that we have asked for."""
        return self._held != self._wanted

    def _run(self, statement: str, names: set[str]) -> list[Row]:
        keys = [self._channel + name for name in sorted(names)]
        return self._connection.run([call(statement, "", {"space": SLEEPERS, "names": keys})])[0]

    def is_heard(self) -> bool:
        """False if the server has forgotten that we listen; raises if the connection is gone."""
        cursor = self._connection.psycopg.execute(
            "SELECT %s IN (SELECT pg_catalog.pg_listening_channels())", (self._channel,)
        )
        row = cursor.fetchone()
        return bool(row and row[0])

    def read(self) -> set[str]:
        """The payloads that have arrived; does not wait. Raises if the connection is gone."""
        pgconn = self._connection.psycopg.pgconn
        pgconn.consume_input()
        payloads, self._heard = self._heard, set()
        while notification := pgconn.notifies():
            payloads.add(notification.extra.decode())
        return payloads

    def wait(self, timeout: float) -> set[str]:
        """The payloads that have arrived, waiting up to ``timeout`` seconds for the first."""
        payloads = self.read()
        if not payloads and select.select([self], [], [], max(0.0, timeout))[0]:
            payloads = self.read()
        return payloads

    def close(self) -> None:
        """End the session, and with it all that was announced."""
        self._connection.close()

"""Wait for something to happen in the database, and let others know of the waiter.

Workers listen on one channel and who waits for results on another, so that they do not wake each
other. A payload is one letter for the kind and the name of what it is about. A process that waits
holds an advisory lock on the name, shared, on its LISTEN connection: the server frees it when the
process dies, and nothing is left to clean up. A process with news tries that lock, and notifies
only if it is taken.

Of one job that is ready two workers hear, and not all that wait: each listens to one of a few bells
besides, and holds the lock of the queue at its bell.
"""

from __future__ import annotations

import select
import zlib
from collections.abc import Iterable, Sequence

from psycopg import sql

from ..scopes.steady import monotonic
from .connection import Call, Connection, Row, call
from .refusals import SLEEPERS, Refusals

__all__ = [
    "BACK", "BELLS", "BELL_VALUES", "BOUND", "CANCEL", "DUE", "EVENT", "JOB", "MESSAGE", "QUEUE",
    "RESULT", "RUNG", "SLEEPERS", "STATE", "Listener", "result_channel", "waiter", "work_channel",
]  # fmt: skip

#: Kinds of payload: a job is ready, a job was put back in line, a message came, a job was
#: scheduled, a result is there, a task has reported a state, a running job must be cancelled,
#: a queue was paused, resumed or limited, a queue was bound to an exchange.
JOB, BACK, MESSAGE, DUE, RESULT, STATE, CANCEL, QUEUE = "j", "b", "m", "d", "r", "s", "c", "q"
BOUND = "e"
#: Events came, for queues that go with their listeners.
EVENT = "v"
#: A job is ready, of which few were told: a number, a colon, and the queue's name follow.
RUNG = "o"

#: How many bells there are. To find that nobody listens to one takes a publisher 1.2 µs.
BELLS = 16
#: How many letters of a channel's name a bell's begins with; PostgreSQL takes names of 63.
BELL_LENGTH = 60
#: What the statement that rings them needs to know.
BELL_VALUES = {"bells": BELLS, "length": BELL_LENGTH, "rung": RUNG}

#: Waiters for results share this many keys, so that waiting for 10,000 takes no 10,000 locks.
SLOTS = 1024


def waiter(task_id: str, kind: str = RESULT) -> str:
    """The name that a waiter for this result, or for every STATE of it, announces."""
    slot = zlib.crc32(task_id.encode("utf-8", "replace")) % SLOTS
    return f":{kind}{slot}"


def work_channel(schema: str) -> str:
    """The channel on which workers hear of jobs and messages."""
    return f"pgjobs_w_{schema}"[:63]


def bell_channel(channel: str, bell: int) -> str:
    """The channel on which the workers with this bell hear of single jobs."""
    return f"{channel[:BELL_LENGTH]}.{bell}"  # as ring_bells has it


def result_channel(schema: str) -> str:
    """The channel on which who waits for results hears of them."""
    return f"pgjobs_r_{schema}"[:63]


class Listener:
    """A connection that waits for notifications and says for what.

    ``bells``: those to listen to as well.
    """

    def __init__(self, connection: Connection, channel: str, bells: Iterable[int] = ()) -> None:
        self._connection = connection
        self._channel = channel
        self._bells = [bell_channel(channel, bell) for bell in bells]
        #: Keys, which are a channel and a name: those to hold, those of them that are the bells',
        #: and those that are held.
        self._wanted: set[str] = set()
        self._rung: set[str] = set()
        self._held: set[str] = set()
        #: The names that were refused, and when to ask again.
        self.refusals = Refusals()
        #: Notifications that came while a statement ran: psycopg hands them over.
        self._heard: set[str] = set()
        connection.psycopg.add_notify_handler(lambda notify: self._heard.add(notify.payload))
        listen = [
            sql.SQL("LISTEN {}").format(sql.Identifier(each)) for each in (channel, *self._bells)
        ]
        connection.psycopg.execute(sql.SQL(";").join(listen))

    def fileno(self) -> int:
        """The socket, for an event loop."""
        return self._connection.fileno()

    def announce(self, names: Iterable[str], rung: Iterable[str] = ()) -> bool:
        """From now on we wait for these, and for nothing else; True if that is known.

        ``rung``: those of them that our bells may be rung for.

        Look once more before waiting: what came before the announcement woke no waiter; and read,
        for what came meanwhile cannot be seen on the socket any more. Where it is not known of
        all, announce again when :attr:`refusals` says, and look then as well.
        """
        self._rung = {bell + name for name in rung for bell in self._bells}
        self._wanted = self._rung.union(self._channel + name for name in names)
        return self._announce()

    def _announce(self) -> bool:
        if withdrawn := self._held - self._wanted:
            self._held -= withdrawn
            self._run("withdraw_names", withdrawn)
        if added := self._wanted - self._held:
            rows = self._run("announce_names", added)
            refused = {key for (key,) in rows}
            self._held |= added - refused
            self.refusals.note(len(refused))
        elif not self.is_refused:
            self.refusals.note(0)
        return not self.is_refused

    def silence(self, calls: Sequence[Call]) -> None:
        """Have our bells rung no more, and run the calls, which wake others."""
        self._wanted -= self._rung
        silenced, self._held = self._held & self._rung, self._held - self._rung
        self._rung = set()
        withdraw = [[self._to_call("withdraw_names", silenced)]] if silenced else []
        self._connection.run(*withdraw, *([each] for each in calls))

    @property
    def may_be_silenced(self) -> bool:
        """True while bells of ours may be rung, and no statement of ours runs."""
        return bool(self._rung) and self._connection.is_usable

    def announce_again(self) -> bool:
        """Ask for what was refused, if it is time to; True if nothing is refused any more."""
        if self.is_refused and monotonic() >= self.refusals.due_at:
            self._announce()
        return not self.is_refused

    @property
    def is_refused(self) -> bool:
        """True while another session holds a lock that we have asked for."""
        return self._held != self._wanted

    def _run(self, statement: str, keys: set[str]) -> list[Row]:
        return self._connection.run([self._to_call(statement, keys)])[0]

    @staticmethod
    def _to_call(statement: str, keys: set[str]) -> Call:
        return call(statement, "", {"space": SLEEPERS, "names": sorted(keys)})

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

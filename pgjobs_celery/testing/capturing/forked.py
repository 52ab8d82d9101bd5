"""Hand the jobs that forked children publish to the process of the test.

A child has a copy of the inbox, which its parent never sees: it also writes each job into a file
that both had open before the fork.
"""

from __future__ import annotations

import os
import pickle
import struct
import tempfile
from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

#: Before each record: how long it is, in bytes.
_LENGTH = struct.Struct("!Q")
#: How much is read at a time, in bytes.
_CHUNK = 2**20


class Spool:
    """A file that children write records into, and their parent reads."""

    def __init__(self) -> None:
        # It has no name in any directory; all processes that share it append at its end.
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - as long as the inbox
        self._read = 0
        self._rest = b""
        #: True in a child.
        self.is_child = False

    def write(self, record: Any) -> None:
        """In a child: hand a record to the parent."""
        data = pickle.dumps(record)
        # One call: the records of several children do not mix.
        os.write(self._file.fileno(), _LENGTH.pack(len(data)) + data)

    def read(self) -> Iterator[Any]:
        """In the parent: the records that have come since."""
        while chunk := os.pread(self._file.fileno(), _CHUNK, self._read):
            self._read += len(chunk)
            self._rest += chunk
        while len(self._rest) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest)
            end = _LENGTH.size + length
            if len(self._rest) < end:
                return
            data, self._rest = self._rest[_LENGTH.size : end], self._rest[end:]
            yield pickle.loads(data)


#: The inboxes of blocks that have not ended.
_inboxes: WeakSet[Any] = WeakSet()


def watch(inbox: Any) -> None:
    """Receive the jobs of children in this inbox, too."""
    _inboxes.add(inbox)


def unwatch(inbox: Any) -> None:
    """Its block has ended."""
    _inboxes.discard(inbox)


def _before() -> None:
    for inbox in list(_inboxes):
        inbox.before_fork()


def _in_child() -> None:
    for inbox in list(_inboxes):
        inbox.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)

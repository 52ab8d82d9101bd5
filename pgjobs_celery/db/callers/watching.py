"""Know whether the transaction is still there in which a job was collected.

A job that is written later than it was published must not come into another transaction, nor
outlive the savepoint in which it was published. So a connection over which something is to be
written is watched until it is. Where the end can be seen coming, what was to be part is written
before, or dropped with it; anything else that may have been the end is noticed afterwards.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

#: Statements that begin or end a transaction or a savepoint, at the beginning of one.
_CONTROL = re.compile(
    r"(?:^|;|\*/|\n)\s*(begin|start\s+transaction|commit|end|rollback|abort|savepoint|release|"
    r"prepare\s+transaction)\b",
    re.IGNORECASE,
)
_UNDOING = ("rollback", "abort")


class Pending(Protocol):
    """Steps that were collected over a connection, and must be written there."""

    def write_before(self, watch: Watch) -> None:
        """The transaction, or savepoint, is about to end: write, if that can be done here."""

    def drop(self, watch: Watch) -> None:
        """The transaction, or savepoint, is rolled back: drop the steps that were part of it."""


class Watch(ABC):
    """Over one connection, from the first job that is collected there to its writing."""

    #: The mark when the first was collected.
    _began_at: Hashable

    def __init__(self, pending: Pending) -> None:
        self.pending = pending

    @abstractmethod
    def mark(self) -> Hashable:
        """The transaction and savepoint that we are in; never the same again after its end."""

    @abstractmethod
    def close(self) -> None:
        """Watch no more."""

    def begin(self) -> None:
        """From now on, collected steps belong here."""
        self._began_at = self.mark()

    @property
    def is_there(self) -> bool:
        """True if we are where what was collected belongs."""
        return self.mark() == self._began_at

    def foresee(self, *, is_kept: bool) -> None:
        """Tell that the transaction or savepoint is about to end: it is kept, or rolled back."""
        if not self.is_there:
            return
        if is_kept:
            self.pending.write_before(self)
        else:
            self.pending.drop(self)


def control_of(text: str) -> bool | None:
    """Whether a statement keeps what was done before it, or rolls it back; None for any other.

    >>> control_of("INSERT INTO users VALUES (1)")
    >>> control_of("SAVEPOINT a"), control_of("/* all */ rollback to a")
    (True, False)
    """
    found = _CONTROL.findall(text)
    if not found:
        return None
    return not any(word.lower() in _UNDOING for word in found)


class Overriding:
    """Methods of one object that tell watches of their calls, for as long as there are any."""

    #: The methods, and whether they keep what was done before; None where the driver refuses them
    #: in a transaction.
    methods: dict[str, bool | None]

    def __init__(self, target: Any) -> None:
        self.target = target
        self.watches: list[Watch] = []
        #: The object's own attributes that ours replace.
        self._replaced: dict[str, Any] = {}

    @classmethod
    def of(cls, target: Any) -> Any:
        """The one that is there for this object."""
        if (found := _overriding.get(target)) is None:
            found = _overriding[target] = cls(target)
        return found

    def add(self, watch: Watch) -> None:
        """Tell this one as well."""
        if not self.watches:
            self.install()
        self.watches.append(watch)

    def remove(self, watch: Watch) -> None:
        """Tell it no more."""
        if watch in self.watches:
            self.watches.remove(watch)
            if not self.watches:
                self.uninstall()
                _overriding.pop(self.target, None)

    def install(self) -> None:
        """Put ours in place of the object's methods."""
        for name, is_kept in self.methods.items():
            self.override(name, self._telling(getattr(self.target, name), is_kept))

    def override(self, name: str, method: Callable[..., Any]) -> None:
        """Have this object use another method."""
        own = self.target.__dict__
        self._replaced[name] = own.get(name)
        own[name] = method

    def uninstall(self) -> None:
        """Leave the object as it was."""
        own = self.target.__dict__
        while self._replaced:
            name, before = self._replaced.popitem()
            if before is None:
                own.pop(name, None)
            else:
                own[name] = before

    def foresee(self, *, is_kept: bool) -> None:
        """Tell all of them."""
        for watch in list(self.watches):
            watch.foresee(is_kept=is_kept)

    def _telling(self, method: Callable[..., Any], is_kept: bool | None) -> Callable[..., Any]:
        def telling(*args: Any, **kwargs: Any) -> Any:
            if is_kept is not None:
                self.foresee(is_kept=is_kept)
            try:
                return method(*args, **kwargs)
            finally:
                self.has_called(method.__name__)

        return telling

    def has_called(self, name: str) -> None:
        """One of the methods has returned."""


_overriding: WeakKeyDictionary[Any, Overriding] = WeakKeyDictionary()

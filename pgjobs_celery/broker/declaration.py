"""The answer to a declaration, and the bindings, as kombu's users read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from amqp.protocol import queue_declare_ok_t
from kombu.transport import base


class DeclaredQueue(queue_declare_ok_t):
    """A declared queue: its name, how much waits in it, and how many consume from it.

    Both are looked up when they are read: every producer declares its queue, and to count
    costs 100 ms where a million jobs wait; software that watches queues declares them to learn it.
    """

    _count: Callable[[], tuple[int, int]]

    @classmethod
    def of(cls, queue: str, count: Callable[[], tuple[int, int]]) -> DeclaredQueue:
        """``count`` says how much waits, and how many consume."""
        self = cls(queue, 0, 0)
        self._count = count
        return self

    @cached_property
    def _told(self) -> queue_declare_ok_t:
        return queue_declare_ok_t(super().__getitem__(0), *self._count())

    @property
    def queue(self) -> str:
        """Its name."""
        return str(super().__getitem__(0))

    @property
    def message_count(self) -> int:
        """How many messages a consumer of it would get."""
        return int(self._told.message_count)

    @property
    def consumer_count(self) -> int:
        """How many consume from it."""
        return int(self._told.consumer_count)

    def __getitem__(self, index: Any) -> Any:
        return self.queue if index in (0, -3) else self._told[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._told)

    def __eq__(self, other: object) -> bool:
        return bool(self._told == other)

    def __ne__(self, other: object) -> bool:  # a tuple has one of its own
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._told)

    # All else that a tuple does, it does with its original items.

    def __lt__(self, other: Any) -> bool:
        return bool(self._told < tuple(other))

    def __le__(self, other: Any) -> bool:
        return bool(self._told <= tuple(other))

    def __gt__(self, other: Any) -> bool:
        return bool(self._told > tuple(other))

    def __ge__(self, other: Any) -> bool:
        return bool(self._told >= tuple(other))

    def __contains__(self, value: object) -> bool:
        return value in self._told

    def __add__(self, other: Any) -> Any:
        return self._told + tuple(other)

    def __radd__(self, other: Any) -> Any:
        return tuple(other) + tuple(self._told)

    def count(self, value: Any) -> int:
        """How often it tells a value."""
        return int(self._told.count(value))

    def index(self, value: Any, *within: Any) -> int:
        """Where it tells a value."""
        return int(self._told.index(value, *within))

    def _replace(self, **told: Any) -> Any:
        return self._told._replace(**told)

    def __reduce__(self) -> Any:
        return queue_declare_ok_t, tuple(self._told)


class Management(base.Management):
    """A connection's manager, as kombu calls it; ``celery list bindings`` asks it."""

    def get_bindings(self) -> list[dict[str, str]]:
        """Every binding of a queue to an exchange."""
        return [
            {"destination": queue, "source": exchange, "routing_key": key}
            for queue, exchange, key in self.transport.database.routes.list_bindings()
        ]

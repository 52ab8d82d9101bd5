"""Watch Django's connections, of either driver."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from .watching import Overriding, Pending, Watch, control_of


class DjangoWatch(Watch):
    """Over a connection of Django's."""

    def __init__(self, pending: Pending, connection: Any, position: Callable[[], Hashable]) -> None:
        super().__init__(pending)
        self._position = position
        self._work: _Work = _Work.of(connection)
        self._work.add(self)

    def mark(self) -> Hashable:
        return self._position(), self._work.token

    def close(self) -> None:
        self._work.remove(self)


class _Work(Overriding):
    """The statements that run over a connection."""

    methods = {"commit": True, "rollback": False, "set_autocommit": None, "close": False}

    def install(self) -> None:
        #: Replaced when the transaction, or a savepoint, may have ended.
        self.token = object()
        super().install()
        # In front: Django takes the last away again, whichever that is.
        self.target.execute_wrappers.insert(0, self._execute)

    def uninstall(self) -> None:
        super().uninstall()
        self.target.execute_wrappers.remove(self._execute)

    def has_called(self, name: str) -> None:
        """One of the methods has returned."""
        self.token = object()

    def _execute(
        self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any
    ) -> Any:
        is_kept = control_of(str(sql))
        if is_kept is None:
            return execute(sql, params, many, context)
        self.foresee(is_kept=is_kept)
        try:
            return execute(sql, params, many, context)
        finally:
            self.token = object()

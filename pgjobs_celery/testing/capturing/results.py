"""A result backend in memory, for apps whose own needs a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from celery.backends.base import KeyValueStoreBackend
from celery.states import READY_STATES
from kombu.utils.encoding import ensure_bytes

from ...errors import NothingRuns


class MemoryBackend(KeyValueStoreBackend):
    """Results, groups and chords as Celery's key-value backends have them, in a dict.

    They are written by the app's own ``result_serializer``. One for each block of ``testing()``.
    """

    supports_native_join = True
    implements_incr = True
    supports_autoexpire = True
    #: Jobs are not in a database, whatever the app's settings name.
    stands_in = True

    def __init__(
        self,
        app: Any,
        run_waiting: Callable[[], None] | None = None,
        send_signals: Callable[..., int] = lambda signals, is_first: 0,
    ) -> None:
        super().__init__(app=app, url="memory://")
        #: Takes signals that are sent to captured jobs.
        self.send_signals = send_signals
        self._values: dict[bytes, Any] = {}
        self._lock = threading.Lock()
        self._run_waiting = run_waiting

    def get(self, key: Any) -> Any:
        """The value of a key; None if it has none."""
        return self._values.get(ensure_bytes(key))

    def mget(self, keys: Iterable[Any]) -> list[Any]:
        """The same of many."""
        return [self.get(key) for key in keys]

    def set(self, key: Any, value: Any) -> None:
        """Set a value."""
        self._values[ensure_bytes(key)] = value

    def delete(self, key: Any) -> None:
        """Forget a value."""
        self._values.pop(ensure_bytes(key), None)

    def incr(self, key: Any) -> int:
        """Count one more."""
        with self._lock:
            count = int(self.get(key) or 0) + 1
            self.set(key, count)
        return count

    def wait_for(self, task_id: str, timeout: float | None = None, **options: Any) -> Any:
        """As Celery's; but raises NothingRuns where that would wait for ever."""
        self._expect([task_id], timeout)
        return super().wait_for(task_id, timeout=timeout, **options)

    def get_many(
        self, task_ids: Iterable[str], timeout: float | None = None, **options: Any
    ) -> Any:
        """The same for many."""
        ids = list(task_ids)
        self._expect(ids, timeout)
        return super().get_many(ids, timeout=timeout, **options)

    def _expect(self, task_ids: list[str], timeout: float | None) -> None:
        waiting = [each for each in task_ids if self.get_state(each) not in READY_STATES]
        if waiting and self._run_waiting is not None:
            self._run_waiting()
            waiting = [each for each in waiting if self.get_state(each) not in READY_STATES]
        if waiting and timeout is None:
            raise NothingRuns(
                f"nothing runs task {waiting[0]}, and to wait for its result would take for ever: "
                "run it (perform_job, drain_queue), use testing(app, 'inline'), or give a timeout "
                "if another thread runs it"
            )

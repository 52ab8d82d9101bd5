"""The receipts of jobs that were published with an idempotency key, of one inbox."""

from __future__ import annotations

from ...job.idempotency import require_same_arguments


class Receipts:
    """The first job of each task and key, and a hash of its arguments; as the table has them."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], tuple[str, bytes | None]] = {}

    def find_first(self, task: str, key: str, task_id: str, arguments: bytes | None) -> str | None:
        """The job that has the key; None, and it is this one, if none has.

        Raises IdempotencyMismatch for other arguments than that one's.
        """
        if (task, key) not in self._first:
            self._first[task, key] = task_id, arguments
            return None
        first, known = self._first[task, key]
        require_same_arguments(task, key, first, known, arguments)
        return first

    def redirect(self, task: str, key: str | None, task_id: str) -> None:
        """An equal job stands for the one that was published with the key."""
        if key is not None:
            self._first[task, key] = task_id, self._first[task, key][1]

    def clear(self) -> None:
        """Forget all."""
        self._first.clear()

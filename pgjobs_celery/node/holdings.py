"""The jobs that this process has claimed and that have not ended, as it knows them."""

from __future__ import annotations

from collections.abc import Iterator

from ..job.rows import Claim


class Holdings:
    """The claims that a process holds, by the number of the row. Thread-safe.

    Most of it is in the worker's pool, or on its way there. The rest is *kept* elsewhere: by a
    strategy that collects messages (celery-batches), a consumer of the application's own, a rate
    limit. It takes no place in the pool, and must not keep others from being claimed.
    """

    def __init__(self) -> None:
        #: The attempt, and the queue.
        self._jobs: dict[int, tuple[int, str]] = {}
        self._kept: set[int] = set()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._jobs))

    def queues(self) -> Iterator[str]:
        """The queue of each job."""
        return (queue for _, queue in list(self._jobs.values()))

    @property
    def in_pool(self) -> int:
        """How many are in the pool, or will be as far as we know."""
        return len(self._jobs) - len(self._kept)

    def claims_in_pool(self) -> set[tuple[int, int]]:
        """Which those are: the number of the row, and the attempt."""
        jobs, kept = list(self._jobs.items()), set(self._kept)
        return {(id, attempt) for id, (attempt, _) in jobs if id not in kept}

    def take(self, claim: Claim) -> None:
        """It is ours for this attempt."""
        self._jobs[claim.id] = (claim.attempt, claim.queue)

    def end(self, id: int, attempt: int) -> str | None:
        """That attempt has ended; its queue, or None if it is not ours (any more)."""
        held = self._jobs.get(id)
        if held is None or held[0] != attempt:
            return None
        del self._jobs[id]
        self._kept.discard(id)
        return held[1]

    def keep(self, id: int) -> None:
        """Somebody else than the pool has it."""
        self._kept.add(id)
        if id not in self._jobs:  # it has ended in another thread
            self._kept.discard(id)

    def hand_to_pool(self, id: int) -> None:
        """The pool has it after all."""
        self._kept.discard(id)

"""The receipts of jobs that were published with an idempotency key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import PgJobsError

if TYPE_CHECKING:
    from ..session import Session

#: How often it is tried again when the receipt in the way has gone before it could be read.
TRIES = 20

#: A task and a key, by which a receipt is found.
TaskKey = tuple[str, str]


class Receipted(NamedTuple):
    """The job that was published with a key."""

    task_id: str
    #: A hash of its arguments, if they can be compared.
    arguments: bytes | None
    #: For how many seconds its key counts; None where it is read.
    seconds: float | None = None
    #: The receipt was kept by this call.
    is_new: bool = False


class Receipts:
    """Statements on receipts, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def keep_receipts(self, jobs: Mapping[TaskKey, Receipted]) -> dict[TaskKey, Receipted]:
        """Keep a receipt for each job unless its key has one: the job that each key has now.

        Waits for another transaction that keeps one for the same key, until that has ended.
        """
        found: dict[TaskKey, Receipted] = {}
        for _ in range(TRIES):
            missing = {name: job for name, job in jobs.items() if name not in found}
            rows = self._session.fetch(
                "keep_receipts",
                tasks=[task for task, _ in missing],
                keys=[key for _, key in missing],
                task_ids=[job.task_id for job in missing.values()],
                arguments=[job.arguments for job in missing.values()],
                seconds=[job.seconds for job in missing.values()],
            )
            for task, key in rows:
                found[task, key] = missing[task, key]._replace(is_new=True)
            found |= self.find_receipts([name for name in missing if name not in found])
            if len(found) == len(jobs):
                return found
        raise PgJobsError("receipts of idempotency keys come and go too fast to be read")

    def find_receipts(self, names: Sequence[TaskKey]) -> dict[TaskKey, Receipted]:
        """The job of each key that has one."""
        if not names:
            return {}
        rows = self._session.fetch(
            "find_receipts", tasks=[task for task, _ in names], keys=[key for _, key in names]
        )
        return {
            (task, key): Receipted(task_id, None if arguments is None else bytes(arguments))
            for task, key, task_id, arguments in rows
        }

    def redirect_receipt(self, task: str, key: str, task_id: str) -> None:
        """Have a key lead to that job, which stands for the one that was published with it."""
        self._session.fetch("redirect_receipt", task=task, key=key, task_id=task_id)

    def find_keyed(self, keys: Sequence[str], tasks: Sequence[str] | None = None) -> set[str]:
        """The task ids of the jobs that were published with one of these keys."""
        session = self._session
        call = session.call("find_keyed", keys=list(keys), tasks=tasks and list(tasks))
        with session.joining():
            rows = session.retrying(lambda: session.run([call])[0])
        return {task_id for (task_id,) in rows}

    def prune_receipts(self, limit: int) -> int:
        """Delete receipts whose time is over; how many."""
        return int(self._session.fetch("prune_receipts", limit=limit)[0][0])


def by_id(session: Session, filters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Filters as the statements take them: idempotency keys give way to the ids of their jobs.

    Only who asks for a key needs the right to read receipts.
    """
    keys = filters.get("idempotency_key")
    if keys is None:
        return filters
    found = Receipts(session).find_keyed(keys, filters["task"])
    given = filters["id"]
    return {**filters, "id": sorted(found if given is None else found.intersection(given))}

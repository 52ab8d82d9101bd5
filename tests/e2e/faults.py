"""Kill a worker at an exact point: ``PGJOBS_TEST_FAULT = "before groups.lock_chord"``.

What the statement of that method is about has not happened then, or ("after ...") has been answered
and is committed, where it is not part of a transaction. ``after commit`` is behind the transaction.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.claims import Claims
from pgjobs_celery.db.rows.groups import Groups
from pgjobs_celery.db.rows.jobs import Jobs
from pgjobs_celery.db.rows.results import Results

OWNERS: dict[str, type] = {"claims": Claims, "groups": Groups, "jobs": Jobs, "results": Results}


def kill_worker() -> None:
    """``kill -9`` the whole worker, as a crash of the machine would."""
    os.killpg(os.getpgid(0), signal.SIGKILL)
    signal.pause()


def plant(fault: str) -> None:
    """Have this process and its children die at the point that ``fault`` names."""
    when, _, where = fault.partition(" ")
    if where == "commit":
        _plant_at_commit(when)
        return
    owner, _, name = where.partition(".")
    method = getattr(OWNERS[owner], name)
    setattr(OWNERS[owner], name, _dying(method, when))


def _dying(method: Callable[..., Any], when: str) -> Callable[..., Any]:
    @wraps(method)
    def dying(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            kill_worker()
        method(*args, **kwargs)
        kill_worker()

    return dying


def _plant_at_commit(when: str) -> None:
    transaction = Database.transaction

    @contextmanager
    def dying(self: Database) -> Iterator[None]:
        is_outermost = not self.is_in_transaction
        with transaction(self):
            yield
            if is_outermost and when == "before":
                kill_worker()
        if is_outermost:
            kill_worker()

    Database.transaction = dying  # type: ignore[method-assign,assignment]


if fault := os.environ.get("PGJOBS_TEST_FAULT"):
    plant(fault)

"""Let ``bulk()`` hold captured jobs, and drop them if its block raises."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any


class NoDatabase:
    """Stands for the database of captured jobs in a batch; writing them runs the batch's steps."""

    alias = ""
    #: Steps are done at once, and not in a transaction of their own.
    is_in_transaction = True

    def joining(self) -> AbstractContextManager[None]:
        """Join nothing: captured jobs have no transaction."""
        return nullcontext()

    def find_point(self) -> Any:
        """Where jobs are put here and now: a batch holds those of the place that it began in."""
        return sys.modules["pgjobs_celery.db.joining"].TransactionPoints().of(self)


NO_DATABASE = NoDatabase()


def find_batch() -> Any:
    """The ``bulk()`` that collects what is published here; None if none does."""
    # A program in such a block has loaded it, and the database's driver with it.
    module = sys.modules.get("pgjobs_celery.publishing.batch")
    return None if module is None else module.find_batch(NO_DATABASE)

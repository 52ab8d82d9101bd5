"""Find out whether a transaction was committed whose client did not hear the answer.

A COMMIT that is cut off has reached the server, or not. Its transaction is asked for by its
number, over a connection of ours; and as it has completed a job, the row tells as well. The row has
the last word: a standby that has taken over may have given the number to another transaction.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from ..errors import OutcomeUnknown, PgJobsError
from ..job.rows import Fence
from ..printable import guarded
from .connection import CONNECTION_ERRORS
from .deadline import answered_by
from .rows.running import Transaction

if TYPE_CHECKING:
    from .database import Database

logger = guarded(logging.getLogger(__name__))

#: Seconds between two looks, at first and at most.
FIRST, LONGEST = 0.05, 1.0
#: After so many looks a session that waits for its client, which has gone, is ended.
PATIENCE = 4


def was_committed(
    database: Database, transaction: Transaction, task_id: str, fence: Fence, seconds: float
) -> bool:
    """True if the transaction that has completed this job was committed, False if it was not.

    Asks until the server answers, and the transaction has ended. Raises OutcomeUnknown if that is
    not so within ``seconds``.
    """
    end = time.monotonic() + seconds
    looks, pause, why = 0, FIRST, "the transaction has not ended"
    while True:
        try:
            with answered_by(end):
                committed = _look(database, transaction, task_id, fence)
                if committed is not None:
                    return committed
                looks += 1
                if looks >= PATIENCE:
                    database.held.end_session(transaction)
        except (*CONNECTION_ERRORS, PgJobsError) as error:
            why = f"the database does not answer: {error}"
        left = end - time.monotonic()
        if left <= 0:
            raise OutcomeUnknown(
                f"the commit of the transaction that completes job {task_id} was cut off, and "
                f"whether it has happened was not to be learnt in {seconds:g} s ({why}): the job's "
                "row tells, and it runs again if the transaction was rolled back"
            )
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST)


def _look(database: Database, transaction: Transaction, task_id: str, fence: Fence) -> bool | None:
    """Whether it was committed; None where that is open yet."""
    status, is_standby = database.held.find_commit(transaction)
    if is_standby or status == "in progress":
        return None
    row = database.held.find_end(task_id, fence)  # after it: what was committed by then is seen
    return decide(status, None if row is None else row.is_held, bool(row and row.is_completed))


def decide(status: str | None, is_held: bool | None, is_completed: bool) -> bool:
    """Whether a transaction that has ended was committed.

    ``status`` is the server's word for it, ``is_held`` whether the run that it has completed still
    holds the job (None: it has no row), ``is_completed`` whether the row says that this run has.

    >>> decide("aborted", True, False), decide(None, False, True)
    (False, True)

    A standby took over, without the transaction, and has committed another of that number:

    >>> decide("committed", True, False)
    False

    The job ran again since, or was deleted:

    >>> decide("committed", False, False), decide("committed", None, False)
    (True, True)
    """
    if is_held:
        return False
    return is_completed or status == "committed"

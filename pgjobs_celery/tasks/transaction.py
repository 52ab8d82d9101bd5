"""Complete a job in the transaction of its task's own writes.

    with self.transaction(connection) as tx:
        connection.execute("INSERT INTO ledger ...")
        receipt.delay(order_id)
        tx.complete({"booked": True})

At the end of the block, and before its COMMIT, the task's successors are published over the
caller's connection, and its row is completed there, fenced by its claim. So the rows that the task
writes, its outcome, and what it publishes are there together or not at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from celery import states

from ..db.callers.base import Caller
from ..db.callers.bridge import AsyncCaller
from ..db.commits import was_committed
from ..errors import CannotJoin, ClaimLost, InvalidOption, JobCompleted, TransactionFailed
from ..job.outcome import Result
from ..job.progress import Effects, progress_of
from ..printable import guarded
from ..publishing.using import using
from ..results.backend import PgBackend
from ..results.handover import decide, note_committed, undecide
from ..scopes.threads import in_thread
from .captured import CapturedEffects, captured_effects
from .running_job import running_job
from .successors import forget_successors, publish_successors

if TYPE_CHECKING:
    from ..db.database import Database
    from ..db.rows.running import Transaction
    from ..job.held_claim import HeldClaim

logger = guarded(logging.getLogger(__name__))

#: Errors of the server, of any driver, that say more as ours.
_EXPLAINED = {
    "25006": "transaction() was given a connection that takes no writes: the job's row cannot be "
    "completed over it",
    "42501": "transaction() was given a connection whose role may not complete jobs: GRANT it "
    "SELECT, INSERT and UPDATE on the tables of pgjobs, and USAGE on its schema and sequences",
}


class TaskTransaction:
    """The block of ``self.transaction()``, and what its ``as`` gives."""

    def __init__(self, task: Any, connection: Any) -> None:
        self._task = task
        self._request: Any = task.request
        try:
            self._using = using(connection)
        except InvalidOption as error:
            raise InvalidOption(str(error).replace("using()", "transaction()", 1)) from None
        if self._using.caller is None:
            raise InvalidOption("transaction() needs a connection, not None")
        self._caller: Caller = self._using.caller
        self._own: Any = None
        self._effects = Effects()
        self._is_publishing = False
        self._captured: CapturedEffects | None = None
        #: The claim to complete; None where only the transaction counts: called by hand, eager, or
        #: in a test that runs the job itself.
        self._held: HeldClaim | None = None
        self._database: Database | None = None
        self._transaction: Transaction | None = None
        self._is_stored = False

    def complete(self, value: Any = None) -> None:
        """Have the task return this value, whatever it returns after the block; None by default.

        May be called anywhere in the block, and again: the last value counts.
        """
        if not self._effects.is_open:
            raise JobCompleted("complete() belongs into the block of self.transaction()")
        self._effects.value = value

    # The block

    def __enter__(self) -> TaskTransaction:
        self._begin()
        self._own = self._caller.own(may_nest=self._held is None)
        self._own.__enter__()
        try:
            self._require_home()
            self._using.__enter__()
        except BaseException as error:
            self._effects.is_open = False
            self._own.__exit__(type(error), error, error.__traceback__)
            raise
        self._publishes()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._effects.is_open = False
        if error is not None:
            self._roll_back(error)
            return
        try:
            self._caller.prepare()
            if self._held is not None:
                decide(self._request.id)
                self._publish()
                self._complete()
            self._leave(None)
        except BaseException as failed:
            found = self._explain(failed)
            self._roll_back(found)
            if found is failed:
                raise
            raise found from failed
        try:
            self._own.__exit__(None, None, None)
        except BaseException as failed:
            if not isinstance(failed, Exception) or not self._resolve(failed):
                self._undecide()
                raise
        self._note_committed()

    async def __aenter__(self) -> TaskTransaction:
        caller = self._caller
        if not isinstance(caller, AsyncCaller):
            return self.__enter__()
        self._begin()
        self._own = caller.aown(may_nest=self._held is None)
        await self._own.__aenter__()
        try:
            await self._using.__aenter__()
            self._publishes()
            await in_thread(self._require_home)
        except BaseException as error:
            self._effects.is_open = False
            await self._aroll_back(error)
            raise
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        caller = self._caller
        if not isinstance(caller, AsyncCaller):
            self.__exit__(kind, error, traceback)
            return
        self._effects.is_open = False
        if error is not None:
            await self._aroll_back(error)
            return
        try:
            await caller.aprepare()
            if self._held is not None:
                decide(self._request.id)
                self._publish()  # into the backlog, which is written first
                await self._using.run(self._complete)
            await self._aleave(None)
        except BaseException as failed:
            found = self._explain(failed)
            await self._aroll_back(found)
            if found is failed:
                raise
            raise found from failed
        await self._acommit()
        self._note_committed()

    async def _acommit(self) -> None:
        """Commit; a cancellation, or a time limit, that comes meanwhile must not part with it."""
        ended = await _outlast(self._own.__aexit__(None, None, None))
        failed, interruption = ended.error, ended.interruption
        if failed is not None:
            is_committed = False
            if isinstance(failed, Exception):
                asked = await _outlast(in_thread(self._resolve, failed))
                failed, is_committed = asked.error or failed, bool(asked.value)
                interruption = interruption or asked.interruption
            if not is_committed:
                self._undecide()
                raise interruption or failed
        if interruption is not None:
            logger.warning(
                "task %s[%s] was to be ended (%r) while it committed, and has completed its job",
                self._task.name, self._request.id, interruption,
            )  # fmt: skip

    # Its parts

    def _begin(self) -> None:
        request = self._request
        is_direct = request.called_directly and not request.is_eager
        progress = progress_of(request)
        if not is_direct:
            progress.require_unfinished("a second self.transaction() was entered")
            if progress.effects is not None and progress.effects.is_open:
                raise JobCompleted(
                    "self.transaction() was entered within self.transaction(): a job is completed "
                    "once. For a part that may fail use a savepoint of the connection's"
                )
            if progress.is_preparing or not (progress.is_in_body or request.is_eager):
                raise JobCompleted("self.transaction() belongs into the body of the task")
            progress.effects = self._effects
        if not is_direct and not request.is_eager:
            self._find_claim()
        self._effects.is_open = True

    def _find_claim(self) -> None:
        job = running_job(self._request)
        if job.held is None:
            raise CannotJoin(
                "self.transaction() completes a job of pgjobs, and this task came through another "
                "broker: it has no row. Use a pgjobs:// URL for the broker, or the connection alone"
            )
        # Where a test runs its jobs itself, in its own transaction, it writes their ends, too.
        if job.database is not None and not job.database.is_in_transaction:
            self._held, self._database = job.held, job.database

    def _require_home(self) -> None:
        if self._database is None:
            return
        if elsewhere := self._database.find_stray(self._caller):
            there, here = elsewhere
            raise CannotJoin(
                f"transaction() was given a connection to the database {there!r}, and the job's "
                f"row is in {here!r}: one transaction cannot change both. Connect to {here!r}, or "
                "keep the jobs where the task's rows are"
            )

    def _publish(self) -> None:
        publish_successors(self._task.app, self._request, self._effects.value)

    def _complete(self) -> None:
        """Complete the row, as part of the caller's transaction. Raises ClaimLost."""
        held, database, request = self._held, self._database, self._request
        assert held is not None
        assert database is not None
        backend = self._task.backend
        self._is_stored = self._is_kept() and _is_of(backend, database)
        result = Result(request.id, None, None, None, None, None)
        if self._is_stored:
            result = backend.make_result(request.id, self._effects.value, request=request)
        with database.joining():
            self._transaction = database.held.complete_job(
                result, held.fence, leaves=not self._is_stored
            )
        if self._transaction is None:
            self._effects.is_lost = True
            raise ClaimLost(
                f"job {request.id} is not this run's any more: another worker has it, or it has "
                "ended; what this run has written is rolled back"
            )

    def _is_kept(self) -> bool:
        """True where the result is stored: a chord's body needs it in any case."""
        request = self._request
        ignored = request.ignore_result
        if ignored is None:
            ignored = self._task.ignore_result
        return not ignored or bool(request.group and request.chord)

    def _resolve(self, failed: Exception) -> bool:
        """True if the transaction was committed although its COMMIT has raised this."""
        if self._held is None or self._database is None or self._transaction is None:
            return False
        try:
            is_committed = was_committed(
                self._database, self._transaction, self._request.id,
                self._held.fence, self._task.commit_timeout,
            )  # fmt: skip
        except BaseException:
            self._effects.is_unknown = True
            raise
        if is_committed:
            logger.warning(
                "task %s[%s] has completed its job, although its commit raised %r",
                self._task.name, self._request.id, failed,
            )  # fmt: skip
        return is_committed

    def _note_committed(self) -> None:
        self._effects.is_committed = True
        if self._held is None:
            return
        note_committed(self._request.id)
        forget_successors(self._request)
        if self._is_stored:
            progress_of(self._request).stored_state = states.SUCCESS

    def _undecide(self) -> None:
        if self._held is not None:
            undecide(self._request.id)

    # Its end

    def _publishes(self) -> None:
        self._is_publishing = True
        if self._held is None:
            self._captured = captured_effects(self._task.app, self._request)
        if self._captured is not None:
            self._captured.begin()

    def _stop_publishing(self, error: BaseException | None) -> None:
        self._is_publishing = False
        if self._captured is not None:
            self._captured.end(error)

    def _leave(self, error: BaseException | None) -> None:
        if self._is_publishing:
            self._stop_publishing(error)
            self._using.__exit__(*_info(error))

    async def _aleave(self, error: BaseException | None) -> None:
        if self._is_publishing:
            self._stop_publishing(error)
            await self._using.__aexit__(*_info(error))

    def _roll_back(self, error: BaseException) -> None:
        self._undecide()
        try:
            self._leave(error)
        finally:
            self._own.__exit__(*_info(error))

    async def _aroll_back(self, error: BaseException) -> None:
        self._undecide()
        try:
            await self._aleave(error)
        finally:
            await self._own.__aexit__(*_info(error))

    @staticmethod
    def _explain(error: BaseException) -> BaseException:
        """The error as the caller knows it: its driver's own, or what that means."""
        own = error.__cause__ if isinstance(error, TransactionFailed) else error
        if own is None:
            return error
        inner = getattr(own, "orig", None) or own
        code = getattr(inner, "sqlstate", None) or getattr(inner, "pgcode", None)
        if code in _EXPLAINED:
            return CannotJoin(f"{_EXPLAINED[code]} ({inner})")
        return own


def conclude(task: Any, returned: Any) -> Any:
    """The value of a task whose own transaction has completed its job, whatever ends its body."""
    effects = progress_of(task.request).effects
    assert effects is not None
    if isinstance(returned, BaseException):
        logger.error(
            "task %s[%s] has completed its job in self.transaction(), and then raised %r, which "
            "changes nothing", task.name, task.request.id, returned, exc_info=returned,
        )  # fmt: skip
    elif returned is not None and returned is not effects.value and returned != effects.value:
        logger.warning(
            "task %s[%s] has returned another value than self.transaction() has stored: pass it to "
            "complete()", task.name, task.request.id,
        )  # fmt: skip
    return effects.value


def _is_of(backend: Any, database: Database) -> bool:
    """True for the backend whose results stand in the rows of this database."""
    return isinstance(backend, PgBackend) and backend.database.key == database.key


def _info(error: BaseException | None) -> tuple[Any, Any, Any]:
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)


class _Ended(NamedTuple):
    """The end of a coroutine."""

    value: Any
    error: BaseException | None
    #: The exception by which the wait for it was to be ended.
    interruption: BaseException | None


async def _outlast(work: Coroutine[Any, Any, Any]) -> _Ended:
    """Run it to its end, whatever interrupts the wait."""
    task = asyncio.ensure_future(work)
    interruption: BaseException | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except BaseException as error:
            interruption = error
    failed = asyncio.CancelledError() if task.cancelled() else task.exception()
    return _Ended(None if failed else task.result(), failed, interruption)

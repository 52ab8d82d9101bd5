"""PostgreSQL result backend for Celery: states and results stand in the job's own row.

    app = Celery("proj", broker="pgjobs://app@db/app", backend="pgjobs://app@db/app")

Options are the transport's (:class:`pgjobs_celery.config.Options`), taken from
``result_backend_transport_options`` and, for options not in there, ``broker_transport_options``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from celery import Task, signals, states
from celery.backends import base
from celery.backends.asynchronous import AsyncBackendMixin

from .. import _required  # noqa: F401
from ..config import read_settings
from ..db.database import CONNECTION_ERRORS, Database
from ..db.rows.results import Origin
from ..job.outcome import Result, clean_text
from ..job.progress import progress_of
from ..job.rows import Fence
from ..job.states import FROM_CELERY, State
from ..maintenance.complete import Complete
from ..maintenance.prune import Prune
from ..node.nodes import get_node
from .chords import Chords
from .claim import fence_of, report_lost
from .consumer import ResultConsumer
from .errors import error_of
from .handover import decide, hand_over, has_failed, lose_claim, note_failed, note_written, returned
from .key_values import KeyValues
from .origin import origin_of
from .uncommitted import require_committed
from .waiters import ARE_FORGOTTEN, Waiters


# Celery's own class last: it must not come before the mixin, which waits.
class PgBackend(Chords, KeyValues, AsyncBackendMixin, base.Backend):
    """Celery's result backend on job rows."""

    ResultConsumer = ResultConsumer

    supports_autoexpire = True
    supports_native_join = True
    supports_result_compression = True
    supports_failure_expires = True

    def __init__(self, app: Any, url: str | None = None, **kwargs: Any) -> None:
        super().__init__(app, url=url, **kwargs)
        #: One backend, and one connection that waits for results, serves all threads of a process.
        self.thread_safe = True
        self.result_consumer = self.ResultConsumer(
            self, self.app, self.accept, self._pending_results, self._pending_messages
        )
        self._waiters = self.result_consumer.waiters = Waiters()
        #: Whether a task has hooks for its success, by its name.
        self._followed: dict[str, bool] = {}

    def forget_waiters(self) -> None:
        """In a forked child: the waiting threads are the parent's."""
        self._pending_results.concrete.clear()
        self._pending_results.weak.clear()
        self._waiters.clear()
        self.result_consumer._after_fork()

    def add_pending_result(self, result: Any, weak: bool = False, **kwargs: Any) -> Any:
        """Begin to wait for a result."""
        result.id = str(result.id)  # Django's URLs give UUIDs, and rows are found by text
        if ARE_FORGOTTEN and result._cache is None:
            self._waiters.add(result, weak)
            self.result_consumer.consume_from(result.id)
        return super().add_pending_result(result, weak=weak, **kwargs)

    def wait_for_pending(self, result: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait for a result. Raises NotCommitted if the wait could never end."""
        self.require_committed(result)
        return super().wait_for_pending(result, *args, **kwargs)

    def iter_native(self, result: Any, *args: Any, **kwargs: Any) -> Any:
        """The results of a group as they come. Raises NotCommitted if the wait could never end."""
        self.require_committed(result)
        return super().iter_native(result, *args, **kwargs)

    #: See :mod:`pgjobs_celery.results.uncommitted`.
    require_committed = staticmethod(require_committed)

    def remove_pending_result(self, result: Any) -> Any:
        """End the wait for it.

        Celery before 5.7 stops waiting for the id when any handle on it is deleted, as by a
        worker's thread in this process that has published a chain's next step.
        """
        if ARE_FORGOTTEN and self._waiters.discard(result):
            for mapping in self._pending_results:
                if mapping.get(result.id) is result:
                    mapping.pop(result.id, None)
            return result
        return super().remove_pending_result(result)

    def as_uri(self, include_password: bool = False) -> str:
        """The URI without its secrets, whatever the argument: it is meant to be shown."""
        return self._target.uri

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), "url": self.url})

    def close(self) -> None:
        """Close the connection that waits for results; the next wait opens it again."""
        self.result_consumer.stop()

    def cleanup(self) -> None:
        """Delete expired rows, as every worker does from time to time (``backend_cleanup``)."""
        Prune(read_settings(self.app.conf)).run(self.database)

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        """True for a lost connection: ``result_backend_always_retry`` tries again."""
        return isinstance(exc, CONNECTION_ERRORS)

    # Store

    def mark_as_done(self, task_id: str, *args: Any, **kwargs: Any) -> None:
        """The task has returned: its result may travel with the success report."""
        with returned(task_id):
            super().mark_as_done(task_id, *args, **kwargs)

    def mark_as_failure(self, task_id: str, *args: Any, **kwargs: Any) -> Any:
        """The task has failed: stored, and its errbacks called, once.

        Celery calls this again if ``on_failure`` raises.
        """
        decide(task_id)
        if not has_failed(task_id):
            super().mark_as_failure(task_id, *args, **kwargs)
            note_failed(task_id)

    def mark_as_retry(self, task_id: str, *args: Any, **kwargs: Any) -> Any:
        """The task has retried itself."""
        decide(task_id)
        return super().mark_as_retry(task_id, *args, **kwargs)

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: str | None = None,
        request: Any = None,
        **_: Any,
    ) -> None:
        new = self.make_result(task_id, result, state, traceback, request)
        database = self.database
        database.retrying(lambda: self._write(database, new, state, request))
        if request is not None:
            progress_of(request).stored_state = state

    def make_result(
        self,
        task_id: str,
        result: Any,
        state: str = states.SUCCESS,
        traceback: str | None = None,
        request: Any = None,
    ) -> Result:
        """A result as its row has it."""
        children = self.current_task_children(request)
        return Result(
            task_id=task_id,
            result=None if result is None else self._encoded(result),
            result_type=self.content_type,
            traceback=None if traceback is None else clean_text(str(traceback)),
            children=json.dumps(children) if children else None,
            error=error_of(result, state, traceback),
        )

    def _write(self, database: Database, new: Result, state: str, request: Any) -> None:
        fence = fence_of(database, request, new.task_id)
        if fence and progress_of(request).has_written_end:
            return  # see PgTask: the worker writes it, or the task's own transaction has
        becomes = FROM_CELERY.get(state, State.EXECUTING)
        results = database.results
        if becomes is State.RETRYABLE and fence:
            if not results.record_retry(new, fence):
                report_lost(database, new.task_id, fence, state)
        elif becomes.is_final and fence:
            write = partial(self._finish, database, new, becomes, fence, state)
            if (
                state == states.SUCCESS
                and not request.chord
                and not self._is_followed(request.task)
                and hand_over(new, write)
            ):
                return
            write()
        elif fence:
            if not results.report_job(new, state, fence):
                report_lost(database, new.task_id, fence, state)
        elif becomes is not State.EXECUTING or not results.report_job(new, state, None):
            if becomes.is_final:
                # It may be the task that runs here, under another id: a message may give its
                # request one. Its worker knows which job it is.
                lose_claim(new.task_id)
            reported = None if becomes.is_final else state
            stored = results.upsert_result(new, becomes, reported, self._origin(request))
            if becomes is State.RETRYABLE and not stored:
                results.report_job(new, state, None)  # of a job that others run

    @staticmethod
    def _finish(database: Database, new: Result, becomes: State, fence: Fence, state: str) -> None:
        if database.results.finish_job(new, becomes, fence):
            note_written(new.task_id)
        else:
            report_lost(database, new.task_id, fence, state)

    def _is_followed(self, name: str) -> bool:
        """True for a task with hooks that run after its success.

        Its process may be lost in a hook: by then the row must show the success. And the hook may
        read it.
        """
        is_followed = self._followed.get(name)
        if is_followed is None:
            task = type(self.app.tasks.get(name))
            is_followed = issubclass(task, Task) and (
                task.on_success is not Task.on_success or task.after_return is not Task.after_return
            )
            self._followed[name] = is_followed
        return is_followed

    def _forget(self, task_id: str) -> None:
        self.result_consumer.cancel_for(task_id)  # as Celery does from 5.6 on
        database = self.database
        database.retrying(lambda: database.results.forget_result(task_id))

    def _origin(self, request: Any) -> Origin:
        body = None
        if request is not None and self._is_extended:
            body = self._encoded([request.args, request.kwargs])
        return origin_of(request, body)

    # Read

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        database = self.database
        extended = self._is_extended
        rows = database.retrying(lambda: database.results.get_results([task_id], extended))
        if not rows:
            return {"task_id": task_id, "status": states.PENDING, "result": None}
        return self._to_meta(rows[0], extended)

    def read_results(self, task_ids: Sequence[str]) -> list[dict[str, Any]]:
        """The metas of tasks that have a row, for the threads that wait for them.

        If one cannot be decoded, only the thread that waits for it gets the error.
        """
        database, extended = self.database, self._is_extended
        rows = database.retrying(lambda: database.results.get_results(task_ids, extended))
        metas = []
        for row in rows:
            try:
                metas.append(self._to_meta(row, extended))
            except Exception as error:
                metas.append({"task_id": row.task_id, "status": states.FAILURE, "result": error})
        return metas


def _on_worker_ready(sender: Any, **_: Any) -> None:
    """Run the services of results in a worker, whatever broker its tasks come from."""
    backend = sender.app.backend
    if isinstance(backend, PgBackend):
        settings = read_settings(sender.app.conf)
        node = get_node(backend.database)
        if settings.maintenance:
            node.serve_results(Complete(backend, settings.chord_max_age or None), settings)


signals.worker_ready.connect(_on_worker_ready, dispatch_uid="pgjobs-results")

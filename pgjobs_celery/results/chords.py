"""Chords and saved groups: the results of more than one task.

A chord's header has finished when all of its tasks have. This is not counted along but looked up:
the process that finishes one of them asks, after the commit, how many are missing, so that the last
sees all the others, and none can be counted twice. Then the body is published, and the chord marked
as done, in one transaction. A process that dies before that commit has published nothing, and a
service of any worker (:mod:`pgjobs_celery.maintenance.complete`) publishes the body instead; so it
does if no task was the last: it was cancelled while it waited, or discarded with its worker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from celery import states
from celery.app.task import Context
from celery.canvas import maybe_signature
from celery.exceptions import ChordError
from celery.result import GroupResult, result_from_tuple
from celery.utils.functional import _regen
from celery.utils.log import get_logger
from kombu.exceptions import OperationalError
from kombu.utils.functional import maybe_list
from kombu.utils.uuid import uuid

from ..db.database import CONNECTION_ERRORS
from ..db.rows.groups import Chord, UnknownChord
from ..job.progress import progress_of
from ..job.states import State
from ..printable import guarded
from ..publishing.batch import take_part
from ..publishing.replacement import mark_body
from .row_results import RowResults

if TYPE_CHECKING:
    from ..db.rows.groups import Part
    from ..db.rows.results import StoredResult

logger = guarded(get_logger(__name__))

#: No chord ends more tasks per second than this, on all workers together: until all but a few of
#: the missing ones can have ended at this rate, no process needs to ask again (1 ms per 1,000).
FASTEST = 20_000.0
#: A few: as many may end at once, their commits in one flush, right after a process has asked.
AT_ONCE = 100
#: The number of chords of which a process remembers when it may ask again.
REMEMBERED = 1_000
#: How often workers that stand in for another try to publish a body.
TRIES = 5
#: Errors that may be gone the next time: the chord is left to the service.
TRANSIENT = (*CONNECTION_ERRORS, OperationalError)


class Chords(RowResults):
    """The part of the backend that counts and publishes."""

    def __init__(self, app: Any, url: str | None = None, **kwargs: Any) -> None:
        super().__init__(app, url, **kwargs)
        #: When to ask again how much of a chord is missing, by the monotonic clock.
        self._next_looks: dict[str, float] = {}
        self._in_thread = threading.local()

    # Groups

    def _save_group(self, group_id: str, result: Any) -> Any:
        saved = self._encoded({"result": result.as_tuple()})
        self.database.groups.save_group(group_id, saved, self.content_type)
        return result

    def _restore_group(self, group_id: str) -> dict[str, Any] | None:
        saved = self.database.groups.get_group(group_id)
        if saved is None:
            return None
        result = self._decode_as(saved[1], saved[0])["result"]
        return {"result": result_from_tuple(result, self.app)}

    def _delete_group(self, group_id: str) -> None:
        self.database.groups.delete_group(group_id)

    # Chords

    def apply_chord(self, header_result_args: Any, body: Any, **_: Any) -> None:
        """A chord is about to be published: keep its body, and the structure of its header."""
        group_id, results = header_result_args[:2]
        header, repeated = None, 0
        if not isinstance(results, _regen):  # which must not be consumed here
            result = self.app.GroupResult(*header_result_args)
            # A task that stands in the header twice under one id is one job.
            ids = [each.id for each in result.results]
            repeated = len(ids) - len(set(ids))
            if any(isinstance(each, GroupResult) for each in result.results):
                header = self._encoded(result.as_tuple())
        request = _current_request(self.app)
        is_replacement = mark_body(request, body)
        chord = Chord(self._encoded(dict(body)), header, self.content_type)
        delivery_info = request.delivery_info if request else None
        is_repeated = bool((delivery_info or {}).get("redelivered"))

        def open_chord() -> None:
            self.database.groups.open_chord(group_id, chord, -repeated, is_repeated=is_repeated)

        if is_replacement:
            self._replacements.add(group_id)
            open_chord()
        else:
            take_part(self.database, open_chord)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """The header has ``chord_size`` tasks."""

        def size_chord() -> None:
            self.database.groups.size_chord(group_id, chord_size)

        if group_id in self._replacements:
            self._replacements.remove(group_id)
            size_chord()
        else:
            take_part(self.database, size_chord)

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        """The header has one task more: one of its tasks has added ``result``."""
        take_part(self.database, lambda: self.database.groups.extend_chord(chord_id))

    def on_chord_part_return(self, request: Any, state: str, result: Any, **_: Any) -> None:
        """A task of a header has ended: if that was the last, the body is published."""
        group_id = request.group
        if not group_id or not request.id:
            return
        if progress_of(request).stored_state not in states.READY_STATES:
            # The task ignores its result, but the body does not.
            self.store_result(request.id, result, state, request=request)
        if self.database.is_in_transaction:
            # The failure of another chord, which every process that looks must see.
            self._undecided.append((group_id, request))
        else:
            self._look(group_id, request)

    @property
    def _replacements(self) -> set[str]:
        """Chords that this thread publishes in place of the task that runs in it."""
        replacements: set[str] = self._in_thread.__dict__.setdefault("replacements", set())
        return replacements

    @property
    def _undecided(self) -> list[tuple[str, Any]]:
        """Chords of which this thread has ended a task, in the transaction that it is in."""
        undecided: list[tuple[str, Any]] = self._in_thread.__dict__.setdefault("undecided", [])
        return undecided

    def _look(self, group_id: str, request: Any) -> None:
        try:
            if self._is_complete(group_id):
                self._complete(group_id, request)
        except UnknownChord:
            self._warn_of_unknown(group_id, request)
        except TRANSIENT as error:
            logger.warning("the body of chord %s is left to another worker: %s", group_id, error)

    def _warn_of_unknown(self, group_id: str, request: Any) -> None:
        """Warn once that this chord is not counted here: its body would be missing silently."""
        if group_id in self._next_looks:
            return
        self._remember(group_id, float("inf"))
        logger.warning(
            "task %s is part of chord %s, which this result backend does not know, so its body "
            "will not be published from here: the chord was published with another result backend, "
            "or its row was deleted; have workers with the publisher's result_backend run it",
            request.id, group_id,
        )  # fmt: skip

    def _remember(self, group_id: str, when: float) -> None:
        if len(self._next_looks) >= REMEMBERED:
            self._next_looks.clear()
        self._next_looks[group_id] = when

    def _is_complete(self, group_id: str) -> bool:
        now = time.monotonic()
        if now < self._next_looks.get(group_id, 0.0):
            return False
        missing = self.database.groups.count_missing(group_id)
        if missing is None or missing <= 0:
            self._next_looks.pop(group_id, None)
            return missing is not None
        self._remember(group_id, now + max(0, missing - AT_ONCE) / FASTEST)
        return False

    def _complete(
        self, group_id: str, request: Any = None, error: ChordError | None = None
    ) -> bool:
        """Publish the body of a chord, or fail it; False if another process does."""
        groups = self.database.groups
        self._undecided.clear()
        with self.database.transaction():
            chord = groups.lock_chord(group_id)
            if chord is None:
                return False
            parts = groups.get_parts(group_id)
            body = self._decode_as(chord.type, chord.body) or (request.chord if request else None)
            if body is None:
                raise LookupError("its body is not known")
            callback = maybe_signature(body, app=self.app)
            try:
                if error is not None:
                    raise error
                results = self._join(parts, chord)
                self._publish_body(callback, results, parts)
            except ChordError as failed:
                self._fail(callback, failed)
            groups.close_chord(group_id)
        undecided = list(self._undecided)
        for other_id, part in undecided:
            self._look(other_id, part)
        return True

    def _fail(self, callback: Any, error: ChordError) -> None:
        """Fail the body, which may be part of a chord itself."""
        logger.error("%s, and the body of their chord fails: %s", error, callback)
        if not callback.id:
            # Before Celery 5.7 a chain has no id: callers wait for its last task.
            steps = getattr(callback, "tasks", None) or [callback]
            callback.options["task_id"] = steps[-1].id or uuid()
        outer = callback.options.get("chord")
        if outer:
            # Errbacks that Celery links to a nested chord as well run when the outer one fails.
            outer_errbacks = _errbacks(maybe_signature(outer, app=self.app))
            callback.options["link_error"] = [
                errback for errback in _errbacks(callback) if errback not in outer_errbacks
            ]
            part = Context(dict(callback))
            part.update(callback.options, id=callback.id, group=callback.options.get("group_id"))
            self.store_result(callback.id, error, states.FAILURE, request=part)
            self.on_chord_part_return(part, states.FAILURE, error)
        self.chord_error_from_stack(callback, error)

    def _publish_body(self, callback: Any, results: list[Any], parts: Sequence[Part]) -> None:
        options = {}
        if parts and _current_request(self.app) is None:
            # Celery takes these from the running task; here is none.
            last = max(parts, key=lambda part: str(part.result.finished_at))
            task_id = last.result.task_id
            options = {"parent_id": task_id, "root_id": last.root_id or task_id}
        try:
            with self.database.transaction():
                callback.apply_async((results,), **options)
        except TRANSIENT:
            raise
        except Exception as error:
            raise ChordError(f"Callback error: {error!r}") from error

    def _join(self, parts: Sequence[Part], chord: Chord) -> list[Any]:
        """The results of a header, in its structure. Raises ChordError if one of them failed."""
        values: dict[str, Any] = {}
        _warn_of_missing([part for part, _ in parts])
        for part, _ in parts:
            try:
                # The body waits for how they ended, whatever was stored of it.
                meta = self._to_meta(part, False, from_row=True)
            except Exception as error:
                raise ChordError(f"Join error: {error!r}") from error
            value = meta["result"]
            if meta["status"] in states.PROPAGATE_STATES:
                cause = value if isinstance(value, BaseException) else None
                raise ChordError(f"Dependency {part.task_id} raised {value!r}") from cause
            values[part.task_id] = value
        if chord.header is None:
            return list(values.values())
        header = result_from_tuple(self._decode_as(chord.type, chord.header), self.app)
        return list(_in_structure(header, values))

    # The service

    def complete_chords(self, max_age: float | None, limit: int = 100) -> int:
        """Publish the bodies that no process has published; return how many."""
        count = 0
        for group_id, is_too_old in self.database.groups.find_chords(max_age, limit):
            tries = self.database.groups.try_chord(group_id)
            if tries is None:
                continue
            error = None
            if is_too_old:
                error = ChordError(f"chord {group_id} was not complete after {max_age:g} s")
            elif tries > TRIES:
                error = ChordError(f"the body of chord {group_id} could not be published")
            try:
                count += self._complete(group_id, error=error)
            except TRANSIENT:
                raise
            except Exception:
                logger.exception("chord %s cannot be completed", group_id)
                if tries > TRIES:
                    self.database.groups.close_chord(group_id)
        return count


def _warn_of_missing(results: Sequence[StoredResult]) -> None:
    """Name the members of a header that have completed and stored nothing: the body gets None."""
    silent = [each for each in results if each.state is State.COMPLETED and each.result is None]
    if silent:
        logger.warning(
            "chord %s: %s completed and stored no result here, so the body gets None in its place: "
            "the task raised Ignore, or its worker has another result_backend than the publisher",
            silent[0].group_id, ", ".join(each.task_id for each in silent[:10]),
        )  # fmt: skip


def _errbacks(callback: Any) -> list[Any]:
    return list(maybe_list(callback.options.get("link_error")) or ())


def _in_structure(result: Any, values: Mapping[str, Any]) -> Iterator[Any]:
    for each in result.results:
        if isinstance(each, GroupResult):
            yield list(_in_structure(each, values))
        else:
            yield values[each.id]


def _current_request(app: Any) -> Any:
    """The request of the task that runs here; None if none does."""
    task = app.current_worker_task
    return task.request if task else None

"""Requests of tasks whose strategy is their own, and may keep a message from the pool.

``Task.Strategy`` is what a worker does with a message. Celery's default sends it to the pool. One
of the application's own may collect messages and run many at once (celery-batches), leave some out,
or call the default in the end. Where the pool never hears of a message, the job ends with its
acknowledgement, wherever that comes from; until then it stays with this worker.

So the claim says that such a job goes back in line if the worker dies: what is collected has not
begun. Of one that goes to the pool after all, and is acknowledged early, that is taken back.
"""

from __future__ import annotations

from typing import Any

from kombu.utils.imports import symbol_by_name

from ..broker.message import Message
from ..tasks.coroutines import prepare_task
from .request import JobRequest


class KeptRequest(JobRequest):
    """The request of a task with a strategy of its own."""

    def acknowledge(self) -> None:
        """The keeper of the request is done with it: the event loop may not come to say so."""
        if isinstance(self._message, Message):
            self._message.note_early_ack()
        super().acknowledge()

    @property
    def may_run_later(self) -> bool:
        """True if the strategy has it: it goes on to have it when the connection is lost.

        Celery then forgets requests that wait for their rate limit.
        """
        pool = self._message.channel.node.pool
        return not (pool and pool.is_limited(self))

    def on_accepted(self, pid: int, time_accepted: float) -> Any:
        """The strategy has sent it to the pool after all, and its task begins."""
        returned = super().on_accepted(pid, time_accepted)
        message = self._message
        if isinstance(message, Message) and message.claim and not self.task.acks_late:
            message.channel.node.begin_for_good(message.claim)
        return returned


def has_own_strategy(task: Any) -> bool:
    """True if messages of the task are dealt with in another way than Celery's."""
    # Late, as all of Celery's consumer: see worker.py.
    from celery.worker.strategy import default

    return symbol_by_name(task.Strategy) is not default


def track_tasks(app: Any) -> list[str]:
    """Have the app's tasks tell their rows; the names of those whose claims end when they do.

    Those are the tasks that are acknowledged late, and those with a strategy of their own.
    """
    made: dict[tuple[type, type], type] = {}
    late = []
    for task in app.tasks.values():
        prepare_task(task)
        is_own = has_own_strategy(task)
        if task.acks_late or is_own:
            late.append(task.name)
        base = symbol_by_name(task.Request)
        if not issubclass(base, JobRequest):
            mixin = KeptRequest if is_own else JobRequest
            if (mixin, base) not in made:
                made[mixin, base] = type("Request", (mixin, base), {"__module__": __name__})
            task.Request = made[mixin, base]
    return sorted(late)

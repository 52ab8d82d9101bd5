"""``queues(app)["mail"]``: the rules of one queue, changed for all workers together."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..errors import InvalidOption
from ..job.checks import LARGEST_INTEGER, did_you_mean, is_whole_number
from ..job.flow import QUEUE, RATE, RUNNING, check_path, check_weight, flow_name, named_path
from .acting import begin_action
from .explain_queue import QueueExplanation, explain_queue
from .filters import seconds
from .flows import Flows, read_key
from .until import read_until

if TYPE_CHECKING:
    from ..db.database import Database

#: A publisher's choices where a queue is full.
ON_FULL = ("raise", "wait", "drop_oldest")


class OneQueue:
    """A queue whose rules are changed, whether it exists or not.

    Each change is kept in the database, counts before what the code of workers says, and lasts
    until it is made anew or :meth:`reset`. Workers hear of it at once, and with their next look
    where they poll. Every method raises InvalidOption for a value that cannot be used.

    >>> queues(app)["mail"].rate("100/m", burst=20)
    """

    def __init__(self, database: Database, name: str, app: Any = None) -> None:
        self.name = name
        self._database = database
        self._app = app
        self._flows = Flows(database, app)
        self._limits = database.limits

    def __repr__(self) -> str:
        return f"<rules of queue {self.name!r}>"

    def rate(
        self,
        rate: str | None,
        *,
        burst: int | None = None,
        by: str | None = None,
        algorithm: str | None = None,
        scope: str = "global",
    ) -> None:
        """Begin no more of its jobs than ``rate`` says, such as "100/m"; None: as many as may be.

        ``by``: an argument's name or a path ("kwargs.tenant_id"), each value of which has that rate
        for itself. ``algorithm``: "window" (in no period more than that) or "bucket", which lets
        ``burst`` begin at once and refills steadily.
        """
        self._flows.set(
            flow_name(RATE, QUEUE, self.name),
            rate,
            by=by,
            burst=burst,
            algorithm=algorithm,
            scope=scope,
        )

    def concurrency(
        self, number: int | None, *, by: str | None = None, scope: str = "global"
    ) -> None:
        """Run at most ``number`` of its jobs at once, of each value of ``by``; None: any number.

        Without ``by`` and on all workers together it is :meth:`Queues.limit`; ``scope`` "worker":
        on each worker.
        """
        if by is None and scope == "global":
            self._limit(number)
            return
        self._flows.set(flow_name(RUNNING, QUEUE, self.name), number, by=by, scope=scope)

    def fair(self, by: str, ageing: timedelta | float | None = None) -> None:
        """Serve the values of ``by``, a path into the arguments, in turn.

        One with 100,000 jobs delays another's one job by no more than one turn. Order and priority
        hold among the jobs of one value. ``ageing``: after so many seconds of waiting a job counts
        as one rank more urgent.
        """
        age = None if ageing is None else seconds("ageing", ageing)
        if age == 0:
            raise InvalidOption("ageing must be more than 0 s; None is no ageing")
        self._change_fair(check_path("fair", named_path(by)), age)

    def unfair(self) -> None:
        """Serve its jobs in the order of their places in line again."""
        self._change_fair(None, None)

    def weight(self, key: Any, weight: float | None) -> None:
        """Give a key of a fair queue so many turns where others have one; None for one, too."""
        word = read_key(key)
        if weight is not None:
            weight = check_weight(weight)
        details = {"key": word, "weight": weight}
        action = begin_action("weigh_key", self._app, queue=self.name, details=details)
        self._database.rules.set_weight(self.name, word, weight, action)

    def weights(self) -> dict[str, float]:
        """The weights of the keys that have one of their own."""
        return dict(self._database.rules.list_weights(self.name))

    def max_depth(
        self,
        number: int | None,
        on_full: str = "raise",
        wait: timedelta | float | None = None,
    ) -> None:
        """Let no more than ``number`` of its jobs wait; None for any number.

        A publisher of one more raises QueueFull ("raise"), waits for up to ``wait`` seconds before
        it does ("wait"), or cancels the oldest ("drop_oldest").
        """
        if number is not None and not is_whole_number(number, 0, LARGEST_INTEGER):
            raise InvalidOption(
                f"the depth of queue {self.name!r} must be a whole number from 0, or None for any, "
                f"not {number!r}"
            )
        if on_full not in ON_FULL:
            near = did_you_mean(str(on_full), ON_FULL) or f"; there are {', '.join(ON_FULL)}"
            raise InvalidOption(f"on_full cannot be {on_full!r}{near}")
        if wait is not None and on_full != "wait":
            raise InvalidOption(f'wait is for on_full="wait", not for {on_full!r}')
        most = None if wait is None else seconds("wait", wait)
        how = None if number is None else on_full
        details = {"max_depth": number, "on_full": how, "wait": most}
        action = begin_action("bound_queue", self._app, queue=self.name, details=details)
        self._database.rules.set_depth(self.name, number, how, most, action)

    def pause(self, until: datetime | timedelta | float | None = None) -> None:
        """Let no worker begin a job of it; until a time, or for so many seconds, if given."""
        end = read_until(until)
        action = begin_action("pause_queue", self._app, queue=self.name, details=end.data)
        self._limits.pause_queue(self.name, action, until=end.until, seconds=end.seconds)

    def resume(self) -> bool:
        """Let workers claim from it again, at once; False if it was not paused."""
        action = begin_action("resume_queue", self._app, queue=self.name)
        return self._limits.resume_queue(self.name, action)

    def explain(self) -> QueueExplanation:
        """Whether it is full, what a publisher of one job more meets, and what to do about it.

        >>> print(queues(app)["mail"].explain().text)
        """
        return explain_queue(self._database, self.name)

    def reset(self) -> None:
        """Forget what was set by hand, but for a pause, the limit of all its jobs and weights.

        The rules of the code count again: a rate or a concurrency by key at once, fair shares and
        the depth when the next worker that has them starts.
        """
        action = begin_action("reset_queue", self._app, queue=self.name)
        flows = [flow_name(kind, QUEUE, self.name) for kind in (RATE, RUNNING)]
        self._database.rules.reset_queue(self.name, flows, action)

    def _limit(self, concurrency: int | None) -> None:
        if concurrency is not None and not is_whole_number(concurrency, 0, LARGEST_INTEGER):
            raise InvalidOption(
                f"the limit of queue {self.name!r} must be a whole number from 0, or None for no "
                f"limit, not {concurrency!r}"
            )
        limit = {"concurrency": concurrency}
        action = begin_action("limit_queue", self._app, queue=self.name, details=limit)
        self._limits.limit_queue(self.name, concurrency, action)

    def _change_fair(self, by: str | None, ageing: float | None) -> None:
        details = {"by": by, "ageing": ageing}
        action = begin_action("share_queue", self._app, queue=self.name, details=details)
        self._database.rules.set_fair(self.name, by, ageing, action)

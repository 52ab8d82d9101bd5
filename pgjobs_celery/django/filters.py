"""Filters and counts of the admin page of jobs: no page reads all of a large table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.core.paginator import Paginator
from django.utils.functional import cached_property

from ..job.states import FINAL, State
from .models import Job

#: The states that few jobs are in, to which indexes lead.
UNFINISHED = frozenset(State) - FINAL

#: How many jobs are counted, shown page by page, and acted on at a time.
MOST = 10_000


class CappedPaginator(Paginator):  # type: ignore[misc]
    """Counts no more than are shown: the newest 10,000 that match."""

    @cached_property  # type: ignore[untyped-decorator]
    def count(self) -> int:
        """How many there are, up to that."""
        return int(self.object_list.order_by()[:MOST].count())


class StateFilter(SimpleListFilter):  # type: ignore[misc]
    """By state, with the conditions of the indexes that lead to each."""

    title = parameter_name = "state"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, str]]:
        """All of them."""
        return [(state.value, state.value) for state in State]

    def queryset(self, request: Any, queryset: Any) -> Any:
        """Those in the state."""
        if self.value() not in set(State):
            return queryset
        state = State(self.value())
        is_due = state in (State.SCHEDULED, State.RETRYABLE)
        conditions: dict[str, Any] = {"state": state.value}
        conditions["finished_at__isnull"] = state in UNFINISHED
        if state in UNFINISHED:
            conditions["due_at__isnull"] = not is_due
        return queryset.filter(**conditions)


class RecentFilter(SimpleListFilter):  # type: ignore[misc]
    """By the values of a column that the newest jobs have: to find all would read the table."""

    def lookups(self, request: Any, model_admin: Any) -> Iterable[tuple[str, str]]:
        """Those values, and the one that is chosen."""
        names = set(Job.objects.rows().values_list(self.parameter_name, flat=True)[:MOST])
        return [(name, name) for name in sorted(names | {self.value()} - {None})]

    def has_output(self) -> bool:
        """Also where there is only one."""
        return bool(self.lookup_choices)

    def queryset(self, request: Any, queryset: Any) -> Any:
        """Those with the value."""
        value = self.value()
        return queryset if value is None else queryset.filter(**{self.parameter_name: value})


class QueueFilter(RecentFilter):
    """By queue."""

    title = parameter_name = "queue"


class TaskFilter(RecentFilter):
    """By task."""

    title = parameter_name = "task"

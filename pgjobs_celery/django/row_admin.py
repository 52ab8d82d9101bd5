"""The part that admin pages have in common whose rows our own statements read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ERROR_FLAG, ChangeList
from django.http import HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import formats, timezone

from ..control.acting import ADMIN, acting_through
from ..control.app import find_app
from ..control.flows import Flows
from ..control.queues import Queues
from ..errors import PgJobsError
from .place import jobs_database

#: How many rows a page shows.
PAGE = 100


class Rows(list[Any]):
    """All rows of a page, where Django's admin takes a queryset."""

    def filter(self, pk__in: Any) -> Rows:
        """Those with these keys."""
        return Rows(row for row in self if row.pk in pk__in)

    def count(self) -> int:  # type: ignore[override]
        """How many there are."""
        return len(self)

    def _clone(self) -> Rows:
        return self


class RowList(ChangeList):  # type: ignore[misc]
    """A list of such rows."""

    def get_queryset(self, request: Any, exclude_parameters: Any = None) -> Rows:
        """Those with the words of the search in their names."""
        self.filter_specs: list[Any] = []
        self.has_filters = self.has_active_filters = False
        words = self.query.casefold().split()
        return Rows(
            row for row in self.root_queryset if all(word in row.pk.casefold() for word in words)
        )


class RowAdmin(admin.ModelAdmin):  # type: ignore[misc]
    """Pages of rules: who may *view* them may look, who may *change* them may act."""

    sortable_by = ()
    search_fields = ("name",)
    show_full_result_count = False
    list_per_page = PAGE
    list_max_show_all = PAGE

    def rows(self) -> list[Any]:
        """All rows, by name."""
        raise NotImplementedError

    def get_queryset(self, request: Any) -> Rows:
        """All rows; the list narrows them."""
        return Rows(self.rows())

    def get_changelist(self, request: Any, **kwargs: Any) -> type[ChangeList]:
        """Without a statement of Django's."""
        return RowList

    def get_object(self, request: Any, object_id: str, from_field: Any = None) -> Any:
        """The row of that name."""
        return next((row for row in self.rows() if row.pk == object_id), None)

    def changelist_view(self, request: Any, extra_context: Any = None) -> Any:
        """The list; a parameter that it does not have is a wrong question, and so is a NUL."""
        if any("\0" in word for name, words in request.GET.lists() for word in (name, *words)):
            return HttpResponseRedirect(f"{request.path}?{ERROR_FLAG}=1")
        try:
            return super().changelist_view(request, extra_context)
        except PgJobsError as error:
            return self._refused(request, error)

    def changeform_view(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """The form; a change that the database refuses is told on top of it."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except PgJobsError as error:
            return self._refused(request, error)

    def has_add_permission(self, request: Any) -> bool:
        """Not where nothing can be made."""
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        """Not by Django's own action: rules are reset, and pauses end."""
        return False

    def confirm(self, request: Any, chosen: Rows, action: str, **context: Any) -> TemplateResponse:
        """Ask once more, for what else the action needs."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Are you sure?",
            "opts": self.opts,
            "names": [row.pk for row in chosen],
            "action": action,
            **context,
        }
        return TemplateResponse(request, "admin/pgjobs/queue/confirm_action.html", context)

    @contextmanager
    def acting(self, request: Any) -> Iterator[tuple[Queues, Flows]]:
        """Act for the user who is signed in."""
        with acting_through(ADMIN, request.user.get_username()):
            yield Queues(jobs_database(), find_app()), Flows(jobs_database(), find_app())

    def _refused(self, request: Any, error: PgJobsError) -> HttpResponseRedirect:
        if request.method != "POST":
            raise error
        self.message_user(request, str(error), messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())


def count(number: int, of: str = "queue") -> str:
    """``3 queues``."""
    return f"1 {of}" if number == 1 else f"{number:,} {of}s"


def number(value: int | None) -> str:
    """A number; a dash for none."""
    return "-" if value is None else f"{value:,}"


def local(at: Any) -> str:
    """A time as Django shows it."""
    return str(formats.localize(timezone.localtime(at)))

"""The admin page of the audit: who did what to jobs, queues and entries."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import ERROR_FLAG
from django.db.models import Q
from django.http import HttpResponseRedirect

from ..control.audit import ACTIONS
from ..printable import printable
from .filters import CappedPaginator
from .models import Action


class ActionFilter(SimpleListFilter):  # type: ignore[misc]
    """By the kind of action."""

    title = parameter_name = "action"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, str]]:
        """All of them."""
        return [(name, name) for name in ACTIONS]

    def queryset(self, request: Any, queryset: Any) -> Any:
        """Those of the kind."""
        return queryset.filter(action=self.value()) if self.value() in ACTIONS else queryset


@admin.register(Action)
class ActionAdmin(admin.ModelAdmin):  # type: ignore[misc]
    """Read-only; an action in several transactions has a line for each."""

    list_display = ("at", "who", "action", "queue", "schedule", "jobs", "words", "via")
    list_display_links = ("at",)
    list_filter = (ActionFilter,)
    search_fields = ("actor", "queue", "schedule", "task_ids")
    search_help_text = "A name, a queue, an entry or a job's id, each in full."
    sortable_by = ()
    show_full_result_count = False
    paginator = CappedPaginator
    fields = (
        *("at", "who", "action", "queue", "app", "schedule", "jobs", "task_ids", "filters"),
        *("words", "via", "client", "role", "address"),
    )
    readonly_fields = fields

    def changelist_view(self, request: Any, extra_context: Any = None) -> Any:
        """The list; a NUL, which PostgreSQL cannot be asked for, is a wrong question as others."""
        if any("\0" in word for name, words in request.GET.lists() for word in (name, *words)):
            return HttpResponseRedirect(f"{request.path}?{ERROR_FLAG}=1")
        return super().changelist_view(request, extra_context)

    def lookup_allowed(self, lookup: str, *_: Any, **__: Any) -> bool:
        """No column but those of the filter and the search."""
        return lookup == "action"

    def get_object(self, request: Any, object_id: str, from_field: Any = None) -> Action | None:
        """One of them."""
        with suppress(ValueError):
            number = int(object_id)
            if 0 < number < 2**63:
                found: Action | None = Action.objects.filter(pk=number).first()
                return found
        return None

    def get_search_results(self, request: Any, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """The words together are one of these."""
        word = search_term.strip()
        if word:
            named = Q(actor=word) | Q(queue=word) | Q(schedule=word) | Q(task_ids__contains=[word])
            queryset = queryset.filter(named)
        return queryset, False

    @admin.display(description="actor")  # type: ignore[untyped-decorator]
    def who(self, action: Action) -> str:
        """Its name, without what would turn the page around."""
        return printable(action.actor)

    @admin.display(description="details")  # type: ignore[untyped-decorator]
    def words(self, action: Action) -> str:
        """The filters and what else was asked for."""
        shown = {name: value for name, value in action.details.items() if value not in ("", None)}
        words = json.dumps(shown, ensure_ascii=False) if shown else ""
        return printable("; ".join(filter(None, (action.filters, words))))

    def has_add_permission(self, request: Any) -> bool:
        """Actions are done."""
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        """They cannot be undone here."""
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        """They are pruned."""
        return False

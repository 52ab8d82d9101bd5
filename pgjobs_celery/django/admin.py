"""The admin page of jobs: look at them, run them again, cancel and delete them."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.views.main import ERROR_FLAG
from django.db.models import F, Q
from django.http import HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.html import format_html, format_html_join

from ..control.acting import ADMIN, acting_through, begin_action
from ..control.app import find_app
from ..control.jobs import ACTS_ON, Selection
from ..job.exceptions import is_endless
from ..job.rows import HIGHEST_RANK
from .audit_admin import ActionAdmin
from .filters import MOST, UNFINISHED, CappedPaginator, QueueFilter, StateFilter, TaskFilter
from .models import Job
from .place import jobs_database, place_of_page
from .queues_admin import QueueAdmin
from .rules_admin import PauseAdmin, RuleAdmin

# Django looks for pages in this module.
__all__ = ["ActionAdmin", "JobAdmin", "PauseAdmin", "QueueAdmin", "RuleAdmin"]

#: Read only where one job is looked at: these may be large.
LARGE = ("body", "message", "result", "traceback", "errors", "children")
#: Fields that the list's URL may filter by, besides its filters.
LOOKUPS = ("id", "task_id", "task", "queue", "state", "group_id", "parent_id", "root_id")
#: The highest number that a row can have.
HIGHEST_ID = 2**63 - 1
#: How many an action changes at a time.
BATCH = 1000

DONE = {
    "retry": "{} to run again",
    "cancel": "{} cancelled, or told to stop",
    "delete": "{} deleted",
}


@admin.register(Job)
class JobAdmin(admin.ModelAdmin):  # type: ignore[misc]
    """Read-only: rows change by the actions, which do what ``jobs(app)`` does.

    Who may *view* jobs may look, who may *change* them may run them again and cancel them, and who
    may *delete* them may do that.
    """

    list_display = (
        *("task_id", "task", "state", "queue", "attempts", "words"),
        *("inserted_at", "scheduled", "attempted_at", "finished_at"),
    )
    list_display_links = ("task_id",)
    list_filter = (StateFilter, QueueFilter, TaskFilter)
    search_fields = ("task_id", "task", "tags")
    search_help_text = "An id, a part of a task's name, or a tag; every word has to match."
    sortable_by = ()  # to sort by anything else would be to read the whole table
    show_full_result_count = False
    paginator = CappedPaginator
    actions = ("retry_jobs", "cancel_jobs", "delete_jobs")
    fieldsets = (
        (None, {"fields": ("task_id", "task", "arguments", "state", "reported_state", "queue")}),
        ("Outcome", {"fields": ("returned", "failures", "cancel_reason", "cancel_requested_at")}),
        ("Attempts", {"fields": ("attempts", "attempted_by", "attempted_at", "redelivered")}),
        (
            "Times",
            {"fields": ("inserted_at", "scheduled", "due", "expires_at", "finished_at")},
        ),
        ("Notes", {"fields": ("words", "notes", "rank", "lane", "cost")}),
        (
            "Workflow",
            {"fields": ("root_id", "parent_id", "group_id", "group_index", "superseded_by")},
        ),
    )
    readonly_fields = (
        *("arguments", "returned", "failures", "attempts", "words", "notes", "rank"),
        *("scheduled", "due"),
    )

    # Look

    def changelist_view(self, request: Any, extra_context: Any = None) -> Any:
        """The list; a NUL, which PostgreSQL cannot be asked for, is a wrong question as others."""
        if any("\0" in word for name, words in request.GET.lists() for word in (name, *words)):
            return HttpResponseRedirect(f"{request.path}?{ERROR_FLAG}=1")
        link = {"page_url": place_of_page()}
        return super().changelist_view(request, {**link, **(extra_context or {})})

    def change_view(
        self, request: Any, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> Any:
        """A job, with a link to its web page where there is one."""
        context = {"page_url": place_of_page("job"), **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)

    def lookup_allowed(self, lookup: str, *_: Any, **__: Any) -> bool:
        """A link may ask for what is text; not for arrays, JSON and bytes, which have a syntax."""
        return lookup.partition("__")[0] in LOOKUPS

    def get_queryset(self, request: Any) -> Any:
        """The list, without what it does not show."""
        return Job.objects.rows().defer(*LARGE).order_by(*self.get_ordering(request))

    def get_ordering(self, request: Any) -> tuple[Any, ...]:
        """The newest first."""
        if request.GET.get(StateFilter.parameter_name) in UNFINISHED:
            # Or PostgreSQL walks down the ids, past all that have finished since.
            return ((F("id") + 0).desc(),)
        return ("-id",)

    def get_object(self, request: Any, object_id: str, from_field: Any = None) -> Job | None:
        """One of them, with all that it has."""
        with suppress(ValueError):
            number = int(object_id)
            if 0 < number <= HIGHEST_ID:
                found: Job | None = Job.objects.filter(pk=number).first()
                return found
        return None

    def get_search_results(self, request: Any, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """Every word is an id, a part of a task's name, or a tag."""
        for word in search_term.split():
            if _is_uuid(word):
                queryset = queryset.filter(task_id=word)
            else:
                queryset = queryset.filter(
                    Q(task_id=word) | Q(task__icontains=word) | Q(tags__contains=[word.lower()])
                )
        return queryset, False

    @admin.display(description="attempt")  # type: ignore[untyped-decorator]
    def attempts(self, job: Job) -> str:
        """How many it has had, of how many."""
        return f"{job.attempt} of {job.max_attempts}"

    @admin.display(description="tags")  # type: ignore[untyped-decorator]
    def words(self, job: Job) -> str:
        """Its tags."""
        return ", ".join(job.tags)

    @admin.display(description="meta")  # type: ignore[untyped-decorator]
    def notes(self, job: Job) -> str:
        """Its meta."""
        return _shown(job.meta)

    @admin.display(description="priority")  # type: ignore[untyped-decorator]
    def rank(self, job: Job) -> int:
        """Its own priority; the row of a job in a lane has another."""
        return int(job.priority) & HIGHEST_RANK

    @admin.display(description="scheduled at")  # type: ignore[untyped-decorator]
    def scheduled(self, job: Job) -> Any:
        """When it may run; a job that waits without a timeout has no such time."""
        return "no timeout" if is_endless(job.scheduled_at) else job.scheduled_at

    @admin.display(description="due at")  # type: ignore[untyped-decorator]
    def due(self, job: Job) -> Any:
        """When it leaves the state in which it waits, in the same way."""
        return "no timeout" if is_endless(job.due_at) else job.due_at

    def arguments(self, job: Job) -> str:
        """The arguments of its call, if they can be read."""
        if job.args is None:
            return "not plain JSON"
        named = job.kwargs.items() if isinstance(job.kwargs, dict) else ()
        lines = [*map(_line, job.args), *(f"{name}={_line(value)}" for name, value in named)]
        return str(format_html("<pre>{}</pre>", "\n".join(lines)))

    @admin.display(description="result")  # type: ignore[untyped-decorator]
    def returned(self, job: Job) -> str:
        """The value that it returned or raised, if that can be read."""
        if job.result is None:
            return "-"
        try:
            return _shown(json.loads(bytes(job.result)))
        except ValueError:
            return f"{len(job.result):,} bytes of {job.result_type}"

    @admin.display(description="errors")  # type: ignore[untyped-decorator]
    def failures(self, job: Job) -> str:
        """An entry for each attempt that has failed, the last one first."""
        entries = (
            (
                f"attempt {entry.get('attempt')}, {entry.get('at')}",
                f"{entry.get('type')}: {entry.get('message')}",
                entry.get("traceback") or "",
            )
            for entry in reversed(job.errors)
        )
        return format_html_join("", "<p>{}<br>{}</p><pre>{}</pre>", entries) or "-"

    # Act

    def has_add_permission(self, request: Any) -> bool:
        """Jobs are published."""
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        """Rows are not edited."""
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        """Not by Django's own action, which does not know of workers."""
        return False

    def has_act_permission(self, request: Any) -> bool:
        """To run again and to cancel is to change."""
        return bool(request.user.has_perm("pgjobs.change_job"))

    def has_remove_permission(self, request: Any) -> bool:
        """To delete by our own action."""
        return bool(request.user.has_perm("pgjobs.delete_job"))

    @admin.action(  # type: ignore[untyped-decorator]
        description="Run the selected jobs again", permissions=["act"]
    )
    def retry_jobs(self, request: Any, queryset: Any) -> None:
        """Run finished jobs again, and now those that wait for their time."""
        self._act(request, queryset, "retry")

    @admin.action(  # type: ignore[untyped-decorator]
        description="Cancel the selected jobs", permissions=["act"]
    )
    def cancel_jobs(self, request: Any, queryset: Any) -> Any:
        """Waiting jobs never start, running ones are told."""
        if "confirmed" not in request.POST:
            return self._confirm(request, queryset, "cancel")
        return self._act(
            request, queryset, "cancel", reason=request.POST.get("reason", "").replace("\0", "")
        )

    @admin.action(  # type: ignore[untyped-decorator]
        description="Delete the selected jobs", permissions=["remove"]
    )
    def delete_jobs(self, request: Any, queryset: Any) -> Any:
        """Rows, results and all; not what runs."""
        if "confirmed" not in request.POST:
            return self._confirm(request, queryset, "delete")
        return self._act(request, queryset, "delete")

    def _confirm(self, request: Any, queryset: Any, action: str) -> TemplateResponse:
        """Ask once more."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Are you sure?",
            "opts": self.opts,
            "count": queryset.order_by()[:MOST].count(),
            "action": action,
            "states": _states(action),
            "selected": request.POST.getlist("_selected_action"),
            "select_across": request.POST.get("select_across", "0"),
        }
        return TemplateResponse(request, "admin/pgjobs/job/confirm_action.html", context)

    def _act(self, request: Any, queryset: Any, action: str, **options: Any) -> None:
        """Act on the jobs, the newest 10,000 at most, and say on how many of them."""
        ids = list(queryset.values_list("task_id", flat=True)[:MOST])
        with acting_through(ADMIN, request.user.get_username()):
            recorded = begin_action(f"{action}_jobs", find_app(), details=options)
        selection = Selection(jobs_database(), under=recorded)
        changed = 0
        for start in range(0, len(ids), BATCH):
            some = selection.filter(id=ids[start : start + BATCH])
            changed += len(getattr(some, action)(**options))
        self.message_user(
            request, DONE[action].format(_count(changed)).capitalize(), messages.SUCCESS
        )
        if left := len(ids) - changed:
            self.message_user(
                request,
                f"{_count(left)} left alone: to {action} is for those that are {_states(action)}",
                messages.WARNING,
            )


def _count(number: int) -> str:
    return "1 job" if number == 1 else f"{number:,} jobs"


def _states(action: str) -> str:
    *first, last = sorted(ACTS_ON[action])
    return f"{', '.join(first)} or {last}"


def _is_uuid(word: str) -> bool:
    try:
        return str(UUID(word)) == word
    except ValueError:
        return False


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return str(format_html("<pre>{}</pre>", text))

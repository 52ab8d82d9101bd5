"""The admin pages of rates and limits, and of pauses."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.shortcuts import redirect

from ..control.app import find_app
from ..control.flows import Flows
from ..job.flow import HAND, RATE
from ..job.pauses import KINDS
from .models import Pause, Rule
from .place import jobs_database
from .row_admin import RowAdmin, Rows, count, local
from .rule_forms import PauseForm, RuleForm, fields_of, pause_name

__all__ = ["PauseAdmin", "RuleAdmin"]


@admin.register(Rule)
class RuleAdmin(RowAdmin):
    """Rates and limits of tasks, queues and names; by hand and by the code of workers."""

    form = RuleForm
    list_display = ("name", "limit", "by", "scope", "source", "keys", "used", "waiting")
    search_help_text = "A part of a name."
    actions = ("reset_rules",)
    fields = ("flow", "limit", "by", "burst", "algorithm", "scope")

    def rows(self) -> list[Rule]:
        """All rules, each with how it stands."""
        rows = []
        for flow in Flows(jobs_database(), find_app()):
            row = Rule(name=flow.name)
            row.flow = flow
            rows.append(row)
        return rows

    def has_add_permission(self, request: Any) -> bool:
        """A rule that is new is a change of how jobs run."""
        return bool(self.has_change_permission(request))

    def get_fields(self, request: Any, obj: Any = None) -> list[str]:
        """The name is given once, and burst and algorithm are those of a rate."""
        if obj is None:
            return list(self.fields)
        is_rate = obj.name.startswith(f"{RATE}/")
        return [name for name in self.fields if name in fields_of(is_rate)]

    def save_model(self, request: Any, obj: Rule, form: RuleForm, change: bool) -> None:
        """Set the rule by hand."""
        with self.acting(request) as (_, flows):
            form.apply(flows)

    def limit(self, row: Rule) -> str:
        """The limit of each key, and the burst of a bucket."""
        burst = f", burst {row.flow.burst}" if row.flow.burst else ""
        return "any number" if row.flow.limit is None else f"{row.flow.limit}{burst}"

    @admin.display(description="of each")  # type: ignore[untyped-decorator]
    def by(self, row: Rule) -> str:
        """The argument by which it counts."""
        return "a function" if row.flow.by == "()" else row.flow.by or "-"

    def scope(self, row: Rule) -> str:
        """Of all workers, or of each."""
        return str(row.flow.scope)

    @admin.display(description="set by")  # type: ignore[untyped-decorator]
    def source(self, row: Rule) -> str:
        """A hand, or the code of workers."""
        return "hand" if row.flow.source == HAND else "code"

    @admin.display(description="keys in use")  # type: ignore[untyped-decorator]
    def keys(self, row: Rule) -> str:
        """How many keys have used it lately."""
        return f"{row.flow.keys_in_use:,}"

    @admin.display(description="used by the busiest")  # type: ignore[untyped-decorator]
    def used(self, row: Rule) -> str:
        """How much of the limit the busiest key has used."""
        return f"{row.flow.used:,}"

    def waiting(self, row: Rule) -> str:
        """How many jobs wait for it."""
        return f"{row.flow.waiting:,}{'+' if row.flow.is_cut else ''}"

    @admin.action(  # type: ignore[untyped-decorator]
        description="Take away what was set by hand", permissions=["change"]
    )
    def reset_rules(self, request: Any, chosen: Rows) -> None:
        """The rule of the code counts again, if it has one."""
        with self.acting(request) as (_, flows):
            done = [flows.reset(row.name) for row in chosen].count(True)
        self.message_user(request, f"{count(done, 'rule')} reset.", messages.SUCCESS)
        if left := len(chosen) - done:
            self.message_user(
                request, f"{count(left, 'rule')} left alone: set by code.", messages.WARNING
            )


@admin.register(Pause)
class PauseAdmin(RowAdmin):
    """Pauses of tasks, tags and keys; those of queues are on the page of queues."""

    form = PauseForm
    list_display = ("kind", "value", "queue", "since", "until")
    list_display_links = None
    search_help_text = "A part of the name of a task, a tag or a key."
    actions = ("resume_jobs",)
    fields = ("kind", "value", "queue", "until")

    def rows(self) -> list[Pause]:
        """The pauses that hold."""
        rows = []
        for each in Flows(jobs_database(), find_app()).pauses():
            row = Pause(name=pause_name(each.kind, each.name, each.queue))
            row.pause = each
            rows.append(row)
        return rows

    def has_add_permission(self, request: Any) -> bool:
        """To pause is a change of how jobs run."""
        return bool(request.user.has_perm("pgjobs.change_pause"))

    def has_act_permission(self, request: Any) -> bool:
        """To resume them as well."""
        return self.has_add_permission(request)

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        """A pause is not edited: it is resumed."""
        return False

    def has_view_permission(self, request: Any, obj: Any = None) -> bool:
        """By either permission."""
        return self.has_add_permission(request) or super().has_view_permission(request, obj)

    def change_view(self, request: Any, object_id: str, *args: Any, **kwargs: Any) -> Any:
        """There is no page of one."""
        return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    def save_model(self, request: Any, obj: Pause, form: PauseForm, change: bool) -> None:
        """Pause the jobs."""
        with self.acting(request) as (_, flows):
            form.apply(flows)

    def kind(self, row: Pause) -> str:
        """Of a task, a tag or a key."""
        return str(row.pause.kind)

    @admin.display(description="name")  # type: ignore[untyped-decorator]
    def value(self, row: Pause) -> str:
        """The name of the task or the tag, or the key."""
        return str(row.pause.name)

    def queue(self, row: Pause) -> str:
        """Of a key: its queue."""
        return row.pause.queue or "-"

    def since(self, row: Pause) -> str:
        """When it was paused."""
        return local(row.pause.paused_at)

    def until(self, row: Pause) -> str:
        """When it ends by itself."""
        return "-" if row.pause.until is None else local(row.pause.until)

    @admin.action(description="Resume the selected", permissions=["act"])  # type: ignore[untyped-decorator]
    def resume_jobs(self, request: Any, chosen: Rows) -> None:
        """Their jobs may begin again."""
        with self.acting(request) as (_, flows):
            for row in chosen:
                what = {kind: row.pause.name for kind in KINDS if kind == row.pause.kind}
                flows.resume(**what, queue=row.pause.queue or None)
        self.message_user(request, f"{count(len(chosen), 'pause')} ended.", messages.SUCCESS)

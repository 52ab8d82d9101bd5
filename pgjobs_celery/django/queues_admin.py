"""The admin page of queues: what each holds, and a form of its rules."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.utils.html import format_html

from ..control.app import find_app
from ..control.flows import Flow, Flows, write_limit
from ..control.overview import QueueNow, overview
from ..control.queues import Queue as QueueRules
from ..control.queues import Queues
from ..job.flow import HAND, QUEUE, RATE, RUNNING, flow_name
from .models import Queue
from .place import jobs_database
from .row_admin import RowAdmin, Rows, count, local, number
from .rule_forms import UNTIL, QueueForm, read_end

__all__ = ["QueueAdmin"]


@admin.register(Queue)
class QueueAdmin(RowAdmin):
    """Queues: what waits and runs, and a form of each one's rules."""

    form = QueueForm
    list_display = (
        "name",
        "state",
        "ready",
        "running",
        "workers",
        "limit",
        "rate",
        "turns",
        "depth",
    )
    search_help_text = "A part of a queue's name."
    actions = ("pause_queues", "resume_queues", "reset_queues")
    readonly_fields = ("state", "now", "standing", "weights")
    fieldsets = (
        (None, {"fields": ("state", "now", "limit")}),
        ("Rate", {"fields": ("rate", "rate_by", "burst")}),
        ("At once of each key", {"fields": ("each", "each_by")}),
        ("Fair shares", {"fields": ("fair", "ageing", "weights", "key", "weight")}),
        ("Depth", {"fields": ("max_depth", "on_full", "wait")}),
        ("How it stands", {"fields": ("standing",)}),
    )

    def rows(self) -> list[Queue]:
        """Those with jobs, workers or rules, and those that were declared to stay."""
        database = jobs_database()
        rules = {each.name: each for each in Queues(database)}
        rates = {each.flow: each for each in database.rules.list_rules()}
        rows = []
        for seen in overview(database).queues:
            row = Queue(name=seen.name)
            row.seen, row.rules = seen, rules.get(seen.name) or QueueRules(seen.name)
            row.rates = [
                rate
                for kind in (RATE, RUNNING)
                if (rate := rates.get(flow_name(kind, QUEUE, seen.name))) is not None
            ]
            rows.append(row)
        return rows

    def get_object(self, request: Any, object_id: str, from_field: Any = None) -> Queue | None:
        """The queue, with how its rates stand."""
        found: Queue | None = super().get_object(request, object_id)
        if found is not None:
            flows = Flows(jobs_database(), find_app())
            names = [flow_name(kind, QUEUE, found.name) for kind in (RATE, RUNNING)]
            found.flows = [flows.get(name) for name in names]
        return found

    def save_model(self, request: Any, obj: Queue, form: QueueForm, change: bool) -> None:
        """Change the rules whose fields were changed."""
        with self.acting(request) as (queues, flows):
            form.apply(queues[obj.name], flows)

    # Look

    def state(self, row: Queue) -> str:
        """Whether it is paused, and until when."""
        rules: QueueRules = row.rules
        if rules.paused_at is None:
            return "runs"
        end = "" if rules.paused_until is None else f" until {local(rules.paused_until)}"
        return str(format_html('<span style="white-space: nowrap">paused{}</span>', end))

    def ready(self, row: Queue) -> str:
        """How many jobs may begin."""
        seen: QueueNow = row.seen
        return f"{seen.ready:,}{'+' if seen.is_cut else ''}"

    def running(self, row: Queue) -> str:
        """How many run."""
        return f"{row.seen.running:,}"

    def workers(self, row: Queue) -> str:
        """How many live workers consume from it."""
        return f"{row.seen.consumers:,}"

    @admin.display(description="jobs at once")  # type: ignore[untyped-decorator]
    def limit(self, row: Queue) -> str:
        """On all workers together."""
        return number(row.rules.concurrency)

    @admin.display(description="rates and limits of keys")  # type: ignore[untyped-decorator]
    def rate(self, row: Queue) -> str:
        """Its rate, and how many run at once of each key."""
        shown = (
            f"{write_limit(each)}{' at once' if each.period is None else ''}"
            f"{f' for each {each.by}' if each.by else ''}"
            for each in row.rates
            if each.amount is not None
        )
        return ", ".join(shown) or "-"

    @admin.display(description="in turn")  # type: ignore[untyped-decorator]
    def turns(self, row: Queue) -> str:
        """The argument whose values take turns."""
        return row.rules.fair_by or "-"

    @admin.display(description="may wait")  # type: ignore[untyped-decorator]
    def depth(self, row: Queue) -> str:
        """Its maximum depth."""
        return number(row.rules.max_depth)

    def now(self, row: Queue) -> str:
        """What it holds."""
        return f"{self.ready(row)} ready, {self.running(row)} running, workers: {self.workers(row)}"

    @admin.display(description="rates and limits")  # type: ignore[untyped-decorator]
    def standing(self, row: Queue) -> str:
        """How its rates stand."""
        return "; ".join(_standing(flow) for flow in row.flows if flow is not None) or "-"

    @admin.display(description="weights")  # type: ignore[untyped-decorator]
    def weights(self, row: Queue) -> str:
        """The keys with a weight of their own."""
        weights = Queues(jobs_database())[row.name].weights()
        return ", ".join(f"{key}: {weight:g}" for key, weight in weights.items()) or "-"

    # Act

    @admin.action(description="Pause the selected queues", permissions=["change"])  # type: ignore[untyped-decorator]
    def pause_queues(self, request: Any, chosen: Rows) -> Any:
        """No worker begins a job of them; until a time."""
        if "confirmed" not in request.POST:
            return self.confirm(
                request, chosen, "pause_queues", verb="Pause", asks="until", help=UNTIL,
                note="What runs goes on, and nothing begins.",
            )  # fmt: skip
        end = read_end(request.POST.get("until", "").replace("\0", ""))
        with self.acting(request) as (queues, _):
            for row in chosen:
                queues.pause(row.name, end)
        self.message_user(request, f"{count(len(chosen))} paused.", messages.SUCCESS)
        return None

    @admin.action(description="Resume the selected queues", permissions=["change"])  # type: ignore[untyped-decorator]
    def resume_queues(self, request: Any, chosen: Rows) -> None:
        """Workers claim from them again."""
        with self.acting(request) as (queues, _):
            resumed = [queues.resume(row.name) for row in chosen].count(True)
        self.message_user(request, f"{count(resumed)} resumed.", messages.SUCCESS)
        if left := len(chosen) - resumed:
            self.message_user(request, f"{count(left)} not paused.", messages.WARNING)

    @admin.action(  # type: ignore[untyped-decorator]
        description="Reset the selected queues to the rules of the code", permissions=["change"]
    )
    def reset_queues(self, request: Any, chosen: Rows) -> Any:
        """Forget what was set by hand."""
        if "confirmed" not in request.POST:
            return self.confirm(
                request, chosen, "reset_queues", verb="Reset",
                note="What was set by hand is forgotten, but for a pause, the jobs at once, and "
                "weights. Rates count as the code of workers has them at once, turns and the depth "
                "when the next worker starts.",
            )  # fmt: skip
        with self.acting(request) as (queues, _):
            for row in chosen:
                queues[row.name].reset()
        self.message_user(request, f"{count(len(chosen))} reset.", messages.SUCCESS)
        return None


def _standing(flow: Flow) -> str:
    """How a rule stands, in a sentence."""
    each = f" of each {flow.by}" if flow.by else ""
    words = [f"{flow.name} ({flow.limit if flow.limit is not None else 'any number'}{each})"]
    words.append(f"{flow.used:,} used{' by the busiest key' if flow.by else ''}")
    if flow.by:
        words.append(f"{flow.keys_in_use:,} keys in use")
    words.append(f"{flow.waiting:,}{'+' if flow.is_cut else ''} jobs wait")
    words.append("set by hand" if flow.source == HAND else "set by the code")
    return ", ".join(words)

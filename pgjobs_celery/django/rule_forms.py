"""The forms in which the admin changes rules; ``queues()`` and ``flows()`` do what they ask for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from ..control.app import find_app
from ..control.flows import Flows, read_flow, read_key, read_pause, read_rule
from ..control.keys import check_keys
from ..control.one_queue import OneQueue
from ..errors import InvalidOption, PgJobsError
from ..job.flow import (
    BUCKET,
    GLOBAL,
    HAND,
    QUEUE,
    RATE,
    RUNNING,
    WINDOW,
    WORKER,
    check_path,
    check_weight,
    flow_name,
    named_path,
)
from ..job.flow_options import DROP_OLDEST, RAISE, WAIT
from ..job.pauses import KEY, KINDS
from ..job.spelling import read_duration
from .models import Pause, Queue, Rule
from .place import jobs_database

CHOICES = {
    RAISE: "its publisher gets QueueFull",
    WAIT: "its publisher waits for room, and gets QueueFull then",
    DROP_OLDEST: "the job that waits longest is cancelled",
}
UNTIL = "A duration, such as 90, 15m, 2h or 3d, or a time: 2027-01-31 06:00."
ARGUMENT = "An argument, such as tenant_id, or a path: kwargs.order.customer."


class CheckedForm(forms.ModelForm):  # type: ignore[misc]
    """A form without fields of the model, whose values our own functions check."""

    def checked(self, field: str, check: Callable[[], Any]) -> Any:
        """The value; what is wrong about it is told beside the field."""
        try:
            return check()
        except PgJobsError as error:
            self.add_error(field, str(error))
            return None

    def save(self, commit: bool = True) -> Any:
        """The row; ``save_model`` of the page does what the form asks for."""
        return self.instance

    def save_m2m(self) -> None:
        """Nothing."""

    def has(self, *names: str) -> bool:
        """True if one of these fields was changed."""
        return not {*names}.isdisjoint(self.changed_data)


def text(label: str, help: str = "") -> forms.CharField:
    """A field for a name or a rate."""
    return forms.CharField(
        label=label, help_text=help, required=False, max_length=255,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )  # fmt: skip


def number(label: str, help: str = "", least: int = 0) -> forms.IntegerField:
    """A field for a number."""
    return forms.IntegerField(
        label=label, help_text=help, required=False, min_value=least, max_value=2**31 - 1
    )


def seconds(label: str, help: str = "") -> forms.FloatField:
    """A field for a number of seconds."""
    return forms.FloatField(label=label, help_text=help, required=False, min_value=0)


class QueueForm(CheckedForm):
    """All rules of a queue; an empty field is no rule."""

    limit = number("Jobs at once", "On all workers together. Empty: any number.")
    rate = text("Rate", "100/m, 5/s, 1000/h, 100/10s. Empty: any number of starts.")
    rate_by = text("A rate for each", ARGUMENT)
    burst = number("Burst", "So many may begin at once; then they are spread evenly.", 1)
    each = number("Jobs at once of each key", "Empty: any number.")
    each_by = text("The key", ARGUMENT)
    fair = text("Serve in turn each", f"{ARGUMENT} Empty: one line.")
    ageing = seconds(
        "Ageing", "After so many seconds a job counts as one rank more urgent. Empty: never."
    )
    key = text("Set the weight of", "A key: a value of that argument.")
    weight = forms.FloatField(
        label="to", required=False, help_text="So many turns where others have one. Empty: one."
    )
    max_depth = number("Jobs that may wait", "Empty: any number.")
    on_full = forms.ChoiceField(
        label="With one job more", choices=tuple(CHOICES.items()), required=False
    )
    wait = seconds("Wait", "For so many seconds at most, where the publisher waits.")

    class Meta:
        model = Queue
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rules, (rate, each) = self.instance.rules, self.instance.flows
        self.initial |= {
            "limit": rules.concurrency, "fair": rules.fair_by, "ageing": rules.ageing,
            "max_depth": rules.max_depth, "on_full": rules.on_full or RAISE,
            "wait": rules.full_wait,
            "rate": rate and rate.limit, "rate_by": rate and rate.by, "burst": rate and rate.burst,
            "each": each and each.limit, "each_by": each and each.by,
        }  # fmt: skip

    def clean(self) -> dict[str, Any]:
        """Check what belongs together."""
        given = super().clean() or self.cleaned_data
        name, values = self.instance.name, given.get
        if values("rate"):
            flow, by = flow_name(RATE, QUEUE, name), values("rate_by") or None
            self.checked(
                "rate", lambda: read_rule(flow, given["rate"], by=by, burst=values("burst"))
            )
        elif values("rate_by") or values("burst"):
            self.add_error("rate", "A key or a burst needs a rate.")
        if values("each") is not None:
            flow, by = flow_name(RUNNING, QUEUE, name), values("each_by") or None
            self.checked("each_by", lambda: read_rule(flow, given["each"], by=by))
        elif values("each_by"):
            self.add_error("each", "A key needs a number.")
        if values("fair"):
            self.checked("fair", lambda: check_path("fair", named_path(given["fair"])))
        elif values("ageing"):
            self.add_error("ageing", "Ageing is for a queue that serves keys in turn.")
        if values("ageing") == 0:
            self.add_error("ageing", "Ageing is more than 0 s, or empty.")
        if values("key"):
            self.checked("key", lambda: read_key(given["key"]))
        elif values("weight") is not None:
            self.add_error("key", "A weight is that of a key.")
        if values("weight") is not None:
            self.checked("weight", lambda: check_weight(given["weight"]))
        if values("wait") and values("on_full") != WAIT:
            self.add_error("wait", "Only a publisher that waits for room has this.")
        return dict(given)

    def apply(self, queue: OneQueue, flows: Flows) -> None:
        """Change the rules whose fields were changed."""
        given = self.cleaned_data
        if self.has("limit"):
            queue.concurrency(given["limit"])
        if self.has("rate", "rate_by", "burst"):
            by, burst = given["rate_by"] or None, given["burst"]
            _set(flows, flow_name(RATE, QUEUE, queue.name), given["rate"] or None, by, burst=burst)
        if self.has("each", "each_by"):
            flow = flow_name(RUNNING, QUEUE, queue.name)
            _set(flows, flow, given["each"], given["each_by"] or None)
        if self.has("fair", "ageing"):
            if given["fair"]:
                queue.fair(given["fair"], given["ageing"])
            else:
                queue.unfair()
        if given["key"]:
            queue.weight(given["key"], given["weight"])
        if self.has("max_depth", "on_full", "wait"):
            on_full = given["on_full"] or RAISE
            queue.max_depth(given["max_depth"], on_full, given["wait"] if on_full == WAIT else None)


def _set(flows: Flows, flow: str, limit: Any, by: str | None, **options: Any) -> None:
    """Set a rule; without a limit take away that of a hand, or else have the code's not count."""
    rule = flows.get(flow, keys=1)
    if limit is None and rule is not None and rule.source == HAND:
        flows.reset(flow)
    elif limit is not None or rule is not None:
        flows.change(flow, limit, by=by, **options)


class RuleForm(CheckedForm):
    """A rate, or how many run at once."""

    flow = text("Name", "rate/task/shop.mail, running/queue/exports, rate/stripe")
    limit = text("Limit", "A rate: 100/m. How many run at once: 5. Empty: any number.")
    by = text("Of each", ARGUMENT)
    burst = number("Burst", "Of a bucket: so many may begin at once.", 1)
    algorithm = forms.ChoiceField(
        required=False,
        choices=(
            ("", "-"),
            (WINDOW, "window: never more in any period"),
            (BUCKET, "bucket: refilled evenly"),
        ),
        help_text="Of a rate.",
    )
    scope = forms.ChoiceField(
        choices=((GLOBAL, "all workers together"), (WORKER, "each worker by itself"))
    )

    class Meta:
        model = Rule
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            known = fields_of(self.instance.pk.startswith(f"{RATE}/"))
            for name in [*self.fields]:
                if name not in known:
                    del self.fields[name]
            self.initial |= {name: getattr(self.instance.flow, name) for name in known}

    def clean(self) -> dict[str, Any]:
        """Check the rule as a whole."""
        given = dict(super().clean() or self.cleaned_data)
        name = self.instance.pk or given.get("flow", "")
        given["flow"] = flow = self.checked("flow" if "flow" in self.fields else "limit",
                                            lambda: read_flow(name))  # fmt: skip
        if flow is not None:
            self.checked("limit", lambda: read_rule(flow, **self.rule(given)))
        return given

    def rule(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments of ``flows(app).set()``."""
        return {
            "limit": given.get("limit") or None,
            "by": given.get("by") or None,
            "burst": given.get("burst"),
            "algorithm": given.get("algorithm") or None,
            "scope": given.get("scope") or GLOBAL,
        }

    def apply(self, flows: Flows) -> None:
        """Set the rule by hand."""
        flow = self.cleaned_data["flow"]
        flows.set(flow, **self.rule(self.cleaned_data))
        self.instance.name = flow


class PauseForm(CheckedForm):
    """A pause of the jobs of a task, with a tag or of a key."""

    kind = forms.ChoiceField(choices=[(kind, kind) for kind in KINDS])
    value = forms.CharField(
        label="Name", max_length=255, widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text="Of the task or the tag; the value of the key.",
    )  # fmt: skip
    queue = text("Queue", "Of a key: the queue that has rules or turns by it.")
    until = text("Until", f"{UNTIL} Empty: until it is resumed.")

    class Meta:
        model = Pause
        fields = ()

    def clean(self) -> dict[str, Any]:
        """Check which jobs are meant, and for how long."""
        given = dict(super().clean() or self.cleaned_data)
        if "kind" in given and "value" in given:
            is_key = given["kind"] == KEY
            paused = self.checked("queue" if is_key else "value",
                                  lambda: read_pause(*self.jobs(given)))  # fmt: skip
            if is_key and paused is not None:
                self.checked("queue", lambda: check_keys(jobs_database(), find_app(), paused.queue))
        if given.get("until"):
            given["until"] = self.checked("until", lambda: read_end(given["until"]))
        return given

    def jobs(self, given: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
        """Task, tag, key and queue, as ``flows(app).pause()`` has them."""
        task, tag, key = (given["value"] if given["kind"] == kind else None for kind in KINDS)
        return task, tag, key, given.get("queue") or None

    def apply(self, flows: Flows) -> None:
        """Pause them."""
        task, tag, key, queue = self.jobs(self.cleaned_data)
        until = self.cleaned_data["until"] or None
        flows.pause(task=task, tag=tag, key=key, queue=queue, until=until)
        self.instance.name = pause_name(*read_pause(task, tag, key, queue))


def read_end(given: str) -> float | datetime | None:
    """The end of a pause: seconds from now, or a time in Django's time zone; None for no text.

    Raises InvalidOption.
    """
    if not given.strip():
        return None
    with suppress(InvalidOption):
        return read_duration(given)
    try:
        end = parse_datetime(given.strip())
    except ValueError:
        end = None
    if end is None:
        raise InvalidOption(
            f"{given!r} is neither a duration (90, 15m, 2h) nor a time (2027-01-31 06:00)"
        )
    moment: datetime = end if timezone.is_aware(end) else timezone.make_aware(end)
    return moment


def fields_of(is_rate: bool) -> tuple[str, ...]:
    """The fields of a rule that is there."""
    return ("limit", "by", "burst", "algorithm", "scope") if is_rate else ("limit", "by", "scope")


def pause_name(kind: str, name: str, queue: str = "") -> str:
    """The name of a pause on its page."""
    return f"{kind}:{queue}:{name}" if kind == KEY else f"{kind}:{name}"

"""What ``celery pgjobs top`` shows, and what keys do to that; draws nothing, asks nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..printable import printable

if TYPE_CHECKING:
    from ..control.overview import Overview, QueueNow


class Action(NamedTuple):
    """A wish of a key that goes beyond the view."""

    kind: Literal["quit", "look", "pause", "resume"]
    queue: str = ""


def _by_oldest(queue: QueueNow) -> float:
    return -1.0 if queue.oldest_wait is None else queue.oldest_wait


#: The columns to sort by, the first as it begins; by name upwards, by all others downwards.
SORTS: dict[str, Callable[[QueueNow], float]] = {
    "ready": lambda queue: queue.ready,
    "running": lambda queue: queue.running,
    "in": lambda queue: queue.rate_in,
    "out": lambda queue: queue.rate_out,
    "oldest": _by_oldest,
    "name": lambda queue: 0,
}

HELP = "q quit   ↑↓ select   p pause   r resume   / filter   s sort   space look now"


@dataclass
class View:
    """The selection, order and filter of the view, and what is being asked."""

    sort: str = "ready"
    #: Only queues whose name contains this, whatever its case.
    filter: str = ""
    is_typing: bool = False
    #: The name of the selected queue; None before the first key.
    selected: str | None = None
    #: A pause that is to be confirmed.
    asked: Action | None = None
    #: The outcome of the last action.
    message: str = ""
    overview: Overview | None = field(default=None, repr=False)
    #: How many queues are seen at once.
    page: int = 10

    def queues(self) -> list[QueueNow]:
        """Those that are shown, in order."""
        found = self.overview.queues if self.overview else ()
        words = self.filter.casefold()
        shown = [each for each in found if words in printable(each.name).casefold()]
        key = SORTS[self.sort]
        return sorted(shown, key=lambda each: (-key(each), each.name))

    def press(self, key: str) -> Action | None:
        """Do what a key says."""
        if self.asked is not None:
            asked, self.asked = self.asked, None
            return asked if key in ("y", "enter") else None
        self.message = ""
        if self.is_typing:
            self._type(key)
            return None
        if key == "q":
            return Action("quit")
        if key == " ":
            return Action("look")
        if key == "/":
            self.is_typing = True
        elif key == "escape":
            self.filter, self.selected = "", None
        elif key == "s":
            names = list(SORTS)
            self.sort = names[(names.index(self.sort) + 1) % len(names)]
        elif key in ("p", "r"):
            return self._change(key)
        else:
            self._move(key)
        return None

    def prompt(self) -> str:
        """The last line."""
        if self.asked is not None:
            return f"Pause {self.asked.queue}, on all workers? y: yes, any other key: no"
        if self.is_typing:
            return f"Filter: {self.filter}_   enter: keep, escape: all queues"
        return self.message or HELP

    def _type(self, key: str) -> None:
        if key == "escape":
            self.filter, self.is_typing = "", False
        elif key == "enter":
            self.is_typing = False
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1:
            self.filter += key

    def _change(self, key: str) -> Action | None:
        queue = next((each for each in self.queues() if each.name == self.selected), None)
        if queue is None:
            self.message = "Select a queue first: up and down"
        elif key == "r":
            return Action("resume", queue.name)
        elif queue.paused_at is not None:
            self.message = f"{queue.name} is paused already"
        else:
            self.asked = Action("pause", queue.name)
        return None

    def _move(self, key: str) -> None:
        names = [each.name for each in self.queues()]
        steps = {
            "up": -1, "k": -1, "down": 1, "j": 1, "page up": -self.page, "page down": self.page,
            "home": -len(names), "end": len(names),
        }  # fmt: skip
        if key not in steps or not names:
            return
        if self.selected not in names:
            self.selected = names[0]
            return
        place = names.index(self.selected) + steps[key]
        self.selected = names[max(0, min(place, len(names) - 1))]


class Heights(NamedTuple):
    """How many rows each table has."""

    queues: int
    workers: int
    failures: int


#: The lines of a screen that are no rows: two at the top, the last one, and above each table its
#: head, above the second and third a gap.
FRAME = 8
#: The lines of a screen that has no place for more than queues.
LOW = 14


def share(height: int, queues: int, workers: int, failures: int) -> Heights:
    """How a screen of so many lines is divided between tables that would have so many rows."""
    if height < LOW:
        return Heights(min(max(1, queues), max(1, height - 4)), 0, 0)
    room = height - FRAME
    least = max(2, room // 4)
    for_workers, for_failures = min(workers, least), min(failures, least)
    for_queues = min(max(1, queues), room - for_workers - for_failures)
    left = room - for_queues - for_workers - for_failures
    more = min(left, workers - for_workers)
    return Heights(
        for_queues, for_workers + more, for_failures + min(left - more, failures - for_failures)
    )


def window(count: int, selected: int, height: int) -> tuple[int, int]:
    """Which of so many rows are seen: the selected one among them."""
    first = max(0, min(selected - height // 2, count - height))
    return first, min(count, first + height)


def state_of(queue: QueueNow) -> str:
    """A word about a queue that needs one."""
    if queue.paused_at is not None:
        return "paused"
    if queue.ready and not queue.consumers:
        return "no worker"
    if queue.concurrency is not None and queue.running >= queue.concurrency:
        return "limit full"
    return f"{queue.failed} failed" if queue.failed else ""


def totals(queues: Sequence[QueueNow]) -> tuple[int, int, bool, float, float]:
    """Ready, running, whether they are more, and the rates in and out."""
    return (
        sum(each.ready for each in queues), sum(each.running for each in queues),
        any(each.is_cut for each in queues), sum(each.rate_in for each in queues),
        sum(each.rate_out for each in queues),
    )  # fmt: skip


def brief(seconds: float | None) -> str:
    """A duration in a few letters: ``4.2s``, ``12m``, ``3h``, ``5d``; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f}s"
    for unit, size in (("s", 120), ("m", 7200), ("h", 172_800)):
        if seconds < size:
            return f"{seconds / {'s': 1, 'm': 60, 'h': 3600}[unit]:.0f}{unit}"
    return f"{seconds / 86_400:,.0f}d"


def per_second(rate: float) -> str:
    """A rate in a few letters; nothing for 0."""
    if rate <= 0:
        return ""
    return f"{rate:.1f}" if rate < 10 else f"{rate:,.0f}"

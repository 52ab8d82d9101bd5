"""Pauses of tasks, tags and keys, as gates of the lanes in which paused jobs wait."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from .flow import PAUSE, flow_name, gate_name, lane_text, read_lane

TASK, TAG, KEY = "task", "tag", "key"
KINDS = (TASK, TAG, KEY)


class Pause(NamedTuple):
    """The jobs of a task, with a tag or, in one queue, of a key may not begin."""

    kind: str
    name: str
    #: Of a key alone; empty for the other kinds.
    queue: str = ""

    @property
    def gate(self) -> str:
        """The gate that is shut while the pause holds."""
        if self.kind == KEY:
            return gate_name(flow_name(PAUSE, KEY, self.queue), self.name)
        return flow_name(PAUSE, self.kind, self.name)

    def holds(self, task: str, queue: str, tags: Iterable[str], keys: Collection[str]) -> bool:
        """True if a job of this task, queue, with these tags and keys is paused by it."""
        if self.kind == TASK:
            return task == self.name
        if self.kind == TAG:
            return self.name in tags
        return queue == self.queue and self.name in keys


def keys_of(lane: str | None) -> set[str]:
    """The keys of the jobs in a lane, by whichever rule they have one."""
    gates, share = read_lane(lane)
    found = {gate.partition("=")[2] for gate in gates if "=" in gate}
    return found if share is None else found | {share}


def parked(lane: str | None, pauses: Sequence[Pause]) -> str:
    """The lane of a job that these pauses keep from running."""
    gates, share = read_lane(lane)
    return lane_text([*gates, *(pause.gate for pause in pauses)], share) or ""


def kinds_of(lane: str) -> set[str]:
    """The kinds of pauses that jobs in this lane are parked for."""
    gates = read_lane(lane).gates
    return {gate.split("/", 2)[1] for gate in gates if gate.startswith(f"{PAUSE}/")}


def unparked(lane: str, holding: Collection[str]) -> str | None:
    """The lane without the gates of pauses that do not hold any more; None where it has no other.

    ``holding``: the gates of the pauses that do.
    """
    gates, share = read_lane(lane)
    kept = [gate for gate in gates if not gate.startswith(f"{PAUSE}/") or gate in holding]
    return lane if len(kept) == len(gates) else lane_text(kept, share)

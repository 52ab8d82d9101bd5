"""Whether rules were kept, by what the database has noted of each claim (flow.LEDGER)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import psycopg


class Rule(NamedTuple):
    """A row of ``flows``."""

    flow: str
    amount: int
    #: In microseconds; None for a limit of how many run at once.
    period: int | None
    burst: int | None
    algorithm: str
    scope: str


class Held(NamedTuple):
    """One claim. Times are microseconds of the server's clock."""

    job: int
    attempt: int
    node: str
    queue: str
    gates: Sequence[str]
    cost: int
    #: The row's ``attempted_at``.
    started: int
    begun: int
    ended: int


RULES = """
    SELECT DISTINCT ON (flow) flow, amount, (period * 1e6)::bigint, burst, algorithm, scope
    FROM pgjobs.flows ORDER BY flow, source DESC
"""
HELD = """
    SELECT job, attempt, node::text, queue, coalesce(string_to_array(lane, E'\n'), '{}'), cost,
           (extract(epoch FROM started) * 1e6)::bigint, (extract(epoch FROM begun) * 1e6)::bigint,
           (extract(epoch FROM coalesce(ended, clock_timestamp())) * 1e6)::bigint
    FROM public.chaos_held
"""


class FlowOracle:
    """Everything that was claimed, and the rules."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.rules = {row[0]: Rule(*row) for row in connection.execute(RULES)}
        self.held = [Held(*row) for row in connection.execute(HELD)]
        #: How often each rule had no room left: what never was full was not tested.
        self.full: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()

    def violations(self) -> dict[str, list[str]]:
        """By rule; empty, one hopes."""
        passed: dict[tuple[Rule, str], list[Held]] = defaultdict(list)
        for held in self.held:
            for gate in held.gates:
                if rule := self.rules.get(gate.partition("=")[0]):
                    by_worker = f"{gate}@{held.node}" if rule.scope == "worker" else gate
                    passed[rule, by_worker].append(held)
        found: dict[str, list[str]] = defaultdict(list)
        for (rule, gate), claims in passed.items():
            self.starts[rule.flow] += len(claims)
            if rule.period is None:
                most = most_at_once(claims)
                if most > rule.amount:
                    found[rule.flow].append(f"{gate}: {most} at once")
                self.full[rule.flow] += most == rule.amount
            elif rule.algorithm == "bucket":
                excess = most_from_bucket(rule, claims)
                if excess > 0:
                    found[rule.flow].append(f"{gate}: {excess} us too early")
                self.full[rule.flow] += excess > -rule.period // rule.amount
            else:
                most = most_within(rule, claims)
                if most > rule.amount:
                    found[rule.flow].append(f"{gate}: {most} within its period")
                self.full[rule.flow] += most == rule.amount
        return dict(found)

    def most_in_queue(self, queue: str) -> int:
        """How many jobs of a queue were claimed at once."""
        return most_at_once([held for held in self.held if held.queue == queue])

    def begun_within(self, queue: str, start: float, end: float) -> list[Held]:
        """The claims of a queue between two times, in seconds."""
        first, last = int(start * 1e6), int(end * 1e6)
        return [each for each in self.held if each.queue == queue and first < each.begun < last]


def most_at_once(claims: Iterable[Held]) -> int:
    """The largest number of claims at any moment."""
    steps = [(held.begun, 1) for held in claims] + [(held.ended, -1) for held in claims]
    most = now = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def most_within(rule: Rule, claims: Sequence[Held]) -> int:
    """The most tokens that starts in any period took, wherever it begins."""
    assert rule.period is not None
    starts = sorted((held.started, min(held.cost, rule.amount)) for held in claims)
    most = taken = first = 0
    for at, cost in starts:
        taken += cost
        while starts[first][0] <= at - rule.period:
            taken -= starts[first][1]
            first += 1
        most = max(most, taken)
    return most


def most_from_bucket(rule: Rule, claims: Sequence[Held]) -> int:
    """By how many microseconds a start was too early, at most; below zero for never.

    GCRA: over a time t at most burst + t * amount / period tokens.
    """
    assert rule.period is not None
    size = rule.burst or rule.amount
    full_at, worst = 0.0, float("-inf")
    for at, cost in sorted((held.started, min(held.cost, size)) for held in claims):
        full_at = max(full_at, at) + cost * rule.period / rule.amount
        # The server counts in doubles of seconds.
        worst = max(worst, full_at - at - size * rule.period / rule.amount - 10)
    return round(worst)

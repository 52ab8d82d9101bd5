"""Explain a job that waits for a rate, a limit of a key, its turn, or the end of a pause."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Any

from ..db.rows.explain import FEW, MOST_AHEAD
from ..job.flow import PAUSE, flow_of, read_lane
from ..job.pauses import KEY, TAG, Pause, keys_of
from .explanation import COMMAND, Explanation, Facts, GateFacts, by, count, explanation, until, when
from .flows import write_limit

if TYPE_CHECKING:
    from ..db.rows.explain import Explain, JobFacts
    from ..db.rows.rules import PauseRow, Rules


def gather_flow(rows: Explain, rules: Rules, job: JobFacts) -> dict[str, Any]:
    """The facts about a job's lane and about pauses, as fields of Facts."""
    found: dict[str, Any] = {"pauses": holding(job, rules.list_pauses())}
    if job.lane is None:
        return found
    lane = read_lane(job.lane)
    gates = [gate for gate in lane.gates if not gate.startswith(f"{PAUSE}/")]
    known = {rule.flow: rule for rule in rules.list_rules({flow_of(gate) for gate in gates})}
    used = {each.gate: each for each in rules.look_at_gates(known, MOST_AHEAD, gates)}
    facts = []
    for gate in gates:
        if (rule := known.get(flow_of(gate))) is None:
            continue
        state = used.get(gate)
        is_running = rule.period is None and rule.amount is not None
        facts.append(
            GateFacts(
                gate,
                rule,
                state.used if state else 0,
                state.next_in if state else 0.0,
                tuple(rows.explain_holders(gate)) if is_running else (),
            )
        )
    place = rows.explain_lane(job.queue, job.lane, job.priority, job.seq)
    return {**found, "lane": place, "gates": tuple(facts)}


def holding(job: JobFacts, pauses: list[PauseRow]) -> tuple[PauseRow, ...]:
    """The pauses that keep it from running."""
    gates, keys = read_lane(job.lane).gates, keys_of(job.lane)
    return tuple(
        each
        for each in pauses
        if (pause := Pause(*each[:3])).gate in gates
        or pause.holds(job.task, job.queue, job.tags, keys)
    )


def explain_paused(facts: Facts) -> Explanation:
    """Its task, its tag or its key is paused."""
    job, pause = facts.job, facts.pauses[0]
    words = {KEY: f"Key {pause.name} of queue {pause.queue}", TAG: f"Tag {pause.name}"}
    option = f"{quote(pause.queue)} --key" if pause.kind == KEY else f"--{pause.kind}"
    return explanation(
        job,
        "jobs_paused",
        f"{words.get(pause.kind, f'Task {pause.name}')} is paused since"
        f" {when(pause.paused_at, job.now)}{by(facts.doer)}{until(pause.until, job.now)}: no worker"
        " begins a job of it. It keeps its place in line.",
        f"{COMMAND} resume {option} {quote(pause.name)}",
        paused_at=pause.paused_at,
        paused_until=pause.until,
        paused_by=facts.doer and facts.doer.actor,
        pause=pause.kind,
        name=pause.name,
    )


def explain_lane(facts: Facts, details: dict[str, Any]) -> Explanation | None:
    """The gate that it waits for, or its turn; None where nothing of both holds it up."""
    job, lane = facts.job, facts.lane
    details = details | {"lane": job.lane, "ahead": lane.ahead, "lanes_ahead": lane.lanes_ahead}
    shut = [gate for gate in facts.gates if gate.is_shut]
    if shut:
        # The one that opens last counts.
        gate = max(shut, key=lambda each: (each.rule.amount == 0, each.next_in))
        return _waits_for_gate(facts, gate, details)
    share = read_lane(job.lane).share
    if share is not None and (lane.lanes_ahead or lane.ahead):
        return explanation(
            job,
            "waits_for_turn",
            f"Queue {job.queue} serves the values of {job.fair_by or 'its key'} in turn, and key"
            f" {share} waits for its turn: {_before(facts)}, and {_many(lane.lanes_ahead, 'lane')}"
            " with an earlier turn.",
            **details,
        )
    if lane.ahead:
        text = f"It waits in a lane of queue {job.queue}: {_before(facts)}."
        return explanation(job, "in_line", text, **details)
    return None


def _waits_for_gate(facts: Facts, gate: GateFacts, details: dict[str, Any]) -> Explanation:
    job, rule = facts.job, gate.rule
    key = gate.gate.partition("=")[2]
    name = rule.flow + (f", key {key}" if key else "")
    limit = write_limit(rule)
    known = {"flow": rule.flow, "key": key or None, "used": gate.used, "limit": limit}
    change = f"{COMMAND} flows show {quote(rule.flow)}"
    if rule.period is not None:
        if not rule.amount:
            text = f"It waits for a token of {name}, which allows none. {_before(facts)}."
        else:
            text = (
                f"It waits for a token of {name} ({limit}): next in {gate.next_in:.1f} s;"
                f" {_before(facts)}."
            )
        return explanation(
            job, "rate_used_up", text, change, next_in=gate.next_in, **{**details, **known}
        )
    named = ", ".join(f"{each.task_id} on {each.worker}" for each in gate.holders)
    more = gate.used - len(gate.holders)
    named += f" and {more:,} more" if named and more > 0 else ""
    return explanation(
        job,
        "key_full",
        f"{gate.used:,} of {name}, which allows {limit} at once, {_are(gate.used)} running"
        f"{': ' + named if named else ''}. {_before(facts)}.",
        change,
        holders=[each._asdict() for each in gate.holders[:FEW]],
        **{**details, **known},
    )


def _before(facts: Facts) -> str:
    ahead = facts.lane.ahead
    return f"{_many(ahead, 'job')} {_are(ahead)} before it"


def _many(number: int, noun: str) -> str:
    return f"more than {MOST_AHEAD:,} {noun}s" if number > MOST_AHEAD else count(number, noun)


def _are(number: int) -> str:
    return "is" if number == 1 else "are"

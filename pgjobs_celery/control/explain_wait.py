"""Explain a job that sleeps, or waits for a signal: a pure function of the facts."""

from __future__ import annotations

import json
from shlex import quote

from .explanation import COMMAND, Explanation, Facts, explanation, when


def explain_wait(facts: Facts) -> Explanation | None:
    """The sleep or signal that it waits for; None where it does not wait, or not any more."""
    job, wait = facts.job, facts.wait
    if wait is None or (job.due_at is not None and job.due_at <= job.now):
        return None
    since = f" since {when(wait.since, job.now)}" if wait.since else ""
    done = f" Steps done: {', '.join(wait.done)}." if wait.done else ""
    details = {
        "signal": wait.signal, "key": wait.key, "since": wait.since, "until": wait.until,
        "steps": wait.done, "due_at": job.due_at,
    }  # fmt: skip
    if wait.signal is None:
        until = f" until {when(wait.until, job.now)}" if wait.until else ""
        return explanation(
            job,
            "asleep",
            f"Its task sleeps{until}, and holds no worker meanwhile.{done}",
            f"{COMMAND} show {quote(job.task_id)}",
            **details,
        )
    key = f" (key {json.dumps(wait.key)})" if wait.key is not None else ""
    kept = (
        f" Signals that it does not wait for are kept: {', '.join(wait.kept)}." if wait.kept else ""
    )
    ends = f"times out {when(wait.until, job.now)}" if wait.until else "and has no timeout"
    return explanation(
        job,
        "waits_for_signal",
        f"It waits for signal {wait.signal}{key}{since}, {ends}.{done}{kept}",
        f"{COMMAND} signal {quote(job.task_id)} {quote(wait.signal)}",
        **details,
    )

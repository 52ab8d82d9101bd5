"""How the commands of ``celery pgjobs`` show a job."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from ..job.exceptions import is_endless
from ..job.states import State
from ..printable import one_line
from .output import show_table

if TYPE_CHECKING:
    from ..control.jobs import Selection
    from ..control.steps import JobStep
    from ..job.job import Job


def jobs_of(count: int) -> str:
    """``1 job``, ``2,000 jobs``."""
    return f"{count:,} job{'' if count == 1 else 's'}"


def as_data(job: Job) -> dict[str, Any]:
    """A job as ``--json`` prints it: every field of Job, times in ISO 8601."""
    data = asdict(job)
    for name, value in data.items():
        if isinstance(value, datetime):
            data[name] = value.astimezone(timezone.utc).isoformat()
        elif isinstance(value, State):
            data[name] = value.value
    return data


def actions_of(jobs: Selection, job: Job) -> dict[str, Any]:
    """The last actions of people and programs on it, the newest first."""
    found = jobs.database.audit.list_seen(job.task_id)
    return {
        "actions": [
            {"at": entry.at.astimezone(timezone.utc).isoformat(), "actor": entry.actor}
            | {"action": entry.action, "via": entry.via, "details": entry.details}
            for entry in found
        ]
    }


def steps_of(jobs: Selection, job: Job) -> dict[str, Any]:
    """The steps that it has done, and what it waits for; nothing for a job without any."""
    from ..control import steps

    done = [_step(each) for each in steps.steps_of(jobs.database, job.task_id)]
    wait = steps.wait_of(jobs.database, job.task_id)
    return ({"steps": done} if done else {}) | (
        {"waits_for": _times(asdict(wait))} if wait is not None else {}
    )


def _step(step: JobStep) -> dict[str, Any]:
    shown = _times(asdict(step))
    if isinstance(step.value, bytes):
        shown["value"] = f"{len(step.value):,} bytes"
    return shown


def _times(data: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.astimezone(timezone.utc).isoformat() if isinstance(value, datetime) else value
        for name, value in data.items()
    }


def result_of(jobs: Selection, job: Job) -> dict[str, Any]:
    """The state that the task reported, its result, and the last traceback."""
    for row in jobs.database.results.get_results([job.task_id]):
        result: Any = f"{len(row.result):,} bytes of {row.result_type}" if row.result else None
        children: Any = row.children
        with suppress(ValueError, RecursionError):
            result = json.loads(row.result) if row.result else None
        with suppress(ValueError, RecursionError):
            children = json.loads(row.children) if row.children else None
        return {
            "reported_state": row.reported_state, "result": result, "traceback": row.traceback,
            "children": children,
        }  # fmt: skip
    return {}


def described(data: dict[str, Any]) -> Iterator[str]:
    """The lines that describe a job; its errors last."""
    errors = data.pop("errors")
    if not data.pop("has_own_limit"):
        many = data["max_attempts"]
        data["max_attempts"] = f"{many} deliveries, its {data['retries']} retries included"
    last = errors[-1] if errors else {}
    if data.get("traceback") and str(last.get("traceback")).strip() == data["traceback"].strip():
        del data["traceback"]  # it comes with the errors
    if (due := data.get("scheduled_at")) and is_endless(datetime.fromisoformat(due)):
        data["scheduled_at"] = "no timeout"
    width = max(len(name) for name in data)
    for name, value in data.items():
        if value not in (None, [], (), {}):
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            first, *rest = shown.splitlines() or [""]
            yield f"{name:<{width}}  {first}"
            yield from (f"{'':<{width}}  {line}" for line in rest)
    for error in errors:
        kind = ".".join(str(error[part]) for part in ("module", "type") if error.get(part))
        yield ""
        yield one_line(f"attempt {error.get('attempt', '?')} at {error.get('at', '?')}: {kind}")
        text = str(error.get("traceback") or error.get("message") or "")
        yield from (f"  {line}" for line in text.splitlines())


def print_table(jobs: Sequence[Job], *, no_color: bool) -> None:
    """One line per job; a column that no job needs is left out."""
    has_retries = any(job.retries for job in jobs)
    columns: list[tuple[str, dict[str, Any]]] = [
        ("id", {"no_wrap": True}),
        *((name, {"overflow": "fold"}) for name in ("state", "queue", "task")),
        ("attempt", {"justify": "right"}),
        *((("retries", {"justify": "right"}),) if has_retries else ()),
        ("age", {"justify": "right", "no_wrap": True}),
        ("arguments", {"overflow": "ellipsis", "no_wrap": True}),
    ]
    rows = [
        (
            *(job.task_id, job.state.value, job.queue or "-", job.task, attempts(job)),
            *((str(job.retries),) if has_retries else ()),
            *(age(job), arguments(job)),
        )
        for job in jobs
    ]
    show_table(columns, rows, no_color=no_color)


def attempts(job: Job) -> str:
    """How often it has started, and the limit if the task sets one."""
    return f"{job.attempt}/{job.max_attempts}" if job.has_own_limit else str(job.attempt)


def age(job: Job) -> str:
    """How long ago it was put in line."""
    if job.inserted_at is None:
        return ""
    since = datetime.now(timezone.utc) - job.inserted_at
    return str(timedelta(seconds=max(0, round(since.total_seconds()))))


def arguments(job: Job) -> str:
    """As in a call: ``1, x=2``; ``?`` where they are not plain JSON."""
    if job.args is None or job.kwargs is None:
        return "?" if job.queue else "-"  # of a result whose task went through no queue
    words = [json.dumps(value, ensure_ascii=False) for value in job.args]
    words += [f"{n}={json.dumps(value, ensure_ascii=False)}" for n, value in job.kwargs.items()]
    return ", ".join(words)

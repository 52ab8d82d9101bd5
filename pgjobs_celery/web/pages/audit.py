"""The audit: who did what to jobs, queues, entries and workers."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from shlex import quote
from typing import TYPE_CHECKING, Any

from ...beat.english import describe
from ...control.audit import ACTIONS, Place
from ...errors import InvalidOption
from ..routes import Page

if TYPE_CHECKING:
    from starlette.responses import Response

    from ...db.rows.audit import AuditEntry
    from ..visit import Visit

#: How many actions stand on a page.
PAGE = 50
#: How far back, by the word of the address, in seconds; nothing for all of it.
SPANS = {"hour": 3600, "day": 86_400, "week": 604_800, "month": 2_592_000}
FIELDS = ("actor", "action", "queue", "schedule", "job")


def audit(visit: Visit) -> Response:
    """The actions that fit, the newest first."""
    given = {name: visit.query.get(name, "").strip() for name in FIELDS}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value}
    span = visit.query.get("since", "")
    if span and span not in SPANS:
        raise InvalidOption(f"since is {', '.join(SPANS)} or nothing, not {span!r}")
    before = read_place(visit.query.get("before", ""))
    entries = visit.source.audit.list(PAGE + 1, **chosen, since=SPANS.get(span), before=before)
    shown = entries[:PAGE]
    redactor = visit.site.redaction.of("")
    older = visit.here(before=write_place(shown[-1])) if len(entries) > PAGE else ""
    return visit.render(
        "audit.html",
        entries=[
            (entry, redactor.text(words_of(entry)), redactor.text(entry.filters or ""))
            for entry in shown
        ],
        given=given,
        span=span,
        spans=list(SPANS),
        actions=ACTIONS,
        is_filtered=bool(chosen or span),
        newer=visit.here(before=None) if before else "",
        older=older,
        cli=_command(chosen, span),
        python=_call(chosen, span),
    )


def words_of(entry: AuditEntry) -> str:
    """The action's own words, in one line."""
    return ", ".join(
        f"{name}: {_word(name, value)}"
        for name, value in entry.details.items()
        if value not in (None, "")
    )


def _word(name: str, value: Any) -> str:
    if name == "schedule" and isinstance(value, dict) and (words := describe(value)):
        zone = value.get("tz")
        return f"{words} ({zone})" if zone else words
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def write_place(entry: AuditEntry) -> str:
    """Where a page ends, for an address."""
    return f"{entry.at.astimezone(timezone.utc).isoformat()}/{entry.id}"


def read_place(text: str) -> Place | None:
    """Where a page goes on. Raises InvalidOption for what no page has written."""
    if not text:
        return None
    at, _, number = text.partition("/")
    try:
        moment = datetime.fromisoformat(at)
        found = Place(moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc), int(number))
    except (ValueError, OverflowError):
        raise InvalidOption(f"before is the end of another page, not {text[:80]!r}") from None
    if not 0 <= found.id < 2**63:
        raise InvalidOption(f"before is the end of another page, not {text[:80]!r}")
    return found


def _command(chosen: dict[str, Any], span: str) -> str:
    words = [f"--{name} {quote(value)}" for name, value in chosen.items()]
    if span:
        words.append(f"--since {SPANS[span]}")
    return " ".join(["celery -A proj pgjobs audit", *words])


def _call(chosen: dict[str, Any], span: str) -> str:
    values = chosen | ({"since": SPANS[span]} if span else {})
    return f"audit(app).list({', '.join(f'{name}={value!r}' for name, value in values.items())})"


ROUTES = (Page("/audit", audit, "audit", "Audit"),)

"""The list of jobs: search, states with counts, pages, columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse

from ...control.counting import count_states, total
from ...control.filters import FILTERS, Filters
from ...control.listing import PAGE, Found, JobPage, find, list_page, suggest
from ...control.looking import Place, read_place
from ...control.search import InvalidSearch, Search, write, write_word
from ...control.spelled import as_cli, as_python, as_sql
from ...errors import InvalidOption
from ...job.states import State
from ..job_columns import COLUMNS, NUMBERS, line_of, read_columns, shown_columns
from ..routes import Page
from ..searches import read_search
from .bulk import BUTTONS

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..visit import Visit

#: The fields of the form beside the search box, and the filter that each adds.
FIELDS = {
    "with_task": "task",
    "with_queue": "queue",
    "with_worker": "worker",
    "with_tag": "tags",
    "with_newer_than": "newer_than",
}
#: How many ids the equal command writes out.
FEW_IDS = 20


def jobs(visit: Visit) -> Response:
    """The jobs that the search finds, a page of them."""
    text = visit.query.get("q", "")
    try:
        if (more := _added(visit.query)) is not None:
            to = visit.here(**{**_without(visit.query), "q": f"{text} {more}".strip()})
            return RedirectResponse(to, 303)
        search = read_search(visit, text)
        found = find(visit.source.database, search)
        page = list_page(
            visit.source.database,
            found.filters,
            before=_place(visit, "before"),
            after=_place(visit, "after"),
            limit=_limit(visit),
        )
    except InvalidOption as error:
        return _refused(visit, text, error)
    return _render(visit, text, search, found, page)


def _render(visit: Visit, text: str, search: Search, found: Found, page: JobPage) -> Response:
    database = visit.source.database
    counts = count_states(database, found.filters)
    every = total(counts)
    states = search.filters.given.get("state", frozenset())
    matching = total({state: counts[state] for state in states}) if states else every
    reprs = database.views.list_reprs(job.task_id for job in page.jobs)
    lines = [
        line_of(
            job, visit.site.redaction, visit.now, visit.source.app,
            reprs.get(job.task_id, (None, None)),
        )
        for job in page.jobs
    ]  # fmt: skip
    columns = read_columns(visit.query.getlist("col"))
    is_chosen = bool(visit.query.getlist("col"))
    filters = found.filters
    is_long = len(filters.given.get("id", ())) > FEW_IDS
    return visit.render(
        "jobs.html",
        text=text,
        error=None,
        search=search,
        found=found,
        page=page,
        lines=lines,
        columns=columns if is_chosen else shown_columns(columns, lines),
        chosen_columns=columns,
        all_columns=COLUMNS,
        numbers=NUMBERS,
        tabs=[("all", every, _narrowed(visit, search, None), not states)]
        + [
            (state.value, counts[state], _narrowed(visit, search, state), states == {state})
            for state in State
        ],
        matching=matching,
        newer=_cursor(visit, after=page.newer),
        older=_cursor(visit, before=page.older),
        is_first=page.newer is None,
        buttons=BUTTONS,
        suggestions=suggest(database),
        filters=filters,
        cli="" if is_long else as_cli(filters),
        python="" if is_long else as_python(filters),
        sql="" if is_long else as_sql(filters, database.schema),
        word=lambda name, value: visit.url("jobs", q=write_word(name, value)),
    )


def _refused(visit: Visit, text: str, error: InvalidOption) -> Response:
    """The page without jobs, with what is wrong in the search."""
    complaint, parts = str(error), ("", "", "")
    if isinstance(error, InvalidSearch):
        end = error.at + len(error.word)
        complaint = error.complaint
        parts = (text[max(0, error.at - 40) : error.at], text[error.at : end], text[end : end + 40])
    return visit.render("jobs.html", 400, text=text, error=complaint, parts=parts, words=FILTERS)


def _narrowed(visit: Visit, search: Search, state: State | None) -> str:
    """The address of the same search in this state, or in any."""
    given = {name: value for name, value in search.filters.given.items() if name != "state"}
    if state is not None:
        given = {"state": frozenset({state}), **given}
    filters = Filters(given)
    text = "" if filters.is_impossible else write(Search(filters, search.beginnings))
    return visit.here(q=text, before=None, after=None)


def _cursor(visit: Visit, **places: Place | None) -> str:
    ((name, place),) = places.items()
    if place is None:
        return ""
    return visit.here(**{"before": None, "after": None, name: str(place)})


def _place(visit: Visit, name: str) -> Place | None:
    """The place in the list that the address names. Raises InvalidOption."""
    given = visit.query.get(name, "")
    return read_place(given) if given else None


def _limit(visit: Visit) -> int:
    given = visit.query.get("limit", "") or str(PAGE)
    if not (given.isascii() and given.isdigit() and len(given) < 6):
        raise InvalidOption(f"limit must be a whole number, not {given[:40]!r}")
    return int(given)


def _added(query: Mapping[str, str]) -> str | None:
    """The words that the form beside the box adds; None if it was not sent."""
    if query.get("add") != "1":
        return None
    words = [
        write_word(name, value) if name != "newer_than" else f"{name}:{value}"
        for field, name in FIELDS.items()
        if (value := query.get(field, "").strip())
    ]
    path, value = query.get("with_path", "").strip(), query.get("with_value", "").strip()
    if path or value:
        if not path or not value:
            raise InvalidSearch("an argument needs its path, as kwargs.user_id, and a value")
        has_kind = path.startswith(("kwargs.", "meta."))
        word = f"{path if has_kind else f'kwargs.{path}'}:{value}"
        # A text of several words stands in quotes, whether the visitor thought of it or not.
        words.append(word if not any(map(str.isspace, value)) or value[0] in '"[{' else
                     f"{word[: len(word) - len(value)]}{_quoted(value)}")  # fmt: skip
    return " ".join(words)


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _without(query: Mapping[str, str]) -> dict[str, None]:
    """The words of the address that belong to the form, and to the page of another search."""
    return dict.fromkeys(
        name for name in query if name in ("add", "before", "after") or name.startswith("with_")
    )


ROUTES = (Page("/jobs", jobs, "jobs", "Jobs"),)

"""The table of results, on the screen and in the compatibility page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date

from ..matrix import PAGE, replace_between
from .product import Outcome

BEGIN, END = "<!-- field: written by make field ARGS=--write -->", "<!-- field ends -->"

HEAD = [
    "| Product | Version | Ran | Result | Date |",
    "|---|---|---|---|---|",
]


def to_lines(outcomes: Iterable[Outcome], today: date) -> list[str]:
    """The table as Markdown, a note behind each result that needs one."""
    return [*HEAD, *(_to_row(outcome, today) for outcome in outcomes)]


def write_page(outcomes: Iterable[Outcome], today: date) -> None:
    """Replace the rows of these products, and keep those of the others that are still known."""
    from .products import PRODUCTS

    before = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = {_name_of(line): line for line in before.splitlines() if line.startswith("| ")}
    for outcome in outcomes:
        # What was skipped for want of a registry says nothing new.
        if not outcome.was_skipped or outcome.product not in rows:
            rows[outcome.product] = _to_row(outcome, today)
    kept = [rows[product.name] for product in PRODUCTS if product.name in rows]
    replace_between(BEGIN, "\n".join([*HEAD, *kept]), END)


def _to_row(outcome: Outcome, today: date) -> str:
    result = outcome.result
    if outcome.notes:
        result += ": " if outcome.was_skipped or result == "FAILED" else "; "
        result += "; ".join(outcome.notes)
    cells = (outcome.product, outcome.version, outcome.ran, result, today.isoformat())
    return f"| {' | '.join(re.sub(r'[|]', '/', cell) for cell in cells)} |"


def _name_of(row: str) -> str:
    return row.split("|")[1].strip()

"""How statements are found and loaded."""

from __future__ import annotations

from collections import Counter

from pgjobs_celery.db.sql import QUERIES


def test_a_statement_has_its_name_alone() -> None:
    """In whatever folder: of two with one name the second would stand for both."""
    names = Counter(path.stem for path in QUERIES.glob("*/*.sql"))
    assert [name for name, number in names.items() if number > 1] == []

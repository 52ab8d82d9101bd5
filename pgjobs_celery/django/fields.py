"""A ``text[]`` column. Django's own needs ``django.contrib.postgres`` to be installed as an app."""

from __future__ import annotations

from typing import Any

from django.db.models import Field, Lookup


class TextArrayField(Field):  # type: ignore[misc]
    """A list of words, to be read."""

    description = "Words"

    def db_type(self, connection: Any) -> str:
        """The column's type."""
        return "text[]"


@TextArrayField.register_lookup
class Contains(Lookup):  # type: ignore[misc]
    """``tags__contains="mail"``, or a list of which all must be there."""

    lookup_name = "contains"

    def get_prep_lookup(self) -> list[str]:
        """A single word stands for a list of it."""
        return [self.rhs] if isinstance(self.rhs, str) else list(self.rhs)

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        """The condition."""
        column, values = self.process_lhs(compiler, connection)
        return f"{column} @> %s::text[]", [*values, self.rhs]

"""The row of a result whose task came through another broker."""

from __future__ import annotations

from typing import Any

from ..db.rows.results import Origin
from ..job.envelope import group_index


def origin_of(request: Any, body: bytes | None) -> Origin:
    """The known fields of a task that has no row; ``request`` is None outside of a worker."""
    delivery_info = getattr(request, "delivery_info", None) or {}
    return Origin(
        task=str(getattr(request, "task", None) or ""),
        queue=str(delivery_info.get("routing_key") or ""),
        root_id=getattr(request, "root_id", None),
        parent_id=getattr(request, "parent_id", None),
        group_id=getattr(request, "group", None),
        attempt=1 + (getattr(request, "retries", None) or 0),
        attempted_by=getattr(request, "hostname", None),
        body=body,
        group_index=group_index(
            getattr(request, "group", None), getattr(request, "group_index", None)
        ),
    )

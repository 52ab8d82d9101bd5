"""Where the pages over the shop are."""

from __future__ import annotations

import httpx

from ..crawl import crawl, name_of
from .filling import Fleet


def addresses(fleet: Fleet, address: str) -> dict[str, str]:
    """An address of each page by its name, as links lead to it; and those of remarkable jobs."""
    jobs = {f"job-{name}": f"/job?id={task_id}" for name, task_id in fleet.ids.items()}
    with httpx.Client(base_url=address) as client:
        found = crawl(lambda link: client.get(link).text, *jobs.values())
    return {**{name_of(each): each for each in found}, **jobs}

"""Where the pages over the shop are."""

from __future__ import annotations

import httpx

from pgjobs_celery.control.app import database_of
from pgjobs_celery.control.operations import Operations

from ..crawl import crawl, name_of
from .filling import Fleet


def addresses(fleet: Fleet, address: str) -> dict[str, str]:
    """An address of each page by its name, as links lead to it; and those of remarkable jobs.

    Only who acts on many jobs is led to an operation: this one was begun, and nobody goes on.
    """
    begun = Operations(database_of(fleet.app)).begin("cancel", "id:none", expected="0", actor="it")
    jobs = {f"job-{name}": f"/job?id={task_id}" for name, task_id in fleet.ids.items()}
    with httpx.Client(base_url=address) as client:
        found = crawl(lambda link: client.get(link).text, jobs["job-failed"])
    operation = {"operation": f"/jobs/operation?id={begun.id}"}
    return {**operation, **{name_of(each): each for each in found}, **jobs}

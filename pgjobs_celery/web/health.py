"""``/health``: whether the databases answer. It needs no login, and tells nothing else."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..db.database import CONNECTION_ERRORS, answered_by
from ..errors import PgJobsError
from ..printable import guarded
from ..scopes.steady import monotonic
from .site import Site
from .sources import Source

logger = guarded(logging.getLogger(__name__))

#: How long a database may take to answer, in seconds.
LIMIT = 3.0
#: For how long an answer counts, in seconds: whoever asks more often costs nothing.
AGE = 1.0


@dataclass
class Health:
    """The endpoint."""

    site: Site
    _asked_at: float = field(default=float("-inf"), init=False)
    _answers: dict[str, bool] = field(default_factory=dict, init=False)

    async def answer(self, request: Request) -> Response:
        """200 if each database answers and has its tables, and 503 otherwise."""
        now = monotonic()
        # Noted before it is asked: requests that come meanwhile get the answer from before.
        if now - self._asked_at > AGE or not self._answers:
            self._asked_at = now
            self._answers = await self._ask()
        lost = sum(not answers for answers in self._answers.values())
        body = {"ok": not lost, "databases": len(self._answers), "lost": lost}
        return JSONResponse(body, 503 if lost else 200)

    async def _ask(self) -> dict[str, bool]:
        answers: dict[str, bool] = {}

        async def ask(source: Source) -> None:
            answers[source.name] = await anyio.to_thread.run_sync(does_answer, source)

        async with anyio.create_task_group() as group:
            for source in self.site.sources.values():
                group.start_soon(ask, source)
        return answers


def does_answer(source: Source) -> bool:
    """True if the database answers within the limit, and its tables fit this release."""
    try:
        with answered_by(monotonic() + LIMIT):
            source.database.retrying(lambda: source.database.fetch("ping"))
    except (PgJobsError, *CONNECTION_ERRORS) as error:
        logger.warning("%s is not well: %s", source.place, error)
        return False
    return True

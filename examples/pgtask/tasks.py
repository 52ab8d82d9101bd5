"""Letters that are delivered once, in spite of everything: a post office that closes or fails."""

from __future__ import annotations

import time
from pathlib import Path

from app import app

from pgjobs_celery import Cancel, Discard, PgTask, Snooze, Unique
from pgjobs_celery.job.job import Job

#: A letter is delivered when it is a file in here; while there is a file "closed", none is.
OFFICE = Path("office")


class Impatient(PgTask):
    """The default waits are 17 s, 19 s, 23 s, ...: too long for an example."""

    abstract = True

    def backoff(self, job: Job) -> float:
        return 0.2 * job.attempt


# One job for each person waits or runs; what a second one would have sent is put into the first,
# if that still waits.
@app.task(
    bind=True,
    base=Impatient,
    max_attempts=4,
    tags=["post"],
    unique=Unique(period=None, states="incomplete", keys=["person"], replace=["args"]),
)
def deliver(self: PgTask, person: str, letters: list[str], seconds: float = 0.0) -> str:
    """Deliver each letter once; goes on where the attempt before has failed."""
    if (OFFICE / "closed").exists():
        raise Snooze(1)
    if person == "Nobody":
        raise Discard("there is no such person")
    sent = self.meta.get("sent", 0)
    for letter in letters[sent:]:
        if self.is_cancelled():
            raise Cancel(f"stopped after {sent} letters")
        if letter == "heavy" and self.request.attempt == 1:
            raise ConnectionError("the cart has broken down")
        time.sleep(seconds)
        OFFICE.mkdir(exist_ok=True)
        with (OFFICE / person).open("a") as box:
            box.write(f"{letter}\n")
        sent += 1
        self.meta["sent"] = sent
    return f"{sent} letters for {person}, attempt {self.request.attempt}"

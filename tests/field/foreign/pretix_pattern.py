"""pretix sends an order's mail when its transaction commits, and again while that fails."""

from __future__ import annotations

import smtplib
from pathlib import Path
from typing import Any

import django
from celery import Celery
from celery.result import AsyncResult
from django.conf import settings
from django.db import transaction
from observing import (
    BROKER,
    FOLDER,
    RESULTS,
    django_database,
    find_port,
    observe,
    running_worker,
    wait_until,
)
from smtp import Inbox

settings.configure(
    DATABASES={"default": django_database()},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    SECRET_KEY="of a test",
    USE_TZ=True,
)
django.setup()

app = Celery("pretix_pattern", broker=BROKER, backend=RESULTS)
app.conf.update(task_default_queue="mail")

PORT = FOLDER / "smtp-port"


@app.task(bind=True, max_retries=10)
def mail_send(self: Any, subject: str) -> int:
    try:
        with smtplib.SMTP("127.0.0.1", int(PORT.read_text()), timeout=5) as server:
            server.sendmail("shop@example.org", ["guest@example.org"], f"Subject: {subject}\n\n")
    except OSError:
        (FOLDER / "refused").touch()
        raise self.retry(countdown=0.5) from None
    return self.request.retries


def scenario() -> dict[str, Any]:
    seen: dict[str, Any] = {}
    (FOLDER / "refused").unlink(missing_ok=True)
    port = find_port()
    PORT.write_text(str(port))
    _order("order 0", is_good=False)
    seen["rolled back"] = app.control.purge()
    sent = _order("order 1", is_good=True)
    inbox = Inbox(port)
    with running_worker("pretix_pattern", "-c", "1"):
        wait_until(Path(FOLDER / "refused").exists)
        # As the page polls that a guest waits on: a new result each time.
        seen["polled"] = AsyncResult(sent[0], app=app).state in ("PENDING", "RETRY")
        with inbox.open():
            seen["retries"] = AsyncResult(sent[0], app=app).get(timeout=30) >= 1
    seen["mails"] = inbox.subjects
    return seen


def _order(subject: str, *, is_good: bool) -> list[str]:
    sent: list[str] = []
    try:
        with transaction.atomic():
            transaction.on_commit(lambda: sent.append(mail_send.delay(subject).id))
            if not is_good:
                raise ValueError("sold out")
    except ValueError:
        pass
    return sent


if __name__ == "__main__":
    observe(scenario)

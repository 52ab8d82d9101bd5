"""A shop's tasks, to look at in the page: they work, retry and fail as those of a shop do.

What a worker is told by its environment is as in :mod:`tests.e2e.tasks`; ``PGJOBS_FLEET_HOLD`` is a
file, and what is to be seen running goes on as long as it is there.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

from celery import Celery, chain, chord, group
from celery.signals import worker_ready

from pgjobs_celery import PgTask

URL = os.environ.get("PGJOBS_TEST_URL")
HOLD = Path(os.environ.get("PGJOBS_FLEET_HOLD", "/nonexistent"))

app = Celery("shop", broker=URL, backend=URL, task_cls=PgTask, set_as_current=False)
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=True,
    timezone="Europe/Berlin",
    task_routes={
        "mail.*": "mail",
        "orders.*": "orders",
        "images.*": "images",
        "reports.*": "reports",
        "webhooks.*": "webhooks",
        "search.*": "search",
    },
)
app.conf.update(json.loads(os.environ.get("PGJOBS_TEST_CONF", "{}")))

#: What a worker of the shop consumes.
QUEUES = ("celery", "mail", "orders", "images", "reports", "webhooks", "search")

#: Of each five, so that pictures show the same each time.
CUSTOMERS = ("أمينة الخطيب", "Zoë Müller 🎉", "Søren Kjær", "李小龍", "Ana Souza")


@worker_ready.connect
def report_ready(**_: Any) -> None:
    """Tell who waits for the worker: an event instead of a guess."""
    if descriptor := os.environ.get("PGJOBS_TEST_READY"):
        os.write(int(descriptor), b"ready\n")


class CardDeclined(Exception):
    """The bank says no: another try would not help."""


class Unavailable(Exception):
    """The other side is not there for now."""


class Promptly(PgTask):
    """Tries again at once, for those who watch."""

    abstract = True

    def backoff(self, job: Any) -> float:
        return 0.05


def work(least: float, most: float) -> None:
    """Take as long as such a thing takes."""
    time.sleep(random.uniform(least, most))


@app.task(name="mail.send", shared=False, base=Promptly, max_attempts=6, tags=["mail"])
def send_mail(to: str, template: str, fails: int = 0) -> dict[str, str]:
    work(0.002, 0.02)
    if send_mail.request.attempt <= fails:
        raise Unavailable(f"mx{random.randint(1, 9)}.example.org said 421 4.7.0 try again later")
    return {"to": to, "message_id": f"<{random.randint(10**8, 10**9)}@shop.example>"}


@app.task(name="orders.charge", shared=False, max_attempts=1, tags=["money"])
def charge(
    order: int, cents: int, customer: str, card: dict[str, Any] | None = None
) -> dict[str, Any]:
    work(0.01, 0.05)
    if card and card.get("declined"):
        raise CardDeclined(f"order {order}: insufficient funds for {cents / 100:.2f} EUR")
    return {"order": order, "paid": cents, "receipt": f"R-{order:06}"}


@app.task(name="orders.check", shared=False)
def check(order: int) -> int:
    work(0.001, 0.005)
    return order


@app.task(name="orders.pack", shared=False)
def pack(order: int, shelf: str) -> str:
    work(0.005, 0.02)
    return f"{order} from shelf {shelf}"


@app.task(name="orders.ship", shared=False, max_attempts=1)
def ship(parcels: list[str], carrier: str = "DHL") -> dict[str, Any]:
    if carrier == "Owl Post":
        raise Unavailable(f"no carrier {carrier!r} for {len(parcels)} parcels")
    return {"carrier": carrier, "parcels": parcels}


@app.task(name="images.resize", shared=False, max_attempts=1)
def resize(path: str, widths: list[int]) -> list[str]:
    work(0.01, 0.08)
    if path.endswith(".heic"):
        raise ValueError(f"cannot identify image file {path!r}")
    return [f"{path}@{width}" for width in widths]


@app.task(name="reports.build", shared=False, bind=True, tags=["finance"])
def build_report(self: Any, month: str, pages: int = 40) -> dict[str, Any]:
    """Says how far it is; runs on as long as somebody watches."""
    for page in range(1, pages + 1):
        self.meta["progress"] = {"done": page, "total": pages}
        self.meta["page"] = page
        while page == pages * 5 // 8 and HOLD.exists():
            time.sleep(0.05)
    return {"month": month, "pages": pages, "url": f"https://files.example/{month}.pdf"}


@app.task(name="search.index", shared=False, max_attempts=1)
def index(document: dict[str, Any]) -> str:
    work(0.001, 0.01)
    return f"{document['id']}: {document['title']}"


@app.task(name="webhooks.deliver", shared=False, base=Promptly, max_attempts=3)
def deliver(url: str, event: str, payload: dict[str, Any]) -> int:
    work(0.005, 0.03)
    if "broken" in url:
        raise Unavailable(f"503 Service Unavailable from {url}")
    return 200


def order_workflow(order: int, carrier: str = "DHL") -> Any:
    """Check and charge, pack on two shelves, ship what was packed, tell the customer."""
    return chain(
        check.si(order),
        charge.si(order, 4_990, CUSTOMERS[order % 5]),
        chord(
            group(pack.si(order, shelf) for shelf in ("A3", "B7", "C1")),
            ship.s(carrier=carrier),
        ),
        send_mail.si(f"c{order}@example.org", "shipped"),
    )


@app.task(name="orders.nothing", shared=False)
def nothing(number: int) -> None:
    """To be counted."""

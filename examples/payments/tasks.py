"""The Celery app. One task takes an order from its payment to the ledger, over days and crashes."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import httpx
import psycopg
from celery import Celery

from pgjobs_celery import PgTask

DATABASE = os.environ.get("DATABASE_URL", "postgresql://localhost/app")
PROVIDER = os.environ.get("PROVIDER_URL", "http://127.0.0.1:8099")
#: How long a payment is held before it is sent on, in seconds.
HOLD = float(os.environ.get("HOLD", "1"))

app = Celery(
    "payments",
    broker=DATABASE.replace("postgresql:", "pgjobs:", 1),
    backend=DATABASE.replace("postgresql:", "pgjobs:", 1),
    task_cls="pgjobs_celery:PgTask",
)
app.conf.update(
    # A queue of its own, so that this worker never takes the tasks of another app in the database.
    task_default_queue="payments",
    broker_connection_retry_on_startup=True,
)

TABLES = """
CREATE TABLE IF NOT EXISTS orders (
  id bigint PRIMARY KEY, amount integer NOT NULL, customer text NOT NULL
);
CREATE TABLE IF NOT EXISTS ledger (
  order_id bigint NOT NULL, amount integer NOT NULL, charge text NOT NULL
);
CREATE TABLE IF NOT EXISTS receipts_sent (order_id bigint NOT NULL, charge text NOT NULL);
"""


def post(path: str, key: str, **body: Any) -> dict[str, Any]:
    """A request to the provider. It has an effect once for each key, however often it is sent."""
    answer = httpx.post(f"{PROVIDER}/{path}", json=body, headers={"Idempotency-Key": key})
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


class Paying(PgTask):
    """A task that is tried again soon: a provider that is away comes back."""

    abstract = True

    def backoff(self, job: Any) -> float:
        """Seconds until the next attempt."""
        return min(0.2 * 2**job.attempt, 60)


@app.task(base=Paying, bind=True, idempotency_for=timedelta(days=30))
def pay(self: PgTask, order_id: int, amount: int, customer: str) -> str:
    """Charge, wait for a person, hold the money, book it, and have a receipt sent."""
    # A step has its own memory: a later run of this job gets what it has returned, and does not
    # call the provider again. Between the provider's answer and the memory a process may die; then
    # the key of the step, which is the same in each run, keeps the provider from charging twice.
    charge = self.step("charge", post, "charges", key=self.step_key("charge"), amount=amount)

    # The job is a row now: no worker, no connection, for up to a week.
    approval = self.wait_for("approved", timedelta(days=7), key=f"order-{order_id}", default=None)
    if approval is None:
        self.step("refund", post, "refunds", key=self.step_key("refund"), charge=charge["id"])
        return "refunded: nobody has approved it"

    self.sleep_for(HOLD)

    # The ledger's row, the receipt's job and this job's end: committed together, or not at all.
    with psycopg.connect(DATABASE) as connection, self.transaction(connection) as tx:
        connection.execute(
            "INSERT INTO ledger (order_id, amount, charge) VALUES (%s, %s, %s)",
            [order_id, amount, charge["id"]],
        )
        send_receipt.delay(order_id, charge["id"], customer)
        tx.complete(f"booked, approved by {approval['by']}")
    return "booked"


@app.task(base=Paying, bind=True)
def send_receipt(self: PgTask, order_id: int, charge: str, customer: str) -> None:
    """Mail the receipt. The row says which were sent: it is part of the step's own transaction."""
    self.step("mail", post, "mails", key=self.step_key("mail"), to=customer, charge=charge)
    with psycopg.connect(DATABASE) as connection, self.transaction(connection):
        connection.execute("INSERT INTO receipts_sent VALUES (%s, %s)", [order_id, charge])

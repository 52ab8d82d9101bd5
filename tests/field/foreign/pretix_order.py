"""The whole of pretix: an order's mail, sent by its own task while the mail server is away."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import django
from observing import (
    BROKER,
    DATABASE,
    FOLDER,
    RESULTS,
    find_port,
    observe,
    running_worker,
    wait_until,
)
from smtp import Inbox

PORT = find_port()

CONFIG = """
[pretix]
instance_name=field
url=http://localhost
datadir={folder}
[database]
backend=postgresql
name={database}
user=postgres
host={parts.hostname}
port={parts.port}
[mail]
from=shop@example.org
host=127.0.0.1
port={port}
[celery]
broker={broker}
backend={results}
[django]
secret=of-a-test-and-long-enough-to-be-taken-for-one
"""


def set_up() -> None:
    parts = urlsplit(DATABASE)
    name = parts.path.lstrip("/")
    folder = FOLDER / name
    folder.mkdir(exist_ok=True)
    config = folder / "pretix.cfg"
    config.write_text(
        CONFIG.format(
            folder=folder, database=name, parts=parts, port=PORT, broker=BROKER, results=RESULTS
        )
    )
    os.environ["PRETIX_CONFIG_FILE"] = str(config)
    os.environ["DJANGO_SETTINGS_MODULE"] = "pretix.settings"
    subprocess.run([sys.executable, "-m", "pretix", "migrate", "-v", "0"], check=True)
    django.setup()


def scenario() -> dict[str, Any]:
    set_up()
    from django.db import transaction
    from django_scopes import scopes_disabled
    from pretix.base.models import OutgoingMail

    seen: dict[str, Any] = {}
    with scopes_disabled():
        event = make_event()
        try:
            with transaction.atomic():
                make_order(event, "LOST1").send_mail("Lost", _text("Never"))
                raise RuntimeError("rolled back")
        except RuntimeError:
            seen["mails of a rollback"] = OutgoingMail.objects.count()
        with transaction.atomic():
            order = make_order(event, "KEPT1")
            order.send_mail("Order {code}", _text("Thank you"), {"code": order.code})
        inbox = Inbox(PORT)
        with running_worker("pretix.celery_app", "-c", "2"):
            mail = OutgoingMail.objects.get()

            def has(status: str) -> bool:
                mail.refresh_from_db()
                return bool(mail.status == status)

            seen["waits for its retry"] = wait_until(
                lambda: has(OutgoingMail.STATUS_AWAITING_RETRY), 180
            )
            with inbox.open():
                seen["sent"] = wait_until(lambda: has(OutgoingMail.STATUS_SENT), 300)
        seen["inbox"] = inbox.subjects
    return seen


def make_event() -> Any:
    from django.utils.timezone import now
    from pretix.base.models import Event, Organizer

    organizer = Organizer.objects.create(name="Field", slug="field")
    return Event.objects.create(
        organizer=organizer, name="Concert", slug="concert", date_from=now(), live=True
    )


def make_order(event: Any, code: str) -> Any:
    from django.utils.timezone import now
    from pretix.base.models import Order

    return Order.objects.create(
        code=code,
        event=event,
        email="guest@example.org",
        status=Order.STATUS_PENDING,
        datetime=now(),
        expires=now() + timedelta(days=10),
        total=0,
        locale="en",
        sales_channel=event.organizer.sales_channels.get(identifier="web"),
    )


def _text(text: str) -> Any:
    from i18nfield.strings import LazyI18nString

    return LazyI18nString(text)


if __name__ == "__main__":
    observe(scenario)

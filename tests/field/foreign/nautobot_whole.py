"""The whole of Nautobot: three of its Jobs, run by its own worker for a user of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nautobot
from observing import (
    BROKER,
    FOLDER,
    REDIS,
    django_database,
    observe,
    running_worker,
    wait_until,
)

#: Its result backend is its own, which it forbids to change.
CONFIG = f"""
from nautobot.core.settings import *

CACHES["default"]["LOCATION"] = {REDIS!r}
CELERY_BROKER_URL = {BROKER!r}
DATABASES["default"].update({django_database()!r})
INSTALLATION_METRICS_ENABLED = False
METRICS_ENABLED = False
SECRET_KEY = "of-a-test-and-long-enough-to-be-taken-for-one"
"""
SERVER = (str(Path(sys.executable).with_name("nautobot-server")),)


def set_up() -> None:
    redis = urlsplit(REDIS)
    config = FOLDER / "nautobot_config.py"
    config.write_text(CONFIG)
    os.environ.update(
        NAUTOBOT_CONFIG=str(config),
        NAUTOBOT_ROOT=str(FOLDER),
        NAUTOBOT_REDIS_HOST=str(redis.hostname),
        NAUTOBOT_REDIS_PORT=str(redis.port),
    )
    subprocess.run([*SERVER, "migrate", "-v", "0"], check=True)
    nautobot.setup()


def scenario() -> dict[str, Any]:
    set_up()
    from django.contrib.auth import get_user_model
    from django.contrib.contenttypes.models import ContentType
    from nautobot.extras.models import Status

    user = get_user_model().objects.create_superuser("field", "field@example.org", "field")
    statuses = ContentType.objects.get_for_model(Status)
    wanted = {
        "ExportObjectList": {"content_type": statuses.pk, "export_format": "csv"},
        "LogsCleanup": {"cleanup_types": ["extras.ObjectChange"], "max_age": 0},
        "RefreshDynamicGroupCaches": {"single_group": None},
    }
    results = {name: enqueue(name, user, values) for name, values in wanted.items()}
    with running_worker("", "-c", "2", command=(*SERVER, "celery")):
        for result in results.values():
            wait_until(lambda each=result: is_ended(each), 300)
    seen: dict[str, Any] = {
        name: [result.status, result.user.username] for name, result in results.items()
    }
    exported = results["ExportObjectList"].files.get().file.read().decode("utf-8-sig")
    seen["exported"] = len(exported.splitlines()) - 1 == Status.objects.count() > 0
    return seen


def enqueue(name: str, user: Any, values: dict[str, Any]) -> Any:
    from nautobot.extras.models import Job, JobResult

    job = Job.objects.get(job_class_name=name)
    return JobResult.enqueue_job(job, user, job_kwargs=values)


def is_ended(result: Any) -> bool:
    result.refresh_from_db()
    return result.status not in ("PENDING", "STARTED", "RETRY")


if __name__ == "__main__":
    observe(scenario)

"""A process with Django in it: makes the tables of django-celery-beat, and entries in them.

    python -m tests.support.django_entries CONNINFO < entries.json

Prints when each entry would be due next five times, by the schedules that django-celery-beat makes.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from typing import Any

import django
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

KINDS = ("interval", "crontab", "solar", "clocked")


def main(conninfo: str, entries: list[dict[str, Any]]) -> dict[str, list[str]]:
    params = conninfo_to_dict(conninfo)
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": params["dbname"],
                "USER": params.get("user", ""),
                "PASSWORD": params.get("password", ""),
                "HOST": params.get("host", ""),
                "PORT": params.get("port", ""),
            }
        },
        INSTALLED_APPS=["django_celery_beat"],
        USE_TZ=True,
        TIME_ZONE="UTC",
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    django.setup()
    from django.core.management import call_command
    from django_celery_beat import models

    call_command("migrate", verbosity=0)
    classes = {
        "interval": models.IntervalSchedule,
        "crontab": models.CrontabSchedule,
        "solar": models.SolarSchedule,
        "clocked": models.ClockedSchedule,
    }
    ticks = {}
    for entry in entries:
        kind = next(kind for kind in KINDS if kind in entry)
        schedule = classes[kind].objects.create(**entry.pop(kind))
        after = datetime.fromisoformat(entry.pop("after"))
        task = models.PeriodicTask(**{kind: schedule}, **entry)
        task.save()
        if kind in ("interval", "crontab"):
            ticks[task.name] = list(map(str, five_ticks(task.schedule, after)))
    return ticks


def five_ticks(schedule: Any, after: datetime) -> list[datetime]:
    ticks = []
    for _ in range(5):
        at = after.astimezone(getattr(schedule, "tz", after.tzinfo))
        schedule.nowfun = lambda at=at: at
        after = after + max(schedule.remaining_estimate(at), timedelta(microseconds=1))
        ticks.append(after)
    return ticks


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.load(sys.stdin))))

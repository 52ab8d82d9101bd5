"""The Celery app, and when its clockwork is due."""

import os

from celery import Celery

from pgjobs_celery import cron

URL = os.environ.get("PGJOBS_URL", "pgjobs://localhost/app")

app = Celery("recipe", broker=URL, backend=URL, task_cls="pgjobs_celery:PgTask")
app.conf.imports = ["recipe.tasks"]
app.conf.task_routes = {
    "recipe.tasks.send_email": "emails",
    "recipe.tasks.process_import": "imports",
    "recipe.tasks.delete_old_imports": "scheduled",
    "recipe.tasks.call_api": "api",
    "recipe.tasks.send_newsletter": "newsletters",
    "recipe.tasks.work": "priority",
}
app.conf.beat_schedule = {
    "cleanup": {
        "task": "recipe.tasks.delete_old_imports",
        "schedule": cron("0 2 * * *", tz="UTC"),
        "kwargs": {"days": 30},
    },
}

"""The whole of Weblate: its queue alarms, and a component that its worker makes and updates."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import django
from git_http import serving_git
from observing import (
    BROKER,
    FOLDER,
    REDIS,
    RESULTS,
    django_database,
    observe,
    running_worker,
    wait_until,
)

#: On top of the product's own example.
SETTINGS = f"""
from weblate.settings_example import *

ADMINS = []
CACHE_DIR = {str(FOLDER / "cache")!r}
CACHES["default"]["LOCATION"] = {REDIS!r}
CACHES["avatar"]["LOCATION"] = CACHE_DIR + "/avatar"
CELERY_BROKER_URL = {BROKER!r}
CELERY_RESULT_BACKEND = {RESULTS!r}
DATABASES = {{"default": {django_database()!r}}}
DATA_DIR = {str(FOLDER / "data")!r}
DEBUG = False
OTP_WEBAUTHN_ALLOWED_ORIGINS = ["https://localhost"]
OTP_WEBAUTHN_RP_ID = "localhost"
SECRET_KEY = "of-a-test-and-long-enough-to-be-taken-for-one-by-its-checks"
SITE_DOMAIN = "localhost"
# The repository is on loopback, and a file is not allowed.
VCS_ALLOW_SCHEMES = {{"http"}}
VCS_RESTRICT_PRIVATE = False
"""
QUEUES = ("celery", "notify", "memory", "backup", "translate")
UPSTREAM = FOLDER / "upstream"

HEAD = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\nLanguage: cs\\n"\n'
#: More than Weblate thinks a queue may hold.
LONG = 60


def set_up() -> None:
    (FOLDER / "field_settings.py").write_text(SETTINGS)
    sys.path.insert(0, str(FOLDER))
    os.environ["PYTHONPATH"] = str(FOLDER)
    os.environ["DJANGO_SETTINGS_MODULE"] = "field_settings"
    # They run in the product's own process, without a worker.
    program = Path(sys.executable).with_name("weblate")
    subprocess.run([str(program), "migrate", "-v", "0"], check=True)
    django.setup()


def scenario() -> dict[str, Any]:
    set_up()
    from weblate.utils.celery import app, get_queue_stats
    from weblate.utils.tasks import heartbeat, ping

    app.control.purge()  # of what the migrations have published
    seen: dict[str, Any] = {}
    for _ in range(LONG):
        ping.delay()
    seen["queue statistics"] = get_queue_stats()["celery"]
    remember_an_hour_ago(get_queue_stats())
    seen["alarm"] = "weblate.E009" in ask_checks()
    with running_worker("weblate.utils", "-c", "2", "-Q", ",".join(QUEUES)):
        wait_until(lambda: not any(get_queue_stats().values()), 300)
        heartbeat.delay().get(timeout=60)  # as its beat does
        seen["after the work"] = sum(get_queue_stats().values())
        seen["checks of Celery"] = ask_checks()
        with serving_git(UPSTREAM) as repository:
            seen.update(update_component(repository))
        wait_until(lambda: not any(get_queue_stats().values()), 300)
    return seen


def ask_checks() -> list[str]:
    """What Weblate itself finds wrong with its Celery."""
    from weblate.utils.apps import check_celery

    return [each.id for each in check_celery(app_configs=None, databases=None)]


def remember_an_hour_ago(statistics: dict[str, int]) -> None:
    """The alarm compares with what Weblate saw in the hour before."""
    from django.core.cache import cache

    hour = int(time.time() / 3600)
    cache.set("celery_queue_stats", {hour - 1: statistics}, 7200)


def update_component(repository: str) -> dict[str, Any]:
    from weblate.trans.models import Component, Project, Unit
    from weblate.trans.tasks import perform_update

    commit({"Hello": "Ahoj", "World": ""})
    project = Project.objects.create(name="Field", slug="field", web="https://example.org/")
    component = Component.objects.create(
        project=project,
        name="Greetings",
        slug="greetings",
        vcs="git",
        repo=repository,
        branch="main",
        filemask="locale/*.po",
        file_format="po",
        new_lang="none",
    )

    def units() -> dict[str, str]:
        found = Unit.objects.filter(
            translation__component=component, translation__language__code="cs"
        )
        return dict(found.order_by("position").values_list("source", "target"))

    seen: dict[str, Any] = {}
    wait_until(lambda: len(units()) == 2, 300)
    seen["made by the worker"] = units()
    commit({"Hello": "Ahoj", "World": "Svete", "Bye": ""})
    result = perform_update.delay("Component", component.pk)
    result.get(timeout=300)
    wait_until(lambda: len(units()) == 3, 300)
    seen["updated by the worker"] = units()
    seen["state"] = result.state
    return seen


def commit(messages: dict[str, str]) -> None:
    """What a developer pushes to the repository that Weblate follows."""
    catalogue = UPSTREAM / "locale" / "cs.po"
    if not catalogue.exists():
        catalogue.parent.mkdir(parents=True)
        _git("init", "-q", "-b", "main")
    entries = [f'msgid "{source}"\nmsgstr "{target}"\n' for source, target in messages.items()]
    catalogue.write_text("\n".join([HEAD, *entries]))
    _git("add", "locale")
    _git("commit", "-q", "-m", f"{len(messages)} messages")


def _git(*arguments: str) -> None:
    names = ("-c", "user.name=field", "-c", "user.email=field@example.org")
    subprocess.run(["git", *names, *arguments], cwd=Path(UPSTREAM), check=True)


if __name__ == "__main__":
    observe(scenario)

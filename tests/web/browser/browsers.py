"""Start a browser that this machine has, and be somebody in it."""

from __future__ import annotations

import os
import shutil
from typing import Any

from pgjobs_celery.web import User
from pgjobs_celery.web.roles import Role

#: The first has no windows at all: a tab of it costs a fifth of the CPU (0.1 s, not 0.54).
NAMES = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)

#: A laptop, and a phone.
LAPTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


def find_chromium() -> str | None:
    """The browser to use, if there is any: ``PGJOBS_TEST_CHROMIUM``, or what is installed."""
    given = os.environ.get("PGJOBS_TEST_CHROMIUM")
    return given or next((path for path in map(shutil.which, NAMES) if path), None)


def start_chromium(playwright: Any) -> Any:
    """That browser, without a window."""
    # Root has no sandbox, and containers little shared memory.
    return playwright.chromium.launch(
        executable_path=find_chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"]
    )


def by_header(request: Any) -> User:
    """The visitor that a browser claims to be."""
    name = request.headers.get("x-user", "alice")
    return User(name, Role.of(request.headers.get("x-role", "admin")))

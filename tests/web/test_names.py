"""What the page offers by name, and what it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pgjobs_celery import web

#: A name is added here when it is documented; none is ever taken away without a deprecation.
PUBLIC = [
    "Redaction", "Role", "User", "as_wsgi", "basic_auth", "dashboard", "hash_password",
    "trusted_header",
]  # fmt: skip


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_public_names_are_these():
    assert sorted(web.__all__) == PUBLIC
    for name in PUBLIC:
        assert (getattr(web, name).__doc__ or "").strip(), name


def test_neither_the_package_nor_its_commands_load_the_page():
    done = python(
        "import sys, pgjobs_celery, pgjobs_celery.cli.main\n"
        "print({'starlette', 'uvicorn', 'jinja2', 'anyio', 'a2wsgi'} & set(sys.modules))"
    )
    assert done.stdout == "set()\n", done.stdout + done.stderr


@pytest.mark.parametrize("missing", ["starlette", "jinja2", "a2wsgi"])
def test_without_its_extra_it_says_what_to_install(missing):
    done = python(f"import sys; sys.modules[{missing!r}] = None; import pgjobs_celery.web")
    last = done.stderr.strip().splitlines()[-1]
    assert "RequirementMissing" in last
    assert last.endswith(f"the web page needs {missing}: pip install 'pgjobs-celery[web]'")

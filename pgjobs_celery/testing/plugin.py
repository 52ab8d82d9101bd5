"""pytest's plugin: fixtures ``pgjobs`` and ``pgjobs_real``, and the marker ``pgjobs``.

- ``pgjobs``: the app under test is in :func:`testing`, and this has the helpers for it.
- ``pgjobs_real``: the same in mode "real", on a migrated database that is empty.
- ``@pytest.mark.pgjobs(mode="inline")``: in which mode, for a test with or without the fixture.
- ``pgjobs_app = proj:app`` in pytest's settings: which app. Without it, a fixture ``celery_app`` of
  your own, or Celery's current app.

It is loaded in every run of pytest: expensive modules are loaded when a fixture is used.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from .._register import watch_tasks

if TYPE_CHECKING:
    from .fixtures.helpers import Helpers

MARKER = (
    'pgjobs(mode="manual", app=None, propagate=False): the Celery app under test is in '
    "pgjobs_celery.testing's mode of this name"
)
HELPERS = pytest.StashKey["Helpers"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The setting that names the app."""
    parser.addini("pgjobs_app", "the Celery app under test, as celery -A has it: proj:app")


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line("markers", MARKER)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Plain ``async def`` tasks run eagerly from now on, if Celery was loaded at all."""
    watch_tasks()


@pytest.fixture
def pgjobs(request: pytest.FixtureRequest) -> Iterator[Helpers]:
    """The helpers, for the app under test, which is in the mode of the marker."""
    from .fixtures.providing import mode_of, provide

    if mode_of(request) == "real":
        yield request.getfixturevalue("pgjobs_real")
        return
    with provide(request) as helpers:
        request.node.stash[HELPERS] = helpers
        yield helpers


@pytest.fixture
def pgjobs_real(request: pytest.FixtureRequest, pgjobs_database_url: str) -> Iterator[Helpers]:
    """The helpers, for the app under test on a database of this run with nothing in it."""
    from .fixtures.providing import provide_real

    with provide_real(request, pgjobs_database_url) as helpers:
        request.node.stash[HELPERS] = helpers
        yield helpers


@pytest.fixture(scope="session")
def pgjobs_server_url() -> Iterator[str]:
    """Where databases may be created: the server of PGJOBS_TEST_DSN, or an embedded one."""
    from .fixtures.servers import open_server

    with open_server() as url:
        yield url


@pytest.fixture(scope="session")
def pgjobs_database_url(pgjobs_server_url: str) -> Iterator[str]:
    """A migrated database for this run, dropped at its end; one for each process of xdist."""
    from .fixtures.servers import open_database

    with open_database(pgjobs_server_url) as url:
        yield url


@pytest.fixture(autouse=True)
def _pgjobs_marked(request: pytest.FixtureRequest) -> None:
    """A test that is marked need not ask for the fixture."""
    if request.node.get_closest_marker("pgjobs") is not None:
        request.getfixturevalue("pgjobs")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show the enqueued jobs with a failure."""
    report = yield
    helpers = item.stash.get(HELPERS, None)
    if helpers is not None and report.when == "call" and report.failed:
        from .fixtures.providing import describe

        report.sections.append(("What was enqueued", describe(helpers)))
    return report

"""Tests that do little but wait, side by side: each in a database, and with workers, of its own.

SCENES = [Scene(a_killed_workers_jobs_are_back, "prefork"), Scene(an_outage, needs_server=True)]

@pytest.fixture(scope="module")
def end(request, make_database, tmp_path_factory):
    with playing(request, make_database, tmp_path_factory.mktemp("scenes")) as end:
        yield end

@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_whoever_dies(scene, end):
    end(scene)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import Celery
from celery.canvas import Signature
from psycopg.rows import dict_row

from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.embedded import EmbeddedServer

from ..conftest import DSN, close_app
from .conftest import StartWorker, running_workers
from .rows import Rows

#: How many are played at a time: their workers must not be short of a processor.
AT_ONCE = 5


class Stage:
    """What a scene has to itself."""

    def __init__(self, url: str, folder: Path, server: EmbeddedServer | None) -> None:
        self.url = url
        self.folder = folder
        #: Its own, where it needs one: to be stopped.
        self.server = server
        #: What there is to show if the scene fails.
        self.shown: list[str] = []
        #: One app leads to one database: the workers' tasks are sent by their names.
        self.app = Celery("tests.e2e", broker=url, backend=url, set_as_current=False)
        self.worker: StartWorker
        self._connections = ExitStack()

    def task(self, task: Any) -> Signature:
        """A task of the workers', to be published in this scene's database."""
        return self.app.signature(task.name)

    def open_rows(self) -> Rows:
        """The jobs, over a new connection."""
        connection = psycopg.connect(parse_url(self.url), autocommit=True, row_factory=dict_row)
        self._connections.callback(connection.close)
        return Rows(connection)

    @contextmanager
    def lit(self) -> Iterator[None]:
        """Workers may be started in the block, and must leave at its end."""
        with migrations.session(parse_url(self.url)) as connection:
            migrations.migrate(connection, "pgjobs")
        with (
            running_workers(self.url, self.folder, self.shown.append) as self.worker,
            self._connections,
        ):
            yield


class Scene:
    """A test, with its arguments behind the stage."""

    def __init__(self, play: Callable[..., None], *args: str, needs_server: bool = False) -> None:
        self.play = play
        self.args = args
        self.needs_server = needs_server

    def __str__(self) -> str:
        return "-".join((self.play.__name__, *self.args))


@contextmanager
def playing(
    request: pytest.FixtureRequest, make_database: Callable[[], str], folder: Path
) -> Iterator[Callable[[Scene], None]]:
    """Begin all scenes of the module that are to be tested, the first of them first.

    The function waits for the end of one, and raises what that has raised.
    """
    scenes: list[Scene] = [
        item.callspec.params["scene"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module
    ]
    stages: dict[Scene, Stage] = {}

    def play(scene: Scene) -> None:
        with ExitStack() as stack:
            server = None
            if scene.needs_server:
                if DSN:
                    pytest.skip("stops the server, and PGJOBS_TEST_DSN names one that is not ours")
                server = stack.enter_context(
                    EmbeddedServer(settings={"max_connections": 50, "fsync": "off"})
                )
            own = folder / str(scenes.index(scene))
            own.mkdir()
            stage = Stage(server.url if server else make_database(), own, server)
            stages[scene] = stage
            stack.enter_context(stage.lit())
            scene.play(stage, *scene.args)

    def end(scene: Scene) -> None:
        try:
            futures[scene].result()
        finally:
            if scene in stages:
                print("\n".join(stages[scene].shown))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {scene: pool.submit(play, scene) for scene in scenes}
        yield end
    for stage in stages.values():
        close_app(stage.app)  # and with it kombu's pools, which others use as long as they play

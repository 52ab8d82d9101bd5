"""Lines of a worker's log, as JSON and as formatters of other packages write them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from celery import Celery

from ..conftest import close_app
from .conftest import ROOT, StartWorker, Worker

pytest.importorskip("pythonjsonlogger")

Lines = list[dict[str, Any]]


@pytest.fixture
def producer(url: str) -> Any:
    """Publishes; knows no tasks."""
    app = Celery("tests.e2e.logged", broker=url, backend=url, set_as_current=False)
    yield app
    close_app(app)


def read(worker: Worker) -> Lines:
    """The lines that are JSON."""
    lines = []
    for line in worker.log.splitlines():
        if line.startswith("{"):
            lines.append(json.loads(line))
    return lines


def of_job(lines: Lines, id: str) -> dict[str, dict[str, Any]]:
    """The lines of a job by their first word."""
    return {line["message"].split()[0]: line for line in lines if line.get("job_id") == id}


def run(producer: Celery, *names: str, **options: Any) -> list[str]:
    """Run tasks to their ends; their ids."""
    results = [
        producer.send_task(name, (f"{name}-{n}",), **options) for n, name in enumerate(names)
    ]
    for result in results:
        result.get(timeout=20, propagate=False)
    return [result.id for result in results]


FAILED = "Task fail"


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_each_line_of_a_worker_is_json_and_names_its_job(
    worker: StartWorker, producer: Celery, pool: str
) -> None:
    started = worker(app="tests.e2e.logged", pool=pool, conf={"pgjobs_log_json": True})
    ids = run(producer, "say", "say", "fail")
    started.stop()
    lines = read(started)
    # All but Celery's banner, and the warning about root.
    before = started.log[: started.log.index("{")]
    assert "[INFO" not in started.log
    assert "plain" not in before
    for number, id in enumerate(ids[:2]):
        found = of_job(lines, id)
        assert {"plain", "task", "with", "caught", "printed", "Task"} <= found.keys()
        for line in found.values():
            assert (line["task"], line["worker"]) == ("say", started.name)
        # The line's own values stay.
        assert (found["with"]["queue"], found["with"]["user"]) == ("mine", 7)
        plain = found["plain"]
        assert plain["message"] == f"plain say-{number}"
        assert (plain["level"], plain["logger"]) == ("WARNING", "shop")
        assert (plain["queue"], plain["attempt"]) == ("celery", 1)
        assert "LookupError" in found["caught"]["exc_info"]
        assert plain["timestamp"].endswith("+00:00")
        assert "data" not in found["Task"]
    [error] = [line for line in lines if line["level"] == "ERROR" and line["job_id"] == ids[2]]
    assert error["task"] == "fail"
    assert "\x1b" not in started.log
    assert "\x7f" not in started.log
    others = [line for line in lines if "job_id" not in line]
    assert others
    assert {line["worker"] for line in others} == {started.name}


@pytest.mark.parametrize(("logging", "pool"), [("json", "prefork"), ("structlog", "threads")])
def test_a_formatter_of_the_users_is_unharmed_and_gets_the_fields(
    worker: StartWorker, producer: Celery, logging: str, pool: str
) -> None:
    pytest.importorskip("structlog")
    env = {"PGJOBS_TEST_LOGGING": logging}
    # Asked for as well: Celery's handlers are not made, so there is nothing to change.
    conf = {"pgjobs_log_json": True}
    started = worker(app="tests.e2e.logged", pool=pool, env=env, conf=conf)
    (id,) = run(producer, "say")
    started.stop()
    found = of_job(read(started), id)
    assert {"plain", "task", "with", "caught"} <= found.keys()
    for line in found.values():
        assert (line["task"], line["worker"]) == ("say", started.name)
    assert (found["with"]["queue"], found["with"]["user"]) == ("mine", 7)
    assert found["plain"]["attempt"] == 1
    assert "logger" not in found["plain"]  # theirs, not ours
    if logging == "structlog":
        assert (found["structured"]["user"], found["structured"]["queue"]) == (7, "celery")


def test_the_queue_is_the_one_and_not_the_routing_key(
    worker: StartWorker, producer: Celery
) -> None:
    from kombu import Exchange, Queue

    topic = Exchange("mails", "topic")
    with producer.connection_for_write() as connection:
        Queue("mail", topic, routing_key="mail.#", channel=connection.default_channel).declare()
    conf = {"pgjobs_log_json": True}
    started = worker(app="tests.e2e.logged", pool="threads", queues=["mail"], conf=conf)
    (id,) = run(producer, "say", exchange=topic, routing_key="mail.urgent")
    started.stop()
    assert of_job(read(started), id)["plain"]["queue"] == "mail"


def test_without_the_setting_celerys_lines_are_as_they_were(
    worker: StartWorker, producer: Celery
) -> None:
    started = worker(app="tests.e2e.logged", pool="threads")
    run(producer, "say")
    started.stop()
    assert read(started) == []
    assert "plain say-0" in started.log


def test_what_must_be_installed_is_named_in_one_line(url: str) -> None:
    program = (
        "import sys; sys.modules['pythonjsonlogger'] = None; "
        "from tests.e2e.logged import app; app.conf.pgjobs_log_json = True; "
        "app.worker_main(['worker', '--pool', 'solo'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env={"PGJOBS_TEST_URL": url, "PATH": ""}, capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        'RequirementMissing: pgjobs_log_json needs python-json-logger: pip install "pgjobs-'
        in (done.stderr.strip().splitlines()[-1])
    )

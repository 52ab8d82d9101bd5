"""The whole of Airflow: its tutorial's DAG, and the worker that runs a task of it is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import distribution
from typing import Any

import psutil
import psycopg2
from observing import BROKER, DATABASE, FOLDER, RESULTS, find_port, observe, wait_until

HOME = FOLDER / "airflow"
API = find_port()
SQL = DATABASE.partition("://")[2]

SETTINGS = {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__API__HOST": "127.0.0.1",
    "AIRFLOW__API__PORT": str(API),
    "AIRFLOW__API__WORKERS": "1",
    "AIRFLOW__API_AUTH__JWT_SECRET": "of-a-test-and-long-enough-to-be-taken-for-one" * 2,
    "AIRFLOW__CELERY__BROKER_URL": BROKER,
    "AIRFLOW__CELERY__RESULT_BACKEND": RESULTS,
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{API}/execution/",
    "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{SQL}",
    # So that Airflow notices within seconds, and not minutes, that a task has gone.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
}
#: What the scheduler writes when it takes a task for lost.
LOST = "Detected a task instance without a heartbeat"
#: Seconds for Airflow to start, and for its tasks to end, on a busy machine.
PATIENCE = 400


def airflow(*arguments: str) -> subprocess.Popen[bytes]:
    log = (FOLDER / f"{arguments[-1].partition('@')[0]}.log").open("wb")
    command = [sys.executable, "-m", "airflow", *arguments]
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def worker(name: str) -> subprocess.Popen[bytes]:
    options = ("-c", "2", "--skip-serve-logs", "--celery-hostname", f"{name}@field")
    return airflow("celery", "worker", *options)


def scenario() -> dict[str, Any]:
    os.environ.update(SETTINGS)
    (HOME / "dags").mkdir(parents=True)
    # The tutorial as it comes, but for its days between runs, and its minutes between tries.
    example = distribution("apache-airflow-core").locate_file("airflow/example_dags/tutorial.py")
    source = example.read_text().replace("timedelta(minutes=5)", "timedelta(0)")
    source = source.replace("schedule=timedelta(days=1)", "schedule=None")
    # So that the other tasks have ended before its worker is killed, on a busy machine too.
    source = source.replace("sleep 5", "sleep 45")
    (HOME / "dags" / "tutorial.py").write_text(source)
    if airflow("db", "migrate").wait(PATIENCE):
        raise RuntimeError("airflow db migrate failed")
    running = [airflow(name) for name in ("api-server", "scheduler", "dag-processor")]
    running.append(worker("first"))
    try:
        return run_tutorial(running)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)


def run_tutorial(running: list[subprocess.Popen[bytes]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    wait_until(lambda: ask("SELECT dag_id FROM serialized_dag"), PATIENCE)
    # Its template shows the day, which a run by hand has only if it is told.
    if airflow("dags", "trigger", "--logical-date", "2026-01-01", "tutorial").wait(PATIENCE):
        raise RuntimeError("airflow dags trigger failed")
    wait_until(lambda: tasks().get("templated", ("", 0))[0] == "success", PATIENCE)
    wait_until(lambda: tasks()["sleep"][0] == "running", PATIENCE)
    time.sleep(1)  # it has begun its command
    seen["killed while"] = tasks()["sleep"][0]
    kill(running.pop())
    running.append(worker("second"))
    wait_until(lambda: states() in (["success"], ["failed"]), PATIENCE)
    seen["DAG"] = states()
    seen["tasks"] = {name: state for name, (state, _) in tasks().items()}
    # Its message may come again before that, and be ignored: this may not end the task.
    seen["ended by"] = "heartbeat" if LOST in (FOLDER / "scheduler.log").read_text() else "state"
    seen["tries"] = {name: tries for name, (_, tries) in tasks().items()}
    return seen


def states() -> list[str]:
    return [state for (state,) in ask("SELECT state FROM dag_run")]


def tasks() -> dict[str, tuple[str, int]]:
    rows = ask("SELECT task_id, state, try_number FROM task_instance")
    return {name: (state, tries) for name, state, tries in rows}


def ask(query: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(f"postgresql://{SQL}")
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())
    finally:
        connection.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    """The worker with all that it runs, as when its machine is lost."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.kill()
    psutil.wait_procs(family)


if __name__ == "__main__":
    observe(scenario)

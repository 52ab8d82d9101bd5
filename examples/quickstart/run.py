"""Run the quickstart: a server, a worker, 253 tasks on real data, and what became of them.

python run.py            on an embedded PostgreSQL that is gone afterwards
python run.py --keep     leave that server running, and a web page over it, to look around in
python run.py --stop     stop both and remove the data
PGJOBS_DSN=postgresql://me@localhost/mydb python run.py
                         on a server of yours; only the schema pgjobs in it is used
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
from celery.result import AsyncResult
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from zones import read_countries, read_zones

from pgjobs_celery.embedded import EmbeddedServer
from pgjobs_celery.errors import PgJobsError

HERE = Path(__file__).resolve().parent
#: Where the folder of a server that was kept is written down.
KEPT = HERE.parents[1] / ".demo" / "server"
#: Where the process of the page is written down, and what it locks while it runs.
PAGE = KEPT.with_name("page")
#: The port of the page; any other one where it is taken.
PORT = 8080
#: Seconds after which a run that is not finished has failed; it takes about 10.
LIMIT = 60.0
#: Seconds that the scheduled task, and the one to be cancelled, wait.
COUNTDOWN = 3

STATES = {
    "scheduled": "waits for its time",
    "available": "waits for a worker",
    "executing": "runs",
    "retryable": "failed, will be tried again",
    "completed": "done, its result in the row",
    "discarded": "failed for good",
    "cancelled": "revoked before it ran",
}

FINAL = ("completed", "discarded", "cancelled")

QUERIES = """\
SELECT state, count(*) FROM pgjobs.job_details GROUP BY state;

SELECT task, state, attempt, scheduled_at - inserted_at AS waited, errors->-1->>'message' AS error
FROM pgjobs.job_details WHERE state <> 'completed' OR attempt > 1;

SELECT args->>0 AS country, change->>'zone' AS zone, change->>'at' AS changes_at
FROM pgjobs.job_details, jsonb_array_elements(result->'changes') AS change
WHERE state = 'completed' AND change ? 'at' ORDER BY changes_at LIMIT 10;
"""

console = Console(highlight=False)


class QuickstartFailed(Exception):
    """The quickstart cannot go on; the message says why."""


def main() -> int:
    """Run the quickstart; the exit code for the shell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--keep", action="store_true", help="leave the embedded server running")
    parser.add_argument("--stop", action="store_true", help="stop and remove a server left running")
    options = parser.parse_args()
    for name in ("SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.default_int_handler)
    try:
        if options.stop:
            stop_kept_server()
        else:
            run(keep=options.keep)
    except KeyboardInterrupt:
        console.print("\n[yellow]Interrupted.[/] Everything that was started has been stopped.")
        return 130
    except (QuickstartFailed, PgJobsError, psycopg.Error, OSError) as error:
        console.print(
            "\n[red]The quickstart failed:[/]", escape(str(error).strip()), soft_wrap=True
        )
        console.print("Everything that was started has been stopped.")
        return 1
    return 0


def run(keep: bool) -> None:
    """Start what is needed, do the work, show it, and stop everything again."""
    page = None
    with ExitStack() as stack:
        server, url = open_server(stack, keep)
        # The app reads it, here and in the processes started below.
        os.environ["PGJOBS_URL"] = url
        migrate()
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgjobs-quickstart-")))
        connection = stack.enter_context(connect(url))
        worker = stack.enter_context(start_worker(logs / "worker.log"))
        jobs = publish()
        follow(jobs, connection, worker, logs / "worker.log")
        show(jobs, connection)
        if server and keep:
            KEPT.parent.mkdir(exist_ok=True)
            KEPT.write_text(f"{server.path}\n")
            server.keep()
            page = open_page()
    show_next_steps(server, url, keep, page)


def open_server(stack: ExitStack, keep: bool) -> tuple[EmbeddedServer | None, str]:
    """The embedded server and its URL, or None and the URL of the reader's own server."""
    dsn = os.environ.get("PGJOBS_DSN")
    if dsn:
        say("PostgreSQL", "your own (PGJOBS_DSN); all that is created lies in its schema pgjobs")
        return None, to_url(dsn)
    started = time.monotonic()
    server = stack.enter_context(EmbeddedServer(kept_path() if keep else None))
    say("PostgreSQL", f"started in {time.monotonic() - started:.1f} s, socket in {server.path}")
    return server, server.url


def migrate() -> None:
    """Create the tables, as every app does it."""
    command = ["celery", "-A", "app", "pgjobs", "migrate"]
    result = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=HERE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        raise QuickstartFailed(f"`{' '.join(command)}` said:\n\n{result.stdout.strip()}")
    say("Schema", f"up to date ({' '.join(command)})")


@contextmanager
def start_worker(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real worker process, stopped at the end of the block: it finishes what it has begun."""
    command = ["celery", "-A", "app", "worker", "--concurrency=2", "--loglevel=INFO"]
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Out of reach of the terminal's Ctrl-C, which is ours to pass on.
            start_new_session=True,
        )
    guard: subprocess.Popen[bytes] | None = None
    try:
        # Sees its input end should this process be killed, and takes worker and log along.
        end = 'read -r _ || { kill -s KILL -- "-$1"; rm -rf "$2"; }'
        guard = subprocess.Popen(
            ["sh", "-c", end, "sh", str(worker.pid), log.parent],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        say("Worker", f"process {worker.pid} ({' '.join(command)})")
        yield worker
    finally:
        # A second Ctrl-C must not leave half of it running.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        worker.terminate()
        try:
            worker.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        if guard:
            guard.communicate(b"\n")


def publish() -> dict[str, AsyncResult]:
    """Publish all tasks; the result handle of each by a name for it."""
    from tasks import ask_slow_source, find_changes, find_first_change

    now = datetime.now(timezone.utc).isoformat()
    countries, zones = read_countries(), read_zones()
    started = time.monotonic()
    jobs = {
        code: find_changes.delay(name, zones.get(code, []), now) for code, name in countries.items()
    }
    everywhere = [zone for country in zones.values() for zone in country]
    jobs["scheduled"] = find_first_change.apply_async((everywhere, now), countdown=COUNTDOWN)
    jobs["flaky"] = ask_slow_source.delay("America/Santiago", now)
    jobs["cancelled"] = find_changes.apply_async(
        ("Atlantis", ["Etc/GMT+2"], now), countdown=COUNTDOWN
    )
    jobs["impossible"] = find_changes.delay("Mars", ["Mars/Olympus_Mons"], now)
    say("Published", f"{len(jobs)} tasks in {time.monotonic() - started:.1f} s, a row for each")
    return jobs


def follow(
    jobs: dict[str, AsyncResult],
    connection: psycopg.Connection[dict[str, Any]],
    worker: subprocess.Popen[bytes],
    log: Path,
) -> None:
    """Show how the rows move until all are finished; revoke one as soon as the worker is there."""
    progress = Progress(
        TextColumn("  [bold]Jobs     [/]"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        console=console,
    )
    deadline = time.monotonic() + LIMIT
    is_revoked = False
    with progress:
        bar = progress.add_task("", total=len(jobs))
        while True:
            counts = count_jobs(jobs, connection)
            finished = sum(counts.get(state, 0) for state in FINAL)
            moving = ", ".join(f"{n} {state}" for state, n in counts.items() if state not in FINAL)
            progress.update(bar, completed=finished, description=moving)
            if finished == len(jobs):
                return
            if finished and not is_revoked:
                jobs["cancelled"].revoke()
                is_revoked = True
            if time.monotonic() > deadline:
                where = ", ".join(f"{n} {state}" for state, n in counts.items())
                raise QuickstartFailed(f"not done after {LIMIT:.0f} s: {where}\n\n{tail(log)}")
            # How fast the bar moves, and no delay to hearing of the worker's end.
            try:
                code = worker.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            raise QuickstartFailed(f"the worker ended with exit code {code}\n\n{tail(log)}")


def count_jobs(
    jobs: dict[str, AsyncResult], connection: psycopg.Connection[dict[str, Any]]
) -> dict[str, int]:
    """How many of our rows are in each state, in the order in which a job goes through them."""
    rows = connection.execute(
        "SELECT state, count(*) AS jobs FROM pgjobs.jobs WHERE task_id = ANY(%s) GROUP BY state",
        [[job.id for job in jobs.values()]],
    ).fetchall()
    found = {row["state"]: row["jobs"] for row in rows}
    return {state: found[state] for state in STATES if state in found}


def show(jobs: dict[str, AsyncResult], connection: psycopg.Connection[dict[str, Any]]) -> None:
    """Print jobs by state, the four that are special, and the results."""
    table = Table("state", "jobs", "", title="Jobs by state", title_justify="left")
    table.columns[1].justify = "right"
    for state, number in count_jobs(jobs, connection).items():
        table.add_row(state, str(number), STATES[state])
    console.print()
    console.print(table)

    table = Table("job", "state", "runs", "", title="Four that were special", title_justify="left")
    table.columns[2].justify = "right"
    labels = {
        "scheduled": f"scheduled, countdown={COUNTDOWN}",
        "flaky": "fails and retries",
        "impossible": "fails for good",
        "cancelled": "cancelled",
    }
    for name, label in labels.items():
        row = connection.execute(
            "SELECT * FROM pgjobs.job_details WHERE task_id = %s", [jobs[name].id]
        ).fetchone()
        assert row is not None
        table.add_row(label, row["state"], str(row["attempt"]), escape(tell(jobs[name], row)))
    console.print()
    console.print(table)

    answers = [jobs[code].get(timeout=10) for code in read_countries()]
    changes = [
        {**change, "country": answer["country"]}
        for answer in answers
        for change in answer["changes"]
        if "at" in change
    ]
    soonest = sorted(changes, key=lambda change: change["at"])
    table = Table(
        "at (UTC)", "offset", "zones", title="The next clock changes", title_justify="left"
    )
    for moment in list(dict.fromkeys(change["at"] for change in soonest))[:6]:
        there = [change for change in soonest if change["at"] == moment]
        names = ", ".join(sorted({change["country"] for change in there}))
        table.add_row(
            f"{datetime.fromisoformat(moment):%a %d %b %Y %H:%M}",
            f"{there[0]['from']} to {there[0]['to']}",
            f"{len(there)} in {names if len(names) < 60 else names[:57] + '...'}",
        )
    console.print()
    console.print(table)
    still = sum(1 for answer in answers if not any("at" in change for change in answer["changes"]))
    console.print(f"{still} of {len(answers)} countries never change their clocks.")


def tell(job: AsyncResult, row: dict[str, Any]) -> str:
    """One line on what became of a job."""
    if row["state"] == "completed" and row["attempt"] > 1:
        return f"{row['attempt'] - 1} errors, then {job.result['zone']} {_day(job.result)}"
    if row["state"] == "completed":
        late = (row["attempted_at"] - row["scheduled_at"]) / timedelta(seconds=1)
        first = f"{job.result['zone']} {_day(job.result)}"
        return f"began {late:.2f} s after its time: {first}"
    if row["state"] == "discarded":
        return f"{type(job.result).__name__}: {job.result}"
    return f"result.state is {job.state}"


def _day(change: dict[str, Any]) -> str:
    return str(change.get("at", "never"))[:10]


def show_next_steps(server: EmbeddedServer | None, url: str, keep: bool, page: str | None) -> None:
    """Say how to look at the rows, how to stop what was kept, and where to go on."""
    console.print()
    if page:
        console.print("[bold]Look at the jobs in a browser:[/]")
        echo(page)
    if server and not keep:
        console.print("Worker and server are stopped, and their data removed.")
        console.print(
            "[bold]make demo KEEP=1[/] leaves the server running, and a web page over it; in psql:"
        )
    else:
        console.print("[bold]Look at the rows:[/]")
        echo(f"psql {shlex.quote(to_conninfo(url))}" if not server else find_psql(server, url))
    console.print()
    echo(QUERIES.rstrip())
    console.print()
    if server and keep:
        console.print("[bold]Go on with it:[/]")
        echo(f"cd {shlex.quote(str(HERE))}")
        echo(f"export PGJOBS_URL={shlex.quote(url)}")
        echo(f"{shlex.quote(sys.executable)} -m celery -A app worker")
        console.print("[bold]Stop page and server, and remove the data:[/]")
        echo("make demo-stop")
    elif not server:
        console.print("[bold]Remove what the quickstart has created:[/]")
        echo("DROP SCHEMA pgjobs CASCADE;   -- not if an app of yours uses pgjobs-celery there")
    console.print("[bold]What next:[/] examples/quickstart/README.md walks through the code.")


def open_page() -> str | None:
    """The address of a web page over the jobs, in a process that stays; None if it does not start.

    Whoever reaches it may act, and only this machine does.
    """
    stop_page()
    port = find_port()
    command = ["celery", "-A", "app", "pgjobs", "web", "--role", "admin", "--port", str(port)]
    log = PAGE.with_suffix(".log")
    with PAGE.open("w") as record, log.open("wb") as output:
        # The page inherits the lock: as long as it is held, the process id is that of the page.
        fcntl.flock(record, fcntl.LOCK_EX)
        page = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # It goes on when this process and its terminal are gone.
            start_new_session=True,
            pass_fds=[record.fileno()],
        )
        record.write(f"{page.pid}\n")
    deadline = time.monotonic() + LIMIT
    while page.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            say("Page", f"process {page.pid} ({' '.join(command)})")
            return f"http://127.0.0.1:{port}/"
        time.sleep(0.1)
    stop_page()
    say("Page", f"did not start: {' '.join(log.read_text(errors='replace').split()[-30:])}")
    return None


def find_port() -> int:
    """``PORT``, or a free one where something else listens there."""
    for port in (PORT, 0):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)) as listener:
            return int(listener.getsockname()[1])
    raise QuickstartFailed("no port is free for the page")


def stop_page() -> None:
    """Stop the page that an earlier run has left, if it is still there."""
    if not PAGE.exists():
        return
    with PAGE.open() as record:
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                try:
                    fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    record.seek(0)
                    os.kill(int(record.read()), number)
                    time.sleep(0.1)
                    continue
                PAGE.unlink()
                return


def stop_kept_server() -> None:
    """Stop page and server that ``--keep`` left running, and remove their data."""
    stop_page()
    path = kept_path()
    if path:
        EmbeddedServer(path).remove()
        say("PostgreSQL", f"stopped, and {path} removed")
    else:
        console.print("No demo server was kept.")
    KEPT.unlink(missing_ok=True)


def kept_path() -> Path | None:
    """The folder of the server that an earlier run has kept, if it is still there."""
    if not KEPT.exists():
        return None
    path = Path(KEPT.read_text().strip())
    try:
        return path if (path / "data" / "PG_VERSION").exists() else None
    except PermissionError:
        raise QuickstartFailed(
            f"the server that was kept in {path} belongs to another user: run this as that user"
        ) from None


def connect(url: str) -> psycopg.Connection[dict[str, Any]]:
    """A plain connection, to watch the rows with."""
    return psycopg.connect(to_conninfo(url, hide=False), autocommit=True, row_factory=dict_row)


def to_url(dsn: str) -> str:
    """A broker URL for what libpq takes: a URI, or ``host=db dbname=app``."""
    _, separator, rest = dsn.partition("://")
    if separator:
        return f"pgjobs://{rest}"
    try:
        return f"pgjobs://?{urlencode(conninfo_to_dict(dsn))}"
    except psycopg.ProgrammingError:
        raise QuickstartFailed(
            "PGJOBS_DSN is neither a postgresql:// URI nor host=... dbname=..."
        ) from None


def to_conninfo(url: str, hide: bool = True) -> str:
    """What psycopg and psql connect with; without the password where it is to be shown."""
    params = conninfo_to_dict(f"postgresql://{url.partition('://')[2]}")
    if hide:
        params.pop("password", None)
    return make_conninfo("", **params)


def find_psql(server: EmbeddedServer, url: str) -> str:
    """The command to look around with; the server brings a psql of its own."""
    return f"{shlex.quote(str(server.psql))} {shlex.quote(to_conninfo(url))}"


def tail(log: Path, lines: int = 25) -> str:
    """The end of the worker's log."""
    text = log.read_text(errors="replace").splitlines()
    return "\n".join(["The end of the worker's log:", *text[-lines:]])


def say(topic: str, text: str) -> None:
    console.print(f"  [bold]{topic:<10}[/] {escape(text)}", soft_wrap=True)


def echo(text: str) -> None:
    """Print what is to be copied: as it stands, no line broken."""
    for line in text.splitlines():
        console.print(f"  {line}".rstrip(), style="cyan", markup=False, soft_wrap=True)


class _Raw(argparse.RawDescriptionHelpFormatter):
    """The module's docstring as it stands."""


if __name__ == "__main__":
    sys.exit(main())

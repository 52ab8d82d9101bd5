"""``celery pgjobs`` as people run it: real processes, a real database, one line per error."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pgjobs_celery.cli import main as cli
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import files as migration_files
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.db.migrations import versions
from pgjobs_celery.errors import InvalidOption
from tests.support.celery_process import run_celery

ROOT = Path(__file__).parents[2]
PASSWORD = "t0p-s3cret"

Result = subprocess.CompletedProcess
Celery = Callable[..., "Result[str]"]


def url_of(conninfo: str, **changes: str | int) -> str:
    """A ``pgjobs://`` URL for a connection string, with a password in it."""
    params = {"password": PASSWORD, **conninfo_to_dict(conninfo), **changes}
    user, password, host = (
        quote(str(params.get(name) or ""), safe="") for name in ("user", "password", "host")
    )
    return f"pgjobs://{user}:{password}@{host}:{params.get('port') or 5432}/{params['dbname']}"


@pytest.fixture
def db(bare_database: str) -> Iterator[psycopg.Connection]:
    with migrations.connect(bare_database) as connection:
        yield connection


@pytest.fixture
def url(bare_database: str) -> str:
    return url_of(bare_database)


@pytest.fixture
def celery(tmp_path: Path) -> Celery:
    """Run ``celery …`` in an empty folder; no output may hold a traceback or a password."""

    def run(*args: str) -> Result[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
        env = {**env, "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
        done = run_celery(*args, cwd=tmp_path, env=env)
        assert "Traceback" not in done.stdout + done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def app(tmp_path: Path) -> Callable[..., None]:
    """Write ``proj.py`` with an app that has these settings."""

    def write(**conf: object) -> None:
        (tmp_path / "proj.py").write_text(
            f"from celery import Celery\napp = Celery('proj')\napp.conf.update({conf!r})\n"
        )

    return write


def the_error(done: Result[str]) -> str:
    """The one line that a failed command printed."""
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


# -- migrate -------------------------------------------------------------------------------------


def test_migrate_prints_each_step_with_its_time_and_where_it_ended(celery, app, url, db):
    app(broker_url=url)
    done = celery("-A", "proj", "pgjobs", "migrate")
    assert (done.returncode, done.stderr) == (0, "")
    *steps, last = done.stdout.splitlines()
    files = migration_files.load_migrations()
    assert [line.split()[:2] for line in steps] == [["up", str(file)] for file in files]
    assert all(line.endswith(" s") for line in steps)
    assert last.endswith(f"is at version {files[-1].version}")
    versions.check_schema(db, "pgjobs")
    assert "nothing to do" in celery("-A", "proj", "pgjobs", "migrate").stdout


def test_migrate_works_without_an_app(celery, url, db):
    assert celery("-b", url, "pgjobs", "migrate").returncode == 0
    versions.check_schema(db, "pgjobs")
    assert celery("--result-backend", url, "pgjobs", "migrate", "--check").returncode == 0
    assert celery("pgjobs", "migrate", "--check", "--url", url).returncode == 0


def test_migrate_goes_down_to_a_version(celery, url, db):
    assert celery("-b", url, "pgjobs", "migrate").returncode == 0
    done = celery("-b", url, "pgjobs", "migrate", "--to", "0")
    assert done.returncode == 0
    assert "down 0001_create_jobs" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("is at version 0")
    assert not versions.status(db, "pgjobs").has_schema


def test_check_exits_with_1_until_the_schema_is_up_to_date(celery, url, db):
    behind = celery("-b", url, "pgjobs", "migrate", "--check")
    assert (behind.returncode, behind.stderr) == (1, "")
    assert "is at version 0, to be done:\n  up   0001_create_jobs\n" in behind.stdout
    assert behind.stdout.endswith("run `celery -A proj pgjobs migrate`\n")
    assert not versions.status(db, "pgjobs").has_schema
    migrations.migrate(db, "pgjobs")
    fine = celery("-b", url, "pgjobs", "migrate", "--check")
    assert (fine.returncode, fine.stderr) == (0, "")
    assert fine.stdout.endswith(": up to date\n")
    assert celery("-b", url, "pgjobs", "migrate", "--check", "--to", "0").returncode == 1


def test_check_notes_a_file_that_was_edited_since(celery, url, db):
    migrations.migrate(db, "pgjobs")
    db.execute("UPDATE pgjobs.migrations SET checksum = 'another' WHERE version = 1")
    done = celery("-b", url, "pgjobs", "migrate", "--check")
    assert done.returncode == 0
    assert "note: 0001_create_jobs.sql is not what was applied" in done.stdout


def test_a_newer_schema_passes_the_check_unless_it_is_breaking(celery, url, db):
    migrations.migrate(db, "pgjobs")
    newer = (
        "INSERT INTO pgjobs.migrations (version, name, checksum, breaking) VALUES (%s, 'x', '', %s)"
    )
    db.execute(newer, (9001, False))
    done = celery("-b", url, "pgjobs", "migrate", "--check")
    assert done.returncode == 0
    assert "version 9001, from a newer release, fit for this one" in done.stdout
    db.execute(newer, (9002, True))
    for args in ("migrate", "--check"), ("migrate",), ("migrate", "--sql"):
        assert "upgrade pgjobs-celery" in the_error(celery("-b", url, "pgjobs", *args))
    assert "not fit for this one" in celery("-b", url, "pgjobs", "status").stdout


@pytest.mark.skipif(not shutil.which("psql"), reason="needs psql")
def test_the_sql_run_by_psql_leaves_nothing_for_migrate_to_do(celery, url, db, bare_database):
    sql = celery("-b", url, "pgjobs", "migrate", "--sql")
    assert (sql.returncode, sql.stderr) == (0, "")
    assert not versions.status(db, "pgjobs").has_schema
    command = ["psql", "-X", "-q", "-d", bare_database]
    done = subprocess.run(command, input=sql.stdout, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    versions.check_schema(db, "pgjobs")
    assert "nothing to do" in celery("-b", url, "pgjobs", "migrate").stdout


def test_a_locked_migration_says_so_in_one_line(celery, url, db):
    db.execute("SELECT pg_advisory_lock(%s)", (migrations.lock_key("pgjobs"),))
    done = celery("-b", url, "pgjobs", "migrate", "--wait", "0.2")
    assert "another process has been migrating schema pgjobs" in the_error(done)


def test_check_and_sql_exclude_each_other(celery, url):
    done = celery("-b", url, "pgjobs", "migrate", "--check", "--sql")
    assert done.returncode == 2
    assert "cannot be used together" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(
    "words", [("jobs", "--json"), ("status", "--json"), ("status",), ("migrate", "--sql")]
)
def test_output_that_cannot_be_written_is_one_line(url, db, words):
    if "--sql" not in words:
        migrations.migrate(db, "pgjobs")
    with open("/dev/full", "w") as full:
        done = run_celery("-b", url, "pgjobs", *words, cwd=ROOT, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "Error: the output cannot be written: No space left on device\n"


# -- which database, which schema ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({"broker_url": "pgjobs://a/b", "result_backend": "pgjobs://c/d"}, "host=a"),
        ({"broker_url": "redis://a/0", "result_backend": "pgjobs+postgresql://c/d"}, "host=c"),
        ({"broker_url": "redis://a/0;pgjobs://b/d;pgjobs://c/d"}, "host=b"),
        ({"broker_url": ["redis://a/0", "pgjobs://b/d"]}, "host=b"),
        ({"broker_url": "pgjobs://a:5432,b:5432/d"}, "host=a,b"),
    ],
)
def test_the_url_is_the_brokers_or_else_the_backends(conf, expected):
    conninfo, _ = cli.find_database(app_with(**conf), None, None)
    assert expected in conninfo.split()


@pytest.mark.parametrize("name", ["broker_url", "result_backend"])
def test_of_several_urls_it_is_the_first_that_takes_writes(celery, app, url, db, server_url, name):
    reader = f"pgjobs_mig_{uuid.uuid4().hex}"
    db.execute(f"CREATE DATABASE {reader}")
    try:
        db.execute(f"ALTER DATABASE {reader} SET default_transaction_read_only = on")
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            dead = f"pgjobs://app:{PASSWORD}@127.0.0.1:{unused.getsockname()[1]}/app"
            app(**{name: f"{dead};{url_of(server_url, dbname=reader)};{url}"})
            assert celery("-A", "proj", "pgjobs", "migrate").returncode == 0
            versions.check_schema(db, "pgjobs")
            for words in ("status", "jobs", "limit celery 1"):
                assert celery("-A", "proj", "pgjobs", *words.split()).returncode == 0
            app(**{name: f"{dead};{dead}"})
            assert "is the server running" in the_error(celery("-A", "proj", "pgjobs", "status"))
    finally:
        db.execute(f"DROP DATABASE {reader}")


def test_the_url_option_goes_before_the_app(celery, app, url, db):
    app(broker_url="pgjobs://nowhere.invalid/nothing")
    assert celery("-A", "proj", "pgjobs", "migrate", "--url", url).returncode == 0
    versions.check_schema(db, "pgjobs")


@pytest.mark.parametrize(
    ("conf", "given", "expected"),
    [
        ({}, None, "pgjobs"),
        ({"result_backend_transport_options": {"schema": "c"}}, None, "c"),
        (
            {
                "broker_transport_options": {"schema": "b"},
                "result_backend_transport_options": {"schema": "c"},
            },
            None,
            "b",
        ),
        ({"broker_transport_options": {"schema": "b"}}, "a", "a"),
    ],
)
def test_the_schema_is_the_options_or_the_brokers_or_the_backends(conf, given, expected):
    _, options = cli.find_database(app_with(broker_url="pgjobs://a/b", **conf), None, given)
    assert options.schema == expected


def test_the_apps_schema_is_migrated(celery, app, url, db):
    app(result_backend=url, result_backend_transport_options={"schema": "app_jobs"})
    assert celery("-A", "proj", "pgjobs", "migrate").returncode == 0
    versions.check_schema(db, "app_jobs")
    assert not versions.status(db, "pgjobs").has_schema


def test_a_schema_name_that_needs_quoting_is_refused(celery, url):
    done = celery("-b", url, "pgjobs", "migrate", "--schema", 'My "Jobs"')
    assert "not a plain lower-case PostgreSQL name" in the_error(done)
    with pytest.raises(InvalidOption):
        cli.find_database(None, "pgjobs://a/b", "a-b")


def test_a_misspelt_option_is_a_warning_with_the_right_name(celery, app, url):
    app(broker_url=url, broker_transport_options={"shema": "app_jobs"})
    done = celery("-A", "proj", "pgjobs", "migrate")
    assert done.returncode == 0
    assert (
        "Warning: transport option 'shema' is not used here; did you mean 'schema'?" in done.stderr
    )


def app_with(**conf: object) -> object:
    from celery import Celery

    app = Celery("proj", set_as_current=False)
    app.conf.update(conf)
    return app


# -- what goes wrong -----------------------------------------------------------------------------


def test_without_a_pgjobs_url_the_settings_are_named(celery, app):
    app(broker_url=f"redis://:{PASSWORD}@localhost/0")
    for args in ("-A", "proj", "pgjobs", "migrate"), ("pgjobs", "status"):
        done = celery(*args)
        assert done.returncode == 2
        assert "set broker_url or result_backend to pgjobs://user@host:5432/database" in done.stderr


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        (f"mysql://app:{PASSWORD}@localhost/app", "is not a pgjobs URL"),
        (f"pgjobs://app:x/{PASSWORD}@localhost/app", "write /, @, : and # in a user name"),
        (f"pgjobs://app:{PASSWORD}@localhost/app?no_such_option=1", "is not a PostgreSQL URI"),
        (f"pgjobs://app:{PASSWORD}@[::1/app", "is not a PostgreSQL URI"),
    ],
)
def test_a_url_that_cannot_be_read_is_one_line(celery, url, complaint):
    assert complaint in the_error(celery("pgjobs", "migrate", "--url", url))


def test_a_server_that_is_down_is_one_line_with_host_and_user(celery):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        url = f"pgjobs://app:{PASSWORD}@127.0.0.1:{port}/app"
        message = the_error(celery("-b", url, "pgjobs", "migrate"))
    assert f"app@127.0.0.1:{port}/app" in message
    assert "is the server running" in message


def test_a_host_that_does_not_exist_is_one_line(celery):
    url = f"pgjobs://app:{PASSWORD}@nowhere.invalid/app"
    message = the_error(celery("-b", url, "pgjobs", "status"))
    assert "app@nowhere.invalid/app" in message
    assert "check the host name" in message


def test_a_missing_database_names_the_createdb_command(celery, server_url):
    url = url_of(server_url, dbname="pgjobs_mig_nowhere")
    message = the_error(celery("-b", url, "pgjobs", "migrate"))
    assert "pgjobs_mig_nowhere" in message
    words = message.partition("createdb ")[2].split()
    assert words[-1] == "pgjobs_mig_nowhere"
    assert "-U" in words
    assert str(conninfo_to_dict(parse_url(url))["user"]) in words


def test_a_wrong_password_is_one_line_without_the_password(celery):
    with refusing_server() as port:
        url = f"pgjobs://app:{PASSWORD}@127.0.0.1:{port}/app"
        message = the_error(celery("-b", url, "pgjobs", "migrate"))
    assert "password authentication failed" in message
    assert "check the user and the password in the URL" in message
    assert f"app@127.0.0.1:{port}/app" in message


def test_a_role_without_rights_is_told_what_to_grant(celery, bare_database, db):
    role = f"pgjobs_mig_{uuid.uuid4().hex[:12]}"
    db.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    try:
        url = url_of(bare_database, user=role, password=PASSWORD)
        done = celery("-b", url, "pgjobs", "migrate")
        assert f"CREATE SCHEMA pgjobs AUTHORIZATION {role}" in the_error(done)
        migrations.migrate(db, "pgjobs")
        done = celery("-b", url, "pgjobs", "status")
        assert f"GRANT USAGE ON SCHEMA pgjobs TO {role}" in the_error(done)
    finally:
        db.execute(f"DROP ROLE {role}")


class refusing_server:  # noqa: N801
    """A server that asks every client for its password and never likes it.

    The test server may trust everybody, so it cannot be asked to.
    """

    def __enter__(self) -> int:
        self.socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()
        port: int = self.socket.getsockname()[1]
        return port

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            with client:
                # SSLRequest and GSSENCRequest are 8 bytes long and answered with "no".
                while int.from_bytes((packet := client.recv(4096))[:4], "big") == 8:
                    client.sendall(b"N")
                if packet:
                    client.sendall(b"R\0\0\0\x08\0\0\0\x03")  # AuthenticationCleartextPassword
                    client.recv(4096)
                    fields = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user\0\0"
                    client.sendall(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)


# -- status --------------------------------------------------------------------------------------


@pytest.fixture
def jobs(db: psycopg.Connection) -> None:
    """Five jobs in two queues, the oldest ready one due for a minute."""
    migrations.migrate(db, "pgjobs")
    db.execute(
        """
        INSERT INTO pgjobs.jobs
          (task_id, task, queue, state, scheduled_at, due_at, finished_at)
        VALUES
          ('1', 'proj.add', 'celery', 'available', now() - interval '1 minute', NULL, NULL),
          ('2', 'proj.add', 'celery', 'available', now() - interval '1 second', NULL, NULL),
          ('3', 'proj.add', 'celery', 'completed', now() - interval '1 hour', NULL, now()),
          ('4', 'proj.add', '[bold]mail', 'scheduled', now() + interval '1 hour',
           now() + interval '1 hour', NULL),
          ('5', 'proj.add', '[bold]mail', 'cancelled', now(), NULL, now())
        """
    )


def test_status_as_json_counts_jobs_by_queue_and_state(celery, url, jobs):
    done = celery("-b", url, "pgjobs", "status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    data = json.loads(done.stdout)
    assert data["schema"] == "pgjobs"
    assert data["version"] == data["newest"] == migration_files.load_migrations()[-1].version
    assert data["pending"] == []
    mail, celery_queue = data["queues"]
    assert celery_queue["queue"] == "celery"
    assert celery_queue["jobs"] == {
        "scheduled": 0,
        "available": 2,
        "executing": 0,
        "retryable": 0,
        "completed": 1,
        "discarded": 0,
        "cancelled": 0,
    }
    assert 60 <= celery_queue["oldest_wait"] < 120
    assert data["oldest_wait"] == celery_queue["oldest_wait"]
    assert mail["queue"] == "[bold]mail"
    assert (mail["jobs"]["scheduled"], mail["jobs"]["cancelled"]) == (1, 1)
    assert mail["oldest_wait"] is None


def test_status_for_people_is_a_table(celery, url, jobs):
    done = celery("-b", url, "pgjobs", "status")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert lines[0] == [
        "queue",
        "scheduled",
        "available",
        "completed",
        "cancelled",
        "oldest",
        "wait",
    ]
    assert ["[bold]mail", "1", "0", "0", "1"] in lines
    [row] = [line for line in lines if line[0] == "celery"]
    assert row[:5] == ["celery", "0", "2", "1", "0"]
    assert row[5].startswith("0:01:")
    assert done.stdout.splitlines()[-1].endswith("up to date")


def test_status_of_an_empty_schema_has_no_table(celery, url, db):
    migrations.migrate(db, "pgjobs")
    done = celery("-b", url, "pgjobs", "status")
    assert done.stdout.splitlines()[0] == "No jobs."
    assert json.loads(celery("-b", url, "pgjobs", "status", "--json").stdout)["queues"] == []


def test_status_without_tables_says_what_to_run(celery, url):
    assert "run `celery -A proj pgjobs migrate`" in the_error(celery("-b", url, "pgjobs", "status"))


def test_an_apps_preload_options_do_not_disturb_the_commands(celery, tmp_path, url):
    (tmp_path / "proj.py").write_text(
        "import click\nfrom celery import Celery\n"
        f"app = Celery('proj', broker={url!r})\n"
        "app.user_options['preload'].add(click.Option(['--stage'], default='dev'))\n"
    )
    assert celery("-A", "proj", "pgjobs", "--stage", "x", "migrate").returncode == 0
    assert celery("-A", "proj", "pgjobs", "migrate", "--check").returncode == 0


# -- pause, resume, limit ------------------------------------------------------------------------


def test_queues_are_paused_resumed_and_limited(celery, url, jobs):
    def pgjobs(*args: str) -> str:
        done = celery("-b", url, "pgjobs", *args)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert pgjobs("pause", "celery", "new") == "celery is paused\nnew is paused\n"
    assert pgjobs("limit", "celery", "5") == "celery is limited to 5 at once\n"
    shown = json.loads(pgjobs("status", "--json"))["queues"]
    assert [(each["queue"], each["concurrency"]) for each in shown] == [
        ("[bold]mail", None),
        ("celery", 5),
        ("new", None),
    ]
    assert [each["paused_at"] is not None for each in shown] == [False, True, True]
    lines = [line.split() for line in pgjobs("status").splitlines() if line.strip()]
    assert lines[0][-5:] == ["oldest", "wait", "limit", "paused", "since"]
    [row] = [line for line in lines if line[0] == "celery"]
    assert row[6] == "5"
    assert len(row) == 9
    assert pgjobs("resume", "celery", "other") == "celery is resumed\nother was not paused\n"
    assert pgjobs("limit", "celery", "none") == "celery has no limit\n"
    assert "limit" not in pgjobs("status")


@pytest.mark.parametrize("number", ["-1", "many", "1.5", ""])
def test_what_is_no_limit_is_a_usage_error(celery, url, number):
    done = celery("-b", url, "pgjobs", "limit", "celery", "--", number)
    assert done.returncode == 2
    assert "neither a whole number from 0 nor none" in done.stderr


@pytest.mark.parametrize(("number", "complaint"), [("9999999999", "a whole number from 0")])
def test_a_limit_that_is_too_large_is_one_line(celery, url, db, number, complaint):
    migrations.migrate(db, "pgjobs")
    done = celery("-b", url, "pgjobs", "limit", "celery", number)
    assert complaint in the_error(done)


def test_a_queue_without_a_name_is_one_line(celery, url, db):
    migrations.migrate(db, "pgjobs")
    assert "cannot be called ''" in the_error(celery("-b", url, "pgjobs", "pause", ""))


def test_status_of_a_schema_that_knows_no_limits_yet(celery, url, db):
    migrations.migrate(db, "pgjobs", 1)
    done = celery("-b", url, "pgjobs", "status")
    assert done.stdout.splitlines()[0] == "No jobs."

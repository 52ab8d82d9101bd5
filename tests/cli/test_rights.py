"""Each command of ``celery pgjobs`` asks for the rights that it needs, and for no more."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from uuid import UUID

import pytest
from celery import Celery
from celery.bin.celery import celery
from click.testing import CliRunner, Result

from pgjobs_celery import flows, schedules
from pgjobs_celery.cli.database import RIGHTS
from pgjobs_celery.db import database as databases
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import PermissionMissing
from tests.support.rows import alive, put

from ..conftest import Connection, close_app
from ..support.shop import report
from .test_main import url_of

ROLE = "pgjobs_only_looks"

Run = Callable[..., Result]

READING = [
    ("status",), ("status", "--json"), ("jobs",), ("jobs", "--json", "--kwargs", '{"x": 1}'),
    ("jobs", "--stamps", '{"x": 1}'), ("show", "a"), ("explain", "a"),
    ("explain", "b", "--json"), ("metrics",), ("metrics", "--json"), ("workers",),
    ("workers", "--json"), ("top",), ("top", "--json"), ("schedules", "list"),
    ("ready", "--worker", "node1"),
    ("schedules", "show", "entry"), ("schedules", "check"),
    ("queues", "list"), ("queues", "explain", "celery"),
    ("flows", "list"), ("flows", "show", "rate/stripe"),
    ("audit",), ("audit", "--json", "--job", "a"), ("history",), ("history", "--by", "queue"),
]  # fmt: skip
WRITING = [
    ("cancel", "a"), ("retry", "b"), ("reschedule", "b", "--in", "5m"),
    ("prioritize", "b", "--to", "3"), ("move", "b", "--to", "mail"), ("delete", "b"),
    ("signal", "b", "approved"),
    ("pause", "mail"), ("resume", "mail"), ("limit", "celery", "2"), ("limit", "celery", "none"),
    ("pause", "--task", "a"), ("resume", "--task", "b"), ("queues", "pause", "mail"),
    ("queues", "resume", "mail"), ("queues", "rate", "mail", "5/m"),
    ("queues", "concurrency", "mail", "2", "--by", "args.0"), ("queues", "fair", "mail", "args.0"),
    ("queues", "unfair", "mail"), ("queues", "weight", "mail", "7", "2"),
    ("queues", "depth", "mail", "9"), ("queues", "reset", "mail"),
    ("flows", "set", "rate/stripe", "9/s"), ("flows", "reset", "rate/stripe"),
    ("schedules", "add", "new", "shop.report", "--every", "90"),
    ("schedules", "add", "new", "shop.report", "--every", "95", "--replace"),
    ("schedules", "pause", "entry"), ("schedules", "resume", "entry"),
    ("schedules", "repair", "entry"), ("schedules", "run", "entry"),
    ("schedules", "delete", "entry"),
]  # fmt: skip


@pytest.fixture
def role(connection: Connection) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    drop = f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}"
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
        connection.execute(drop)
    connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 't0p-s3cret'")
    yield ROLE
    connection.execute(drop)


@pytest.fixture
def run(url: str, role: str, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command as the role, which has no connection from before."""
    put(database, "a", body=b'[[1], {"x": 1}, {}]')
    put(database, "b", eta=60)
    alive(database, UUID(int=1))
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    apps: list[Celery] = []
    owner = Celery("shop", broker=url, backend=url, set_as_current=False)
    owner.task(report, name="shop.report")
    schedules(owner).put("entry", "shop.report", 86_400)
    flows(owner).set("rate/stripe", "5/s")
    close_app(owner)

    def run(*words: str) -> Result:
        theirs = url_of(parse_url(url), user=role)
        app = Celery("shop", broker=theirs, backend=theirs, set_as_current=False)
        app.task(report, name="shop.report")
        apps.append(app)
        module = ModuleType("cli_rights")
        module.app = app  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "cli_rights", module)
        try:
            done = CliRunner().invoke(celery, ["-A", "cli_rights", "pgjobs", *words])
        finally:
            close_app(app)
            forget(theirs)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    yield run
    for app in apps:
        close_app(app)


def forget(url: str) -> None:
    """Have this process know nothing of a database, as a new one does not."""
    for key in [key for key in databases._databases if key[0] == parse_url(url)]:
        databases._databases.pop(key).close()


def granted(done: Result) -> list[str]:
    """The statements that a command asks for."""
    assert done.exit_code == 1, done.output
    assert done.output.count("\n") == 1
    found = re.search("let its owner run: (GRANT .*;)$", done.output.strip())
    assert found, done.output
    return found[1].rstrip(";").split("; ")


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_who_may_select_may_look(run: Run, connection: Connection, words: tuple[str, ...]) -> None:
    connection.execute(f"GRANT USAGE ON SCHEMA pgjobs TO {ROLE}")
    connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA pgjobs TO {ROLE}")
    done = run(*words)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("words", READING + WRITING, ids=" ".join)
def test_what_a_command_asks_for_is_enough_and_no_more(
    run: Run, connection: Connection, words: tuple[str, ...]
) -> None:
    statements = granted(run(*words))
    if words[0] == "resume" or words[:2] == ("schedules", "resume"):
        connection.execute("INSERT INTO pgjobs.limits (queue, paused_at) VALUES ('mail', now())")
        connection.execute("UPDATE pgjobs.schedules SET paused_at = now()")
    if words[:2] == ("queues", "explain"):
        connection.execute("INSERT INTO pgjobs.limits (queue, max_depth) VALUES ('celery', 1)")
    if words[:2] == ("schedules", "repair"):
        connection.execute("UPDATE pgjobs.schedules SET next_run_at = 'infinity'")
    if words[:2] == ("limit", "celery"):
        connection.execute("UPDATE pgjobs.jobs SET state = 'available', due_at = NULL")
    for statement in statements:
        connection.execute(statement)
    done = run(*words)
    assert done.exit_code == 0, done.output
    if words in READING:
        assert not re.search("INSERT|UPDATE|DELETE|SEQUENCE", "; ".join(statements))
    grants = " ".join(statements).replace("GRANT SELECT ON pgjobs.migrations ", "")
    assert "migrations" not in grants


def test_each_command_with_rights_of_its_own_is_run_here() -> None:
    run = {words[0] for words in READING + WRITING} | {
        " ".join(words[:2]) for words in READING + WRITING
    }
    assert RIGHTS.keys() <= run


def test_a_worker_needs_all_of_it(url: str, role: str, connection: Connection) -> None:
    connection.execute(f"GRANT USAGE ON SCHEMA pgjobs TO {role}")
    connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA pgjobs TO {role}")
    app = Celery("shop", broker=url_of(parse_url(url), user=role), set_as_current=False)
    with pytest.raises(PermissionMissing, match="GRANT SELECT, INSERT, UPDATE, DELETE ON pgjobs"):
        app.send_task("shop.report")
    close_app(app)

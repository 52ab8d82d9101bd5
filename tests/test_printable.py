"""Whatever a row says, no command and no log shows what a terminal would obey."""

from __future__ import annotations

import importlib
import io
import json
import logging
import pkgutil
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from celery import Celery
from celery.bin.celery import celery
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import pgjobs_celery
from pgjobs_celery import printable
from pgjobs_celery.cli import main as cli
from pgjobs_celery.db.database import Database
from pgjobs_celery.job.rows import Bucket
from tests.db.test_matches import A
from tests.support.rows import alive, put

from .conftest import Connection
from .support.shop import report

#: The title of a terminal, a cleared screen, a line of its own, the other direction, C1, DEL.
EVIL = "x\x1b]0;PWNED\x07\x1b[2J\nFORGED line\r\u202eRTL\u200f\x9b31m\x7f\u2028y"
#: As a JSON text has it.
JSON = json.dumps(EVIL)


def assert_harmless(text: str, *, lines: str = "") -> None:
    """Nothing is in it but what a terminal shows, and no line that somebody else has made."""
    odd = {char for char in text if not (char.isprintable() or char in "\n\t")}
    assert not odd, [f"{ord(char):04x} {unicodedata.category(char)}" for char in odd]
    assert not any(line.startswith("FORGED") for line in text.splitlines())


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Zl", "Zp", "Co", "Cn"])))
def test_what_is_printable_is_one_line_of_the_same_length(text: str) -> None:
    shown = printable.printable(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert printable.one_line(text).isprintable()
    assert set(printable.printable_lines(text)) <= {*shown, "\n", "\t"}


def test_json_is_what_it_was() -> None:
    shown = printable.to_json({EVIL: [EVIL]})
    assert json.loads(shown) == {EVIL: [EVIL]}
    assert_harmless(shown)


# -- commands ------------------------------------------------------------------------------------


@pytest.fixture
def app(make_app: Callable[..., Celery], monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An app that ``celery -A cli_evil`` finds."""
    app = make_app("shop")
    app.task(report, name="shop.report")
    module = ModuleType("cli_evil")
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cli_evil", module)
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    return app


def columns_of(connection: Connection, table: str, *kinds: str) -> list[str]:
    rows = connection.execute(
        "SELECT attname AS name FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
        " AND format_type(atttypid, NULL) = ANY (%s::text[])",
        [f"pgjobs.{table}", list(kinds)],
    )
    return [row["name"] for row in rows]


@pytest.fixture
def evil_rows(app: Celery, database: Database, connection: Connection) -> None:
    """Rows of each table whose every text says it, and whose times are none that Python has."""
    put(
        database,
        "waiting",
        "running",
        "failed",
        body=json.dumps([[EVIL], {EVIL: EVIL}, {}]).encode(),
    )
    alive(database, A)
    database.claims.claim_jobs(A, EVIL, [Bucket("celery")], 2)
    for number, task_id in enumerate(("waiting", "running", "failed")):
        texts = {
            name: f"{number}{EVIL}"
            for name in columns_of(connection, "jobs", "text")
            if name not in ("state", "message", "children", "result_type")
        }
        sets = ", ".join(f"{name} = %({name})s" for name in texts)
        connection.execute(
            f"UPDATE pgjobs.jobs SET {sets}, tags = ARRAY[%(tag)s], meta = %(meta)s::jsonb,"
            " priority = priority | 256, errors = %(errors)s,"
            " result = %(result)s, result_type = 'application/json',"
            " children = %(json)s WHERE task_id = %(old)s",
            {
                **texts, "tag": EVIL, "meta": json.dumps({EVIL: EVIL}), "json": JSON,
                "old": task_id,
                "errors": json.dumps([{
                    "attempt": EVIL, "at": EVIL, "type": EVIL, "module": EVIL, "message": EVIL,
                    "traceback": f"Traceback\n  {EVIL}",
                }]),
                "result": JSON.encode(),
            },
        )  # fmt: skip
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'discarded', claimed_by = NULL,"
        " finished_at = 'infinity'"
        " WHERE task_id LIKE '1%'"
    )
    connection.execute("UPDATE pgjobs.jobs SET scheduled_at = '-infinity'")
    connection.execute(
        "INSERT INTO pgjobs.limits (queue, paused_at, concurrency) VALUES (%s, 'infinity', 3)",
        [EVIL],
    )
    connection.execute(
        "INSERT INTO pgjobs.schedules"
        " (app, name, task, args, kwargs, options, schedule, definition,"
        " next_run_at, last_run_at, last_task_id) VALUES"
        " ('shop', %(e)s, %(e)s, %(a)s, %(k)s, %(k)s, %(s)s, %(e)s, now(), '-infinity', %(i)s),"
        " ('shop', 'odd' || %(e)s, %(e)s, %(e)s, %(e)s, %(e)s, %(k)s::jsonb, %(e)s, 'infinity',"
        "  NULL, NULL)",
        {
            "e": EVIL, "a": json.dumps([EVIL]), "k": json.dumps({EVIL: EVIL}), "i": f"1{EVIL}",
            "s": json.dumps({"type": "other", "repr": EVIL, "class": EVIL}),
        },
    )  # fmt: skip
    connection.execute(
        "INSERT INTO pgjobs.migrations (version, name, checksum, breaking)"
        " VALUES (9999, %s, %s, false)",
        [EVIL, EVIL],
    )


@pytest.fixture
def evil_migration(connection: Connection) -> Iterator[None]:
    """The row of a newer release's migration, which is taken away again."""
    yield
    connection.execute("DELETE FROM pgjobs.migrations WHERE version = 9999")


QUEUES = [
    ["rate", EVIL, "5/m"], ["concurrency", EVIL, "3", "--by", f"kwargs.{EVIL}"],
    ["fair", EVIL, f"kwargs.{EVIL}"], ["weight", EVIL, EVIL, "3"], ["depth", EVIL, "9"],
    ["pause", EVIL, "--key", EVIL], ["pause", "--task", EVIL], ["pause", "--tag", EVIL],
    ["list"], ["list", "--json"], ["explain", EVIL], ["explain", EVIL, "--json"],
]  # fmt: skip
FLOWS = [
    ["set", f"rate/{EVIL}", "3/s"], ["set", f"rate/task/{EVIL}", EVIL], ["list"],
    ["list", "--json"], ["show", f"rate/{EVIL}"], ["show", f"rate/{EVIL}", "--json"],
    ["show", f"rate/{EVIL}2"], ["reset", f"rate/{EVIL}"],
]  # fmt: skip
QUEUES_AFTER = [
    ["unfair", EVIL], ["reset", EVIL], ["resume", EVIL, "--key", EVIL], ["resume", "--task", EVIL],
]  # fmt: skip


def commands() -> list[list[str]]:
    """Each command, with arguments that have it say something of every row."""
    first, failed = f"0{EVIL}", f"1{EVIL}"
    return [
        ["migrate", "--check"], ["migrate", "--sql"], ["migrate"],
        ["status"], ["status", "--json"],
        ["jobs"], ["jobs", "--json"], ["jobs", "--task", EVIL, "--tag", EVIL, "--queue", EVIL],
        ["show", first], ["show", failed], ["show", failed, "--json"], ["show", EVIL],
        ["explain", first], ["explain", failed], ["explain", first, "--json"], ["explain", EVIL],
        ["doctor"], ["doctor", "--json"], ["metrics"], ["metrics", "--json"], ["ready"],
        ["workers"], ["workers", "--json"], ["top", "--once"],
        ["pause", EVIL], ["limit", EVIL, "2"], ["limit", EVIL, "none"], ["resume", EVIL],
        *(["queues", *words] for words in QUEUES), *(["flows", *words] for words in FLOWS),
        *(["queues", *words] for words in QUEUES_AFTER),
        ["schedules", "list"], ["schedules", "list", "--json"], ["schedules", "check"],
        ["schedules", "check", "--json"], ["schedules", "show", EVIL],
        ["schedules", "show", EVIL, "--json"], ["schedules", "show", f"{EVIL}?"],
        ["schedules", "add", f"{EVIL}2", "shop.report", "--every", "90", "--replace"],
        ["schedules", "pause", EVIL], ["schedules", "resume", EVIL], ["schedules", "run", EVIL],
        ["schedules", "repair", EVIL], ["schedules", "repair", f"odd{EVIL}"],
        ["schedules", "delete", f"{EVIL}2"], ["schedules", "import-django-celery-beat"],
        ["signal", first, EVIL], ["signal", "x", EVIL, "--payload", EVIL],
        ["retry", failed, EVIL], ["cancel", first, "--reason", EVIL], ["cancel", first, "--json"],
        ["reschedule", failed, "--in", "1h"], ["prioritize", failed, "--to", "3"],
        ["move", failed, "--to", f"{EVIL}2"], ["delete", "--all", "--yes"], ["maintain", "--once"],
        ["audit"], ["audit", "--json"], ["audit", "--queue", EVIL, "--job", EVIL],
        ["failures"], ["failures", "--json"], ["failures", "--error", EVIL, "--task", EVIL],
        ["history"], ["history", "--json"], ["history", "--by", "queue"],
        ["web", "--address", EVIL],
    ]  # fmt: skip


def names(group: click.Group, *above: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from names(command, *above, name)
        else:
            yield (*above, name)


def test_no_command_shows_what_a_terminal_obeys(
    app: Celery, evil_rows: None, evil_migration: None
) -> None:
    run = {name for words in commands() for name in (tuple(words[:1]), tuple(words[:2]))}
    assert {*names(cli.pgjobs)} <= run
    printed = ""
    for words in commands():
        if words[0] == "maintain":
            continue  # its log is that of a worker, below
        done = CliRunner().invoke(celery, ["-A", "cli_evil", "pgjobs", *words])
        assert done.exception is None or isinstance(done.exception, SystemExit), (words, done)
        assert_harmless(done.output)
        printed += done.output
    assert printed.count("PWNED") > 100


def test_what_commands_print_goes_through_one_place() -> None:
    # A screen that is drawn anew is not a line that is printed: it is among the commands above.
    drawn = ("output", "top", "top_screen")
    modules = [path for path in Path(cli.__file__).parent.glob("*.py") if path.stem not in drawn]
    assert "jobs" in [path.stem for path in modules]
    for path in modules:
        source = path.read_text("utf-8")
        assert not re.search(r"\bclick\.echo\(|(from|import) rich\b|\bprint\(", source), path.stem


# -- logs ----------------------------------------------------------------------------------------


def loggers() -> Iterator[logging.Logger]:
    """Those of all our modules."""
    for module in pkgutil.walk_packages(pgjobs_celery.__path__, "pgjobs_celery."):
        if ".django" in module.name or ".testing" in module.name:
            continue
        logger = getattr(importlib.import_module(module.name), "logger", None)
        if isinstance(logger, logging.Logger):
            yield logger


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[logging.Logger, Callable[[], Any]], str]:
    """What a logger writes."""

    def logged(logger: logging.Logger, write: Callable[[], Any]) -> str:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        logger.addHandler(handler)
        try:
            write()
        finally:
            logger.removeHandler(handler)
        return stream.getvalue()

    return logged


def test_each_logger_of_ours_writes_one_line(logged: Any) -> None:
    found = list(loggers())
    assert len(found) > 15
    for logger in found:
        printed = logged(
            logger, lambda logger=logger: logger.error("of %s: %s", EVIL, ValueError(EVIL))
        )
        assert_harmless(printed)
        assert printed.count("\n") == 1, logger

        def fail(logger: logging.Logger = logger) -> None:
            try:
                raise ValueError(EVIL)
            except ValueError:
                logger.exception("it failed, and said %s", EVIL)

        printed = logged(logger, fail)
        assert_harmless(printed.replace("\nFORGED", "\n FORGED"))
        assert "Traceback" in printed


def test_what_can_be_printed_is_logged_as_it_is(logged: Any) -> None:
    (logger, *_) = loggers()
    records: list[logging.LogRecord] = []
    keep = logging.Handler()
    keep.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(keep)
    logger.error("of %s", "grüße, 你好")
    logger.removeHandler(keep)
    assert (records[0].msg, records[0].args) == ("of %s", ("grüße, 你好",))

"""Hold the reference against what it describes."""

from __future__ import annotations

import random
import re
from dataclasses import fields

import pytest

from pgjobs_celery import PgTask, Unique, embedded, errors, signals
from pgjobs_celery.beat.definition import OPTIONS
from pgjobs_celery.beat.entry import KEYS
from pgjobs_celery.beat.schedule import Schedule
from pgjobs_celery.beat.schedules import Schedules
from pgjobs_celery.cli.filters import FILTER_OPTIONS
from pgjobs_celery.cli.jobs import ACTIONS
from pgjobs_celery.cli.main import pgjobs
from pgjobs_celery.cli.schedules import schedules
from pgjobs_celery.config import Options, Settings
from pgjobs_celery.control.doctor.findings import CODES, KNOWN
from pgjobs_celery.control.explanation import KINDS
from pgjobs_celery.control.filters import FILTERS
from pgjobs_celery.control.jobs import ACTS_ON, Selection
from pgjobs_celery.control.metrics import METRICS
from pgjobs_celery.control.workers import Worker
from pgjobs_celery.db import failures
from pgjobs_celery.db.migrations.files import load_migrations
from pgjobs_celery.db.rows.metrics import DEPTH
from pgjobs_celery.job import exceptions as ending
from pgjobs_celery.job.backoff import oban_backoff
from pgjobs_celery.job.options import NAMES
from pgjobs_celery.job.options import OPTIONS as TASK_OPTIONS
from pgjobs_celery.job.states import TO_CELERY, State
from pgjobs_celery.job.unique import GROUPS
from pgjobs_celery.maintenance.fold import EXCEPTIONS, LONGEST, Fold
from pgjobs_celery.tasks.attempts import AttemptedTask
from pgjobs_celery.tasks.limited import LimitedTask
from pgjobs_celery.tasks.result import PgResult
from pgjobs_celery.tasks.running_job import Meta
from pgjobs_celery.tasks.stepping import SteppedTask

from ..conftest import Connection
from .documents import ROOT, read_tables

REFERENCE = ROOT / "docs" / "reference"

#: Views and tables with their columns; a partition looks like its parent.
COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type
FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
WHERE c.relnamespace = 'pgjobs'::regnamespace AND c.relkind IN ('r', 'p', 'v')
  AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.relname, a.attnum
"""

CHECKS = """
SELECT conname AS name FROM pg_constraint
WHERE connamespace = 'pgjobs'::regnamespace AND contype = 'c'
"""

INDEXES = (
    "SELECT indexname AS name FROM pg_indexes WHERE schemaname = 'pgjobs' AND tablename = 'jobs'"
)


def rows(file: str, heading: str) -> list[list[str]]:
    """The rows of all tables below a heading; cells that are one name without their backticks."""
    found = [
        row for title, table in read_tables(REFERENCE / file) if title == heading for row in table
    ]
    assert found, f"{file} has no table below {heading!r}"
    return [[cell.strip("`") for cell in row] for row in found]


def test_every_transport_option_is_described_with_its_default():
    shown = {row[0]: row[1] for row in rows("settings.md", "Transport options")}
    assert shown == {field.name: shown_default(field.default) for field in fields(Options)}


def test_every_setting_is_described_with_its_default():
    shown = {row[0]: row[1] for row in rows("settings.md", "`pgjobs_*` settings")}
    assert shown == {
        f"pgjobs_{field.name}": shown_default(field.default) for field in fields(Settings)
    }


def test_all_that_a_worker_has_is_described():
    shown = [name for row in rows("jobs.md", "Workers") for name in re.findall(r"\w+", row[0])]
    fields_ = {field.name for field in fields(Worker)}
    described = {name for name, value in vars(Worker).items() if isinstance(value, property)}
    assert {"a", "Worker", "has"} | fields_ | described >= set(shown) >= fields_ | described


def test_every_metric_is_described_with_its_labels():
    headings = (
        "Tasks", "Queues", "Steps, sleeps and signals", "Rates, limits by key and pauses",
        "Workers and schedules", "Database",
    )  # fmt: skip
    shown = {
        row[0]: (row[1], tuple(re.findall(r"\w+", row[2])))
        for heading in headings
        for row in rows("metrics.md", heading)
    }
    assert shown == {name: metric[:2] for name, metric in METRICS.items()}
    text = (REFERENCE / "metrics.md").read_text()
    for number in (f"{DEPTH:,} jobs", f"{EXCEPTIONS} exceptions", f"{LONGEST / 60:g} minutes"):
        assert number in text
    assert f"Every {Fold.interval:g} seconds" in text


def test_every_error_is_described_with_what_to_do():
    there = {errors.PgJobsError.__name__}
    classes: list[type] = [errors.PgJobsError]
    while classes:
        for each in classes.pop().__subclasses__():
            if each.__module__ in (errors.__name__, embedded.__name__, failures.__name__):
                there.add(each.__name__)
                classes.append(each)
    table = next(table for _, table in read_tables(REFERENCE / "errors.md"))
    assert {row[0].strip("`") for row in table} == there
    for name, _, when, remedy in table:
        assert when, name
        assert remedy or "root of" in when, name


def test_every_column_is_described(connection: Connection):
    there: dict[str, list[list[str]]] = {}
    for row in connection.execute(COLUMNS):
        there.setdefault(row["relname"], []).append([row["attname"], row["type"]])
    shown = {
        title: [[cell.strip("`") for cell in row[:2]] for row in table]
        for title, table in reversed(list(read_tables(REFERENCE / "schema.md")))
        if title not in ("States", "Transitions")
    }
    assert shown == there


def test_every_state_is_described():
    shown = {row[0]: row[2].split(",")[0] for row in rows("schema.md", "States")}
    assert shown == {state.value: TO_CELERY[state] for state in State}


def test_every_check_and_index_of_jobs_is_described(connection: Connection):
    text = (REFERENCE / "schema.md").read_text()
    named = set(re.findall(r"`(\w+)`", text))
    there = {row["name"] for query in (CHECKS, INDEXES) for row in connection.execute(query)}
    assert there <= named
    assert {name for name in named if re.match(r"(jobs|exchanges)_", name)} <= there


def test_every_filter_is_described_with_its_option():
    shown = {row[0]: row[3] for row in rows("jobs.md", "Filters")}
    options = {param.name: param.opts[0] for param in pgjobs.commands["jobs"].params}
    assert shown == {name: options[name] for name in FILTERS}
    assert FILTER_OPTIONS.keys() == FILTERS.keys()


def test_every_action_is_described_with_the_states_it_applies_to():
    table = rows("jobs.md", "Actions")
    shown = {row[0].partition("(")[0]: row[1].split(", ") for row in table}
    assert shown == {name: sorted(states) for name, states in ACTS_ON.items()}
    assert {row[0].partition("(")[0]: row[3] for row in table} == {
        method: command.name for method, command in ACTIONS.items()
    }


def test_everything_that_a_selection_offers_is_described():
    shown = {
        row[0].partition("(")[0]
        for title in ("Looking", "Actions")
        for row in rows("jobs.md", title)
    }
    there = {name for name in dir(Selection) if not name.startswith("_")} | {
        "database",
        "iteration",
    }
    assert shown == there


def test_every_kind_of_explanation_is_described():
    assert {row[0]: row[1] for row in rows("jobs.md", "Explanations")} == KINDS
    advice = (ROOT / "docs" / "how-to" / "explain-jobs.md").read_text()
    assert [kind for kind in KINDS if f"`{kind}`" not in advice] == []


def test_every_finding_of_the_doctor_is_described():
    shown = {
        row[0].strip("`"): tuple(row[1:3])
        for _, table in read_tables(REFERENCE / "doctor.md")
        for row in table
    }
    assert shown == {code: (known[0].value, known[1]) for code, known in KNOWN.items()}
    for _, table in read_tables(REFERENCE / "doctor.md"):
        for row in table:
            assert all(row), row
    headings = [title for title, _ in read_tables(REFERENCE / "doctor.md")]
    assert [title.split()[0].lower() for title in headings] == list(CODES)


def test_every_command_and_each_of_its_options_is_described():
    text = (REFERENCE / "cli.md").read_text()
    commands = {f"schedules {name}": command for name, command in schedules.commands.items()}
    for name, command in {**pgjobs.commands, **commands}.items():
        assert re.search(f"`{name}[ `]", text), name
        for param in command.params:
            if param.name not in FILTERS and param.opts[0].startswith("--"):
                assert f"`{param.opts[0]}" in text, f"{name} {param.opts[0]}"


def test_every_key_of_an_entry_is_described():
    assert [row[0] for row in rows("schedules.md", "Entries")] == list(KEYS)


def test_every_option_of_an_entry_is_described():
    text = (REFERENCE / "schedules.md").read_text()
    listed = re.search(r"### Options\n\n(.*)", text)
    assert listed
    assert re.findall(r"`(\w+)`", listed[1]) == sorted(OPTIONS)


def test_everything_that_schedules_offer_is_described():
    shown = [name for row in rows("schedules.md", "At run time") for name in row[0].split("`, `")]
    names = {name.partition("(")[0] for name in shown}
    there = {name for name in dir(Schedules) if not name.startswith("_")}
    there |= {field.name for field in fields(Schedule)}
    assert names == there | {"app", "database", "iteration", "is_paused"}


def test_every_option_of_a_task_is_described_with_its_default():
    shown = {row[0]: row[1] for row in rows("pgtask.md", "Options")}
    # What is called ``meta`` on the class is that of the running job.
    there = {"meta": PgTask._default_meta}
    for each in (AttemptedTask, LimitedTask, PgTask):
        there |= {name: value for name, value in vars(each).items() if is_option(name, value)}
    assert shown == {name: shown_default(value) for name, value in there.items()}
    for name, _, places, *_ in rows("pgtask.md", "Options"):
        assert ("call" in places) is (name in TASK_OPTIONS), name


def is_option(name: str, value: object) -> bool:
    return not (
        name.startswith("_") or callable(value) or isinstance(value, property | classmethod)
    )


def test_everything_that_a_task_offers_is_described():
    cells = [
        row[0]
        for title in ("Options", "While it runs", "Publish", "Meta")
        for row in rows("pgtask.md", title)
    ]
    others = re.search(r"^Called by .*: (.*)$", (REFERENCE / "pgtask.md").read_text(), re.MULTILINE)
    assert others
    shown = {name for cell in cells for name in re.findall(r"(\w+)(?:\(|$|`)", cell)}
    shown |= set(re.findall(r"`(\w+)`", others[1]))
    for each in (AttemptedTask, LimitedTask, SteppedTask, PgTask, PgResult, Meta):
        assert {name for name in vars(each) if not name.startswith("_")} <= shown


def test_every_field_of_unique_is_described_with_its_default():
    shown = {row[0]: row[1] for row in rows("pgtask.md", "Unique") if len(row) == 4}
    assert shown == {field.name: shown_default(field.default) for field in fields(Unique)}
    groups = {row[0]: row[1] for row in rows("pgtask.md", "Unique") if len(row) == 2}
    assert {name: re.findall(r"\w+", states) for name, states in groups.items()} == {
        name: [state.value for state in states] for name, states in GROUPS.items()
    }


def test_every_end_of_an_attempt_is_described():
    shown = {row[0].partition("(")[0]: row[1] for row in rows("pgtask.md", "How an attempt ends")}
    assert shown.keys() == {each.__name__ for each in ending.TaskEnd.__subclasses__()}


def test_every_key_of_the_header_is_described():
    shown = [row[0] for row in rows("pgtask.md", "The message header")]
    assert shown == [*NAMES, "gates", *Unique(max_wait=1).to_header(b"")]


def test_every_signal_is_described_with_what_it_gives():
    shown = {row[0]: set(re.findall(r"\w+", row[3])) for row in rows("signals.md", "Signals")}
    assert shown.keys() == set(signals.__all__)
    for name, words in shown.items():
        assert getattr(signals, name).providing_args <= words, name


def test_the_waits_between_attempts_are_what_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(random, "random", lambda: 0.0)
    path = ROOT / "docs" / "how-to" / "retry-jobs.md"
    table = next(table for title, table in read_tables(path) if title == "How long it waits")
    assert [(int(row[0]), int(row[1])) for row in table] == [
        (attempt, oban_backoff(attempt, PgTask.max_attempts))
        for attempt in range(1, PgTask.max_attempts)
    ]


def shown_default(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value).replace("'", '"')


def test_where_documents_show_the_version_it_is_the_newest():
    files = load_migrations()
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*/README.md"),
    ):
        if path.name == "CHANGELOG.md":
            continue
        text = path.read_text()
        shown = {*re.findall(r"^schema \w+ at \S+ is at version (\d+)", text, re.MULTILINE)}
        shown |= {*re.findall(r'"(?:version|newest)": (\d+),', text)}
        assert shown <= {str(files[-1].version)}, path
        for steps in re.findall(r"(?:^up   \d{4}_\w+  .*\n)+", text, re.MULTILINE):
            assert re.findall(r"\d{4}_\w+", steps) == [str(file) for file in files], path

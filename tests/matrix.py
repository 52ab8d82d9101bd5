"""Run the whole suite on each Python, PostgreSQL and Celery that this machine has.

    make matrix                                 # a few pairs, so that each value is tried once
    make matrix ARGS="--all"                    # every combination: hours
    make matrix ARGS="--python 3.12 --celery 5.6 --server 17"
    make matrix ARGS="--write"                  # put the results into the compatibility page

Tests that failed run once more, one at a time, and count as failed if they fail again: a machine
that was busy for a moment is not a fault. The table says how many passed at the second try. Each
Python gets a virtual environment in ``.matrix`` for each release of Celery. A server is named by
the folder of its programs (Debian's ``/usr/lib/postgresql/*/bin``) or is the embedded one.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import click

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "compatibility.md"
ENVIRONMENTS = ROOT / ".matrix"

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
CELERYS = ("5.5", "5.6", "5.7")
#: kombu of the same age as each Celery.
KOMBUS = {"5.5": "5.5", "5.6": "5.6", "5.7": "5.7"}
EMBEDDED = "18"

BEGIN, END = "<!-- matrix: written by make matrix ARGS=--write -->", "<!-- matrix ends -->"


class Cell(NamedTuple):
    """One combination to run."""

    python: str
    celery: str
    server: str


class Outcome(NamedTuple):
    """What the suite said on one combination."""

    cell: Cell
    versions: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    failures: list[str]
    #: How many of the passed failed beside others, and passed alone.
    alone: int


def find_pythons() -> dict[str, str]:
    """The interpreters on this machine, by version, each able to make environments."""
    found: dict[str, str] = {}
    candidates = [f"python{version}" for version in PYTHONS]
    candidates += sorted(map(str, Path.home().glob(".pyenv/versions/3.*/bin/python3")))
    for candidate in candidates:
        program = shutil.which(candidate)
        if program is None:
            continue
        asked = subprocess.run(
            [program, "-c", "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        version = asked.stdout.strip()
        if asked.returncode == 0 and version in PYTHONS:
            found.setdefault(version, program)
    return dict(sorted(found.items(), key=lambda item: PYTHONS.index(item[0])))


def find_servers() -> dict[str, str]:
    """The PostgreSQL releases on this machine, by the folder of their programs; "" is embedded."""
    found = {
        path.parent.parent.name: str(path.parent)
        for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")
    }
    return {**dict(sorted(found.items())), EMBEDDED: ""}


def choose_cells(pythons: list[str], celerys: list[str], servers: list[str]) -> Iterator[Cell]:
    """As few combinations as try each value once; the newest of all are among them."""
    most = max(len(pythons), len(celerys), len(servers))
    for index in range(1, most + 1):
        yield Cell(
            pythons[-index % len(pythons)],
            celerys[-index % len(celerys)],
            servers[-index % len(servers)],
        )


def make_environment(program: str, cell: Cell) -> Path:
    """The Python of a virtual environment with this Celery and all that the tests need."""
    folder = ENVIRONMENTS / f"python{cell.python}-celery{cell.celery}"
    python = folder / "bin" / "python"
    stamp = folder / "installed"
    if not stamp.exists() or stamp.stat().st_mtime < (ROOT / "pyproject.toml").stat().st_mtime:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([program, "-m", "venv", str(folder)], check=True)
        wanted = [f"celery=={cell.celery}.*", f"kombu=={KOMBUS[cell.celery]}.*"]
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--editable", f"{ROOT}[test]", *wanted], check=True)
        stamp.touch()
    return python


def run_suite(python: Path, cell: Cell, programs: str, arguments: tuple[str, ...]) -> Outcome:
    """Run the tests and read what became of each."""
    begun = time.monotonic()
    beside = ("-n", "logical", "--dist", "loadfile", "--no-loadscope-reorder")
    cases = run_pytest(python, programs, (*beside, *arguments))
    failures, alone = find_failures(cases), 0
    if failures:
        once_more = ("--last-failed", "--last-failed-no-failures", "none", "-n", "0")
        again = find_failures(run_pytest(python, programs, (*once_more, *arguments)))
        failures, alone = again, len(failures) - len(again)
    skipped = sum(case.find("skipped") is not None for case in cases)
    shown = subprocess.run(
        [str(python), "-c", "import celery, kombu; print(celery.__version__, kombu.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return Outcome(
        cell,
        shown.stdout.strip(),
        len(cases) - len(failures) - skipped,
        len(failures),
        skipped,
        time.monotonic() - begun,
        failures,
        alone,
    )


def run_pytest(python: Path, programs: str, arguments: tuple[str, ...]) -> list[ET.Element]:
    """The tests of one run, as its report has them."""
    report = ENVIRONMENTS / "report.xml"
    report.unlink(missing_ok=True)
    environment = {**os.environ, "PGJOBS_TEST_PROGRAMS": programs}
    command = [str(python), "-m", "pytest", "-q", f"--junit-xml={report}", *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, check=False)
    suite = ET.parse(report).getroot().find("testsuite")
    if suite is None:
        raise click.ClickException("pytest wrote no report")
    return list(suite.iter("testcase"))


def find_failures(cases: list[ET.Element]) -> list[str]:
    """The names of the tests that failed."""
    return [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]


def to_table(outcomes: list[Outcome]) -> str:
    """The results as Markdown."""
    lines = [
        f"{date.today().isoformat()}, {os.cpu_count()} processors:",
        "",
        "| Python | Celery, kombu | PostgreSQL | passed | of these at the second try, alone "
        "| failed | skipped | seconds |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for each in outcomes:
        celery, kombu = each.versions.split()
        server = each.cell.server + (" (embedded)" if each.cell.server == EMBEDDED else "")
        lines.append(
            f"| {each.cell.python} | {celery}, {kombu} | {server} | {each.passed} | {each.alone} "
            f"| {each.failed} | {each.skipped} | {each.seconds:.0f} |"
        )
    for each in outcomes:
        for failure in each.failures:
            lines += ["", f"Failed on Python {each.cell.python}: `{failure}`."]
    return "\n".join(lines)


def write_page(table: str) -> None:
    """Put the table between the page's two marks."""
    replace_between(BEGIN, table, END)


def replace_between(begin: str, text: str, end: str) -> None:
    """Put the text between two marks of the compatibility page."""
    page = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise click.ClickException(f"{PAGE.name} has no place for the table: {begin}")
    written = pattern.sub(lambda _: f"{begin}\n\n{text}\n\n{end}", page)
    PAGE.write_text(written, encoding="utf-8")


@click.command()
@click.option("--python", "pythons", multiple=True, help="Versions, as 3.12.  [default: all found]")
@click.option("--celery", "celerys", multiple=True, help="Releases.  [default: 5.5, 5.6, 5.7]")
@click.option("--server", "servers", multiple=True, help="PostgreSQL.  [default: all found]")
@click.option("--all", "is_all", is_flag=True, help="Every combination.")
@click.option("--write", is_flag=True, help=f"Write the results into docs/explanation/{PAGE.name}.")
@click.argument("arguments", nargs=-1)
def main(
    pythons: tuple[str, ...],
    celerys: tuple[str, ...],
    servers: tuple[str, ...],
    is_all: bool,
    write: bool,
    arguments: tuple[str, ...],
) -> None:
    """Run the suite on each combination; ARGUMENTS after -- go to pytest."""
    programs, folders = find_pythons(), find_servers()
    axes = (
        _chosen("Python", pythons, list(programs)),
        _chosen("Celery", celerys, list(CELERYS)),
        _chosen("PostgreSQL", servers, list(folders)),
    )
    cells = list(map(Cell._make, itertools.product(*axes)) if is_all else choose_cells(*axes))
    outcomes = []
    for number, cell in enumerate(cells, start=1):
        click.echo(
            f"==> {number} of {len(cells)}: Python {cell.python}, Celery {cell.celery}, "
            f"PostgreSQL {cell.server}",
            err=True,
        )
        python = make_environment(programs[cell.python], cell)
        outcomes.append(run_suite(python, cell, folders[cell.server], arguments))
        click.echo(to_table(outcomes))
        if write:
            write_page(to_table(outcomes))
    sys.exit(any(each.failed for each in outcomes))


def _chosen(axis: str, asked: tuple[str, ...], found: list[str]) -> list[str]:
    for value in asked:
        if value not in found:
            raise click.UsageError(f"{axis} {value} is not here; found: {', '.join(found)}")
    return [value for value in found if value in asked] if asked else found


if __name__ == "__main__":
    main()

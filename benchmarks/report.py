"""Medians and ratios as tables: on the terminal, in Markdown, and everything as JSON."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.measures import Measure, Metric
from benchmarks.runner import Results
from benchmarks.systems import SYSTEMS

#: The system that the others are held against.
SUBJECT = "pgjobs"

#: With more systems than these, each has a row of its own.
MANY = 5

#: Ratios nearer to 1 than this are noise and printed without colour.
NOISE = 0.10


@dataclass
class Report:
    """What a session found, ready to print."""

    machine: dict[str, str]
    servers: dict[str, str]
    skipped: dict[str, str]
    rounds: int
    measures: list[Measure]
    results: Results

    def columns(self, measure: Measure) -> list[str]:
        """The systems of a measure that were there, in the order of SYSTEMS."""
        return [name for name in SYSTEMS if name in measure.systems and name in self.servers]

    def grid(self, measure: Measure, paint: Callable[[str, float, Metric], str]) -> list[list[str]]:
        """The table with its heads: a row for each metric, or for each system if they are many."""
        columns = self.columns(measure)
        grid = [["", *columns]]
        for metric in measure.metrics:
            row = [label(metric)]
            for system in columns:
                ratio = self.ratio(measure, metric, system)
                text = "" if ratio is None else paint(f"{ratio:.2f}x", ratio, metric)
                row.append(f"{self.cell(measure, metric, system)} {text}".strip())
            grid.append(row)
        return [list(row) for row in zip(*grid, strict=True)] if len(columns) > MANY else grid

    def cell(self, measure: Measure, metric: Metric, system: str) -> str:
        """The median, with the range of the rounds where there are several."""
        values = self.results.values(measure.title, metric.key, system)
        if not values:
            failures = self.results.failures_of(measure.title, system)
            if not failures:
                return "-"
            is_slow = all(failure.is_unfinished for failure in failures)
            return "did not finish" if is_slow else "failed"
        median = self.results.median(measure.title, metric.key, system)
        text, low, high = (
            f"{value:,.{metric.digits}f}" for value in (median, min(values), max(values))
        )
        if low != high:
            text += f" ({low} to {high})"
        return text

    def ratio(self, measure: Measure, metric: Metric, peer: str) -> float | None:
        """The subject's median divided by the peer's; None for the subject itself."""
        ours = self.results.median(measure.title, metric.key, SUBJECT)
        theirs = self.results.median(measure.title, metric.key, peer)
        if peer == SUBJECT or ours is None or not theirs:
            return None
        return ours / theirs

    def notes(self, measure: Measure) -> list[str]:
        """One line per run of this measure that gave no numbers, or numbers of a noisy machine."""
        rounds = f"of {self.rounds}"
        failed = [
            f"{failure.system}, round {failure.round} {rounds}: "
            + ("" if failure.is_unfinished else "FAILED, ")
            + failure.reason
            for failure in self.results.failures
            if failure.measure == measure.title
        ]
        noisy = [
            f"{each.system}, round {each.round} {rounds}, quietest of {each.tries}: {each.reason}"
            for each in self.results.disturbances
            if each.measure == measure.title
        ]
        return failed + noisy

    def legend(self) -> list[str]:
        """The systems, their servers' versions, and why some are missing."""
        there = [
            f"{name}: {SYSTEMS[name].description}; {self.servers[name]}" for name in self.servers
        ]
        missing = [f"{name}: skipped, {reason}" for name, reason in self.skipped.items()]
        return there + missing

    def summary(self) -> str:
        return (
            f"Medians of {self.rounds} interleaved round(s), lowest and highest in parentheses."
            f" Behind a number: {SUBJECT}'s median divided by it;"
            f" differences below {NOISE:.0%} are noise."
        )


def label(metric: Metric) -> str:
    """The metric with an arrow towards the better side."""
    return f"{metric.label} {'↑' if metric.better == 'more' else '↓'}"


def print_report(report: Report, console: Console) -> None:
    """Write the tables to the terminal."""
    for measure in report.measures:
        head, *rows = report.grid(measure, coloured)
        table = Table(title=measure.title, title_justify="left", title_style="bold")
        table.add_column(head[0])
        for name in head[1:]:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        for note in report.notes(measure):
            console.print(f"  {note}", highlight=False)
        console.print()
    console.print(report.summary(), highlight=False)
    for line in [f"{key}: {value}" for key, value in report.machine.items()] + report.legend():
        console.print(line, highlight=False, markup=False)


def coloured(text: str, ratio: float, metric: Metric) -> str:
    """The ratio in green or red, or plain within the noise."""
    if abs(ratio - 1) < NOISE:
        return text
    is_better = (ratio > 1) == (metric.better == "more")
    return f"[{'green' if is_better else 'red'}]{text}[/]"


def plain(text: str, _ratio: float, _metric: Metric) -> str:
    return text


def to_markdown(report: Report) -> str:
    """The same tables for a document."""
    lines = [report.summary(), ""]
    lines += [f"- {key}: {value}" for key, value in report.machine.items()]
    lines += [f"- {line}" for line in report.legend()]
    for measure in report.measures:
        head, *rows = report.grid(measure, plain)
        lines += ["", f"### {measure.title}", "", markdown_row(head)]
        lines.append(markdown_row(["---", *("---:" for _ in head[1:])]))
        lines += [markdown_row(row) for row in rows]
        lines += [line for note in report.notes(measure) for line in ("", f"*{note}*")]
    return "\n".join(lines) + "\n"


def markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def to_json(report: Report) -> str:
    """Every reading of every round, for those who want to compute something else."""
    return json.dumps(
        {
            "machine": report.machine,
            "servers": report.servers,
            "skipped": report.skipped,
            "rounds": report.rounds,
            "readings": report.results.readings,
            "failures": [asdict(failure) for failure in report.results.failures],
            "disturbances": [asdict(each) for each in report.results.disturbances],
        },
        indent=2,
    )

"""Medians and ratios as tables: on the terminal, in Markdown, and everything as JSON."""

import json
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.measures import Measure, Metric
from benchmarks.runner import Results
from benchmarks.systems import SYSTEMS

#: The system whose ratios are printed, and what it is held against.
SUBJECT, PEERS = "pgjobs", ("redis", "rabbitmq")

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

    def ratios(self, measure: Measure) -> list[str]:
        """The peers that the subject is held against in this measure's table."""
        columns = self.columns(measure)
        return [peer for peer in PEERS if peer in columns] if SUBJECT in columns else []

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
        """The subject's median divided by the peer's."""
        ours = self.results.median(measure.title, metric.key, SUBJECT)
        theirs = self.results.median(measure.title, metric.key, peer)
        return ours / theirs if ours is not None and theirs else None

    def notes(self, measure: Measure) -> list[str]:
        """One line per run of this measure that gave no numbers."""
        return [
            f"{failure.system}, round {failure.round} of {self.rounds}: "
            + ("" if failure.is_unfinished else "FAILED, ")
            + failure.reason
            for failure in self.results.failures
            if failure.measure == measure.title
        ]

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
            f" A ratio is {SUBJECT}'s median divided by the other's;"
            f" differences below {NOISE:.0%} are noise."
        )


def label(metric: Metric) -> str:
    """The metric with an arrow towards the better side."""
    return f"{metric.label} {'↑' if metric.better == 'more' else '↓'}"


def print_report(report: Report, console: Console) -> None:
    """Write the tables to the terminal."""
    for measure in report.measures:
        table = Table(title=measure.title, title_justify="left", title_style="bold")
        table.add_column("")
        for name in report.columns(measure):
            table.add_column(name, justify="right")
        for peer in report.ratios(measure):
            table.add_column(f"vs {peer}", justify="right")
        for metric in measure.metrics:
            cells = [report.cell(measure, metric, name) for name in report.columns(measure)]
            ratios = (report.ratio(measure, metric, peer) for peer in report.ratios(measure))
            table.add_row(label(metric), *cells, *(coloured(value, metric) for value in ratios))
        console.print(table)
        for note in report.notes(measure):
            console.print(f"  {note}", highlight=False)
        console.print()
    console.print(report.summary(), highlight=False)
    for line in [f"{key}: {value}" for key, value in report.machine.items()] + report.legend():
        console.print(line, highlight=False, markup=False)


def coloured(ratio: float | None, metric: Metric) -> str:
    """The ratio in green or red, or plain within the noise."""
    text = quotient(ratio)
    if ratio is None or abs(ratio - 1) < NOISE:
        return text
    is_better = (ratio > 1) == (metric.better == "more")
    return f"[{'green' if is_better else 'red'}]{text}[/]"


def quotient(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def to_markdown(report: Report) -> str:
    """The same tables for a README."""
    lines = [report.summary(), ""]
    lines += [f"- {key}: {value}" for key, value in report.machine.items()]
    lines += [f"- {line}" for line in report.legend()]
    for measure in report.measures:
        columns, peers = report.columns(measure), report.ratios(measure)
        lines += ["", f"### {measure.title}", ""]
        lines.append(markdown_row(["", *columns, *(f"vs {peer}" for peer in peers)]))
        lines.append(markdown_row(["---", *("---:" for _ in columns + peers)]))
        for metric in measure.metrics:
            cells = [report.cell(measure, metric, name) for name in columns]
            ratios = [quotient(report.ratio(measure, metric, peer)) for peer in peers]
            lines.append(markdown_row([label(metric), *cells, *ratios]))
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
        },
        indent=2,
    )

"""``python -m benchmarks``: measure, print, and write the numbers down."""

import contextlib
import dataclasses
import json
import signal
import sys
from pathlib import Path

import click
from rich.console import Console

from benchmarks.errors import Unavailable
from benchmarks.machine import describe_machine
from benchmarks.measures import MEASURES, Measure, Scale
from benchmarks.publish import publish as publish_readings
from benchmarks.report import Report, print_report, to_json, to_markdown
from benchmarks.runner import run_all
from benchmarks.systems import CORE, SYSTEMS, System

#: Columns of the tables where the output is no terminal.
PIPE_WIDTH = 140

MEASURE_NAMES = list(dict.fromkeys(measure.name for measure in MEASURES))

#: Those of a run without ``--full``.
CORE_MEASURES = list(dict.fromkeys(measure.name for measure in MEASURES if measure.is_core))


class Names(click.ParamType[list[str]]):
    """A comma-separated list of known names, or ``all``."""

    name = "names"

    def __init__(self, known: list[str]) -> None:
        self.known = known

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        if value == "all":
            return self.known
        names = value if isinstance(value, list) else str(value).split(",")
        for name in names:
            if name not in self.known:
                self.fail(f"{name!r} is none of {', '.join(self.known)}", param, ctx)
        return names


@click.command()
@click.option(
    "--quick", is_flag=True, help="A small scale and one round: to try it, not to publish."
)
@click.option("--full", is_flag=True, help="All measures, all systems, a million tasks: hours.")
@click.option("--rounds", type=click.IntRange(1), help="Interleaved rounds.  [default: 1; full: 3]")
@click.option(
    "--only",
    type=Names(MEASURE_NAMES),
    help=f"Measures, comma-separated, or all.  [default: {','.join(CORE_MEASURES)}; full: all]",
)
@click.option(
    "--systems",
    "names",
    type=Names(list(SYSTEMS)),
    help=f"Systems, comma-separated, or all.  [default: {','.join(CORE)}; full: all]",
)
@click.option(
    "--tasks", type=click.IntRange(1), help="Tasks per drain.  [default: 5000; quick: 1000]"
)
@click.option(
    "--repeats",
    type=click.IntRange(0),
    default=2,
    help="How often a run is repeated that others have disturbed.",
    show_default=True,
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write every reading here."
)
@click.option(
    "--publish",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="After a whole run, write readings, plots and the README's table into this folder.",
)
@click.option("--markdown", type=click.Path(path_type=Path), help="Write the tables here.")
def main(
    quick: bool,
    full: bool,
    rounds: int | None,
    only: list[str] | None,
    names: list[str] | None,
    tasks: int | None,
    repeats: int,
    json_file: Path | None,
    publish: Path | None,
    markdown: Path | None,
) -> None:
    """Measure Celery on PostgreSQL rows side by side with its other brokers and with other queues.

    The servers are those at PGJOBS_BENCH_DSN, BENCH_REDIS_URL and BENCH_RABBITMQ_URL (default:
    on this machine). Databases whose names begin with pgjobs_bench, and Redis databases 9 and 10,
    are the harness's own and are emptied.
    """
    scale = Scale.quick() if quick else Scale()
    if tasks is not None:
        scale = dataclasses.replace(scale, tasks=tasks)
    rounds = rounds or (3 if full and not quick else 1)
    wanted = only or (MEASURE_NAMES if full else CORE_MEASURES)
    measures = [measure for measure in MEASURES if measure.name in wanted]
    if not full:  # a million tasks are for a full run, whatever its measures
        measures = [measure for measure in measures if measure.is_core or only]
        measures = [measure for measure in measures if measure.name != "backlog" or measure.is_core]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def tell(line: str) -> None:
        click.echo(line, err=True)

    machine = describe_machine()
    with contextlib.ExitStack() as stack:
        chosen = names or (list(SYSTEMS) if full else list(CORE))
        systems, skipped = start_systems(chosen, measures, stack)
        for name, reason in skipped.items():
            tell(f"{name}: skipped, {reason}")
        servers = {system.name: system.version() for system in systems}
        results = run_all(measures, systems, rounds, scale, repeats, tell)
    report = Report(machine, servers, skipped, rounds, measures, results)
    print_report(report, Console(width=None if sys.stdout.isatty() else PIPE_WIDTH))
    if markdown is not None:
        markdown.write_text(to_markdown(report))
    if json_file is not None:
        json_file.write_text(to_json(report))
    if publish is not None:
        tell(
            "not published: --quick is to try it"
            if quick
            else publish_readings(json.loads(to_json(report)), publish)
        )
    sys.exit(0 if results.is_sound else 1)


def start_systems(
    names: list[str], measures: list[Measure], stack: contextlib.ExitStack
) -> tuple[list[System], dict[str, str]]:
    """Start what some measure asks for; what is not there is returned with its reason."""
    systems: list[System] = []
    skipped: dict[str, str] = {}
    for name, system_class in SYSTEMS.items():
        if name in names and any(name in measure.systems for measure in measures):
            system = system_class()
            stack.callback(system.stop)
            try:
                system.start()
            except Unavailable as error:
                skipped[name] = system.redact(str(error))
            else:
                systems.append(system)
    return systems, skipped


if __name__ == "__main__":
    main()

"""Publish readings: a file of them, the plots beside it, and the tables in the README above.

``python -m benchmarks.publish READINGS FOLDER`` does so with what ``--json`` has written.
"""

import json
import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.panels import CHARTED, LEGEND, find_gaps, read_panels
from benchmarks.table import write_table


def publish(data: dict[str, Any], folder: Path) -> str:
    """Write readings and plots into ``folder``, and tables into the README beside it.

    Says what was done. Does nothing if a bar of the chart is missing, or a run of one of its
    systems has failed that it would show; what failed elsewhere stands beside the tables.
    """
    gaps = find_gaps(read_panels(data))
    gaps += [
        f"{each['system']} has failed: {each['reason']}"
        for each in data["failures"]
        if each["measure"] in CHARTED and each["system"] in LEGEND and not each["is_unfinished"]
    ]
    if gaps:
        return f"not published: {'; '.join(gaps)}"
    try:
        from benchmarks.chart import write_charts
        from benchmarks.plots import write_plots
    except ImportError:
        return "not published: the chart needs matplotlib; run pip install -e '.[bench]'"
    path = folder / f"{data['machine']['date'][:10]}.json"
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    write_charts(data, folder)
    write_plots(data, folder)
    readme = folder.parent / "README.md"
    write_table(path, readme)
    return f"published: {path}, the plots beside it and the tables in {readme}"


@click.command()
@click.argument("readings", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(readings: Path, folder: Path) -> None:
    """Publish READINGS, a file that ``--json`` has written, in FOLDER."""
    done = publish(json.loads(readings.read_text(encoding="utf-8")), folder)
    click.echo(done, err=True)
    sys.exit(0 if done.startswith("published") else 1)


if __name__ == "__main__":
    main()

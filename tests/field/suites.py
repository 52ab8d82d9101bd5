"""Run a product's own tests on each side, and compare them test by test."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .processes import TookTooLong, run_within
from .product import Judgement, Stage

#: How a test ended.
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"

Results = Mapping[str, str]


class Difference(NamedTuple):
    """Tests that may fail on pgjobs, and why."""

    #: A pattern for the whole of "module::class::test".
    tests: str
    reason: str


def run_suite(
    stage: Stage, side: str, tests: Path, arguments: Sequence[str], env: Mapping[str, str],
    limit: float,
) -> Results:  # fmt: skip
    """Run pytest in the folder ``tests``; how each test ended. Raises TookTooLong.

    ``side`` names its reports and logs.

    What fails is tried once more by itself: the machine may just have been busy.
    """
    results: dict[str, str] = {}
    # Celery's tests start a "celery", which must be this environment's.
    env = {"PATH": f"{stage.python.parent}:{os.environ['PATH']}", **env}
    for attempt in (1, 2):
        report = stage.folder / f"{side}-{attempt}.xml"
        report.unlink(missing_ok=True)
        command = [str(stage.python), "-m", "pytest", "-q", "-ra", f"--junit-xml={report}"]
        command += ["-o", f"cache_dir={stage.folder}/{side}-cache", "-W", "ignore"]
        command += [*(["--last-failed"] if attempt == 2 else []), *arguments]
        log = stage.folder / f"{side}-{attempt}.log"
        run_within(limit, command, cwd=tests, env=env, log=log)
        if not report.exists():
            raise TookTooLong(f"pytest wrote no report; its output: {log}")
        results.update(read_report(report))
        if FAILED not in results.values():
            break
    return results


def read_report(path: Path) -> Iterator[tuple[str, str]]:
    """Each test of a JUnit report, and how it ended."""
    for case in ET.parse(path).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            yield name, FAILED
        elif case.find("skipped") is not None:
            yield name, SKIPPED
        else:
            yield name, PASSED


def judge(
    pgjobs: Results, redis: Results | None, differences: Sequence[Difference],
    control: str = "Redis",
) -> Judgement:  # fmt: skip
    """What fails on pgjobs must fail on Redis too, or be listed with its reason.

    ``control`` names what it is compared with, where that is not Redis.

    >>> judge({"m::a": "passed", "m::b": "failed"}, {"m::a": "passed", "m::b": "failed"}, [])
    Judgement(result='as on Redis: 1 passed, 1 failed on both', notes=())
    """
    failed = {name for name, ended in pgjobs.items() if ended == FAILED}
    common = {name for name in failed if redis and redis.get(name) == FAILED}
    known: dict[str, list[str]] = {}
    surprising = []
    for name in sorted(failed - common):
        reasons = [each.reason for each in differences if re.fullmatch(each.tests, name)]
        if reasons:
            known.setdefault(reasons[0], []).append(name)
        else:
            surprising.append(name)
    counts = [f"{sum(ended == PASSED for ended in pgjobs.values())} passed"]
    counts += [f"{len(surprising)} failed"] if surprising else []
    counts += [f"{len(common)} failed on both"] if common else []
    counts += [f"{len(failed) - len(common) - len(surprising)} differ as listed"] if known else []
    if redis is not None:
        better = sum(
            ended == FAILED and pgjobs.get(name) == PASSED for name, ended in redis.items()
        )
        counts += [f"{better} failed on {control} alone"] if better else []
    has_run = PASSED in pgjobs.values()
    verdict = "FAILED" if surprising or not has_run else f"as on {control}" if redis else "passed"
    notes = [f"failed: {name}" for name in surprising]
    notes += [f"differs: {', '.join(names)}: {reason}" for reason, names in known.items()]
    for each in differences:
        alike = [name for name in pgjobs if re.fullmatch(each.tests, name)]
        if alike and not failed.intersection(alike):
            notes.append(f"no longer differs: {each.tests}")
    return Judgement(f"{verdict}: {', '.join(counts)}", tuple(notes))

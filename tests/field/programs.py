"""Run one of the small applications in ``foreign`` on each side, and compare what it saw."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .processes import run_within
from .product import Judgement, Side, Stage, on_both

FOREIGN = Path(__file__).parent / "foreign"

Observations = Mapping[str, Any]

#: The only observation of a program that did not get to its end.
BROKEN = "_broken"

#: What billiard writes when a worker's own code has failed. Its tasks may seem to end all the same.
POOL_ERROR = "Pool callback raised exception"


def run_program(
    stage: Stage,
    name: str,
    expected: Observations,
    *,
    differences: Mapping[str, str] | None = None,
    limit: float = 120,
) -> Judgement:
    """Run ``foreign/NAME.py`` on pgjobs, where ``expected`` must be seen, and then on Redis.

    ``differences`` gives the reason of each observation that is another one on Redis.
    """
    seen, control = on_both(stage, lambda side: _observe(stage, side, name, limit))
    return judge(seen, control, expected, differences or {})


def judge(
    seen: Observations,
    control: Observations | None,
    expected: Observations,
    differences: Mapping[str, str],
) -> Judgement:
    """All that is expected must be seen, and on Redis the same but for the listed differences.

    >>> judge({"sum": 3}, {"sum": 3}, {"sum": 3}, {})
    Judgement(result='as on Redis', notes=())
    """
    wrong = [each[BROKEN] for each in (seen, control or {}) if BROKEN in each]
    known: list[str] = []
    if wrong:
        return Judgement("FAILED", tuple(wrong))
    for key, value in expected.items():
        if seen.get(key) != value:
            wrong.append(f"{key}: {seen.get(key)!r}, expected {value!r}")
        elif control is not None and control.get(key) != value:
            told = f"{key}: {value!r}, on Redis {control.get(key)!r}"
            if key in differences:
                known.append(f"differs: {told}: {differences[key]}")
            else:
                wrong.append(told)
    if wrong:
        return Judgement("FAILED", tuple(wrong + known))
    return Judgement("as expected" if control is None or known else "as on Redis", tuple(known))


def _observe(stage: Stage, side: Side, name: str, limit: float) -> Observations:
    report = stage.folder / f"{side.name}.json"
    report.unlink(missing_ok=True)
    scratch = stage.folder / side.name
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    env = {
        "FIELD_BROKER": side.broker,
        "FIELD_RESULTS": side.results,
        "FIELD_DATABASE": side.database,
        "FIELD_REDIS": side.redis,
        "FIELD_REPORT": str(report),
        "FIELD_FOLDER": str(scratch),
    }
    log = stage.folder / f"{side.name}.log"
    command = [str(stage.python), str(FOREIGN / f"{name}.py")]
    code = run_within(limit, command, cwd=FOREIGN, env=env, log=log)
    if code or not report.exists():
        tail = log.read_text(errors="replace").splitlines()[-3:]
        return {BROKEN: f"exit code {code} on {side.name}, {log}: {' / '.join(tail)[:400]}"}
    if error := find_pool_error([log, *scratch.glob("*.log")]):
        return {BROKEN: f"on {side.name}: {error}"}
    seen: Observations = json.loads(report.read_text())
    return seen


def find_pool_error(logs: Iterable[Path]) -> str:
    """The first line that tells of a failure of the worker itself, and its log; "" without one."""
    for log in logs:
        for line in log.read_text(errors="replace").splitlines():
            if POOL_ERROR in line:
                return f"{log}: {line[:300]}"
    return ""

"""A program's own types: mypy --strict with celery-types, as its users run it."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed: extra lint"),
    pytest.mark.skipif(
        find_spec("celery-stubs") is None, reason="celery-types is not installed: extra test"
    ),
    pytest.mark.timeout(300),
]

PROGRAM = """
from celery import Celery, shared_task
from celery.result import AsyncResult

from pgjobs_celery import PgTask, Unique, jobs

app = Celery("proj", broker="pgjobs://localhost/app", task_cls="pgjobs_celery:PgTask")


@app.task(base=PgTask, bind=True, unique=Unique(period=60), max_attempts=3)
def remind(self: PgTask, user_id: int) -> str:
    self.meta["seen"] = True
    if self.is_cancelled():
        raise self.snooze(60)
    return str(user_id)


@shared_task(base=PgTask, tags=["mail"])
def welcome(user_id: int) -> str:
    return str(user_id)


@app.task
def plain(x: int) -> int:
    return x


def main() -> None:
    if remind.delay(7).conflict:
        print("it waits already")
    is_there: bool = remind.apply_async((7,), countdown=5).conflict
    is_revoked: bool = remind.delay(7).revoke(reason="no longer")
    print(is_there, is_revoked, welcome.delay(1).conflict, remind.s(1).delay().id)
    one: AsyncResult[int] = plain.delay(1)
    print(one.get(timeout=1), plain.delay(2).id, jobs(app).count())


async def amain() -> None:
    result = await remind.adelay(7)
    print(result.conflict)
    print((await welcome.aapply_async((7,))).conflict)
"""

#: A line that is added to main(), and what mypy says of it.
SLIPS = {
    "remind.delay(7).conflct": 'has no attribute "conflct"',
    "plain.delay(7).conflict": 'has no attribute "conflict"',
    "remind.dealy(7)": 'has no attribute "dealy"',
    "wrong: str = remind.delay(7).conflict": "Incompatible types in assignment",
    "remind.delay(7).revoke(reason=5)": "incompatible type",
}


def check(text: str, tmp_path: Path) -> str:
    """What mypy says of a program."""
    file = tmp_path / "program.py"
    file.write_text(text)
    options = ["--strict", "--config-file=", f"--cache-dir={cache(tmp_path)}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(file)],
        cwd=tmp_path,
        env={"PATH": "", "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def cache(tmp_path: Path) -> Path:
    """One for all programs of a run: Celery's stubs are read once."""
    return tmp_path.parent / "mypy_cache"


def test_the_handle_of_a_pgtask_knows_what_it_has(tmp_path: Path):
    output = check(PROGRAM, tmp_path)
    assert output.startswith("Success"), output


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(tmp_path: Path, slip: str):
    text = PROGRAM.replace("\n\nasync def amain", f"    {slip}\n\n\nasync def amain")
    output = check(text, tmp_path)
    assert SLIPS[slip] in output
    assert "Found 1 error" in output

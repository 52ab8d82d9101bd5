"""The words of the field runs: a product, the place it runs in, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NamedTuple, TypeVar

ROOT = Path(__file__).parents[2]
FIELD = ROOT / ".field"

T = TypeVar("T")


class Skip(Exception):
    """The product cannot be run here; the text says why."""


class Side(NamedTuple):
    """A broker and result backend to run on."""

    name: str
    broker: str
    results: str
    #: A PostgreSQL database of its own, with our schema, for what the product keeps itself.
    database: str
    #: A Redis database of its own, for what needs one beside the broker; "" if there is none.
    redis: str


class Environment(NamedTuple):
    """A virtual environment in ``.field``; products may share one."""

    name: str
    requirements: tuple[str, ...]
    #: Another Python than the one that runs the harness: "3.13".
    python: str = ""
    #: Versions to keep to, one requirement a line: a file or a URL, as pip's ``--constraint``.
    constraints: str = ""
    #: What must be on the machine for it to build, told where it does not.
    needs: str = ""


class Outcome(NamedTuple):
    """What became of a product."""

    product: str
    version: str
    ran: str
    #: "as on Redis", "as expected", "FAILED" or "skipped", and the numbers.
    result: str
    seconds: float
    #: What went wrong, or why it was skipped: one finding each.
    notes: tuple[str, ...] = ()

    @property
    def has_failed(self) -> bool:
        """True if something differs that may not differ."""
        return self.result.startswith("FAILED")

    @property
    def was_skipped(self) -> bool:
        """True if it was not run at all."""
        return self.result == "skipped"


@dataclass(frozen=True)
class Stage:
    """What a product gets to run with."""

    #: The Python of the product's environment.
    python: Path
    #: A folder for logs, reports and unpacked sources.
    folder: Path
    pgjobs: Side
    #: None where there is no Redis.
    redis: Side | None
    is_fast: bool


class Size(Enum):
    """How long a product takes."""

    #: Quick enough for ``.ci/run``, if need be in part.
    SMALL = "fast"
    MEDIUM = ""
    #: Minutes each, and installs hundreds of packages: only with ``--big``.
    BIG = "big"


class Judgement(NamedTuple):
    """A product's result, before its name and version are added."""

    result: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Product:
    """Foreign software, and how it is run."""

    name: str
    #: The distribution whose version is told.
    distribution: str
    environment: Environment
    #: For the table: what is run.
    ran: str
    run: Callable[[Stage], Judgement]
    size: Size = Size.SMALL
    needs_redis: bool = False
    #: Other distributions whose versions are told too.
    beside: tuple[str, ...] = field(default=("celery",))


def on_both(stage: Stage, run: Callable[[Side], T]) -> tuple[T, T | None]:
    """Run it on pgjobs and on Redis, if there is one, at the same time: both wait for the most."""
    with ThreadPoolExecutor(2) as threads:
        sides = [side for side in (stage.pgjobs, stage.redis) if side is not None]
        ended = [*threads.map(run, sides), None]
    pgjobs, redis = ended[:2]
    assert pgjobs is not None
    return pgjobs, redis

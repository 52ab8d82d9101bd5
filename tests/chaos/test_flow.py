"""Break everything while jobs pass rates, limits of each key, fair queues, and pauses come and go.

``make chaos`` runs it with the rest, and by ``ARGS=tests/chaos/test_flow.py`` alone.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pgjobs_celery.config import Options
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url

from ..conftest import close_app
from ..e2e.conftest import StartWorker, running_workers
from ..support.waiting import wait_for
from . import flow
from .breaking import Chaos
from .flow_oracle import FlowOracle
from .flow_producing import FlowProducer, Pauser
from .oracle import Oracle, read_rows
from .producing import publishing
from .systems import Pooled, System, running_system
from .test_chaos import DRAIN, SECONDS, SEED, break_things, wait_until_finished

#: In the short run, beside the others, which test what is not special here.
SHORT = {
    "kill a child", "kill a worker", "stop a worker for longer than its lease", "deploy",
    "cut all connections", "crash the database",
}  # fmt: skip

#: Of the server's log.
ERROR = re.compile(r"ERROR:  (.{0,60})")

#: What is left of lanes when their jobs have ended; gates stay for as long as they may be needed.
LEFT = """
    SELECT (SELECT count(*) FROM pgjobs.lanes), (SELECT count(*) FROM pgjobs.arrivals),
           (SELECT count(*) FROM pgjobs.slots), (SELECT count(*) FROM pgjobs.pauses)
"""
GATES = "SELECT count(*) FROM pgjobs.gates"
#: As if a while had passed since they were needed.
AGE = "UPDATE pgjobs.gates SET used_at = used_at - interval '10 minutes'"


class FlowChaos(Chaos):
    """Workers of the tasks that have rules, with one more than elsewhere: they compete."""

    app = "tests.chaos.flow"
    queues = flow.QUEUES

    def __init__(
        self, system: System, start: StartWorker, env: dict[str, str], dice: random.Random
    ) -> None:
        super().__init__(system, start, env, dice)
        self._add(soft=False)

    @property
    def faults(self) -> dict[str, Callable[[], None]]:
        faults = super().faults
        del faults["hostile messages"]
        return faults if SECONDS else {name: faults[name] for name in faults if name in SHORT}


@pytest.mark.skipif("PGJOBS_CHAOS_SECONDS" not in os.environ, reason="takes a minute: make chaos")
@pytest.mark.timeout(2 * SECONDS + DRAIN + 420)
@pytest.mark.parametrize("kind", [System, Pooled] if SECONDS else [System], ids=lambda k: k.name)
def test_no_rule_is_broken_whatever_breaks(
    kind: type[System], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen_by_tasks = tmp_path / "oracle"
    seen_by_tasks.touch()
    dice = random.Random(SEED)
    with running_system(kind) as system:
        with system.connect() as connection:
            connection.execute(flow.LEDGER)
        flow.app.conf.update(broker_url=system.url, result_backend=system.url, **system.conf)
        flow.set_rules()
        with running_workers(system.url, tmp_path) as start:
            chaos = FlowChaos(system, start, {"PGJOBS_CHAOS_ORACLE": str(seen_by_tasks)}, dice)
            pauser = Pauser(SEED, lambda: dice.uniform(0.2, 2.5))
            with publishing(FlowProducer, flow.app, system.connect, SEED, [pauser]) as producers:
                break_things(chaos, dice)
            wait_until_finished(system)
            forgotten(system)
        close_app(flow.app)
        published = {k: v for producer in producers for k, v in producer.published.items()}
        with system.connect() as connection:
            rows = read_rows(connection)
            kept = FlowOracle(connection)
        log = system.log
    seen = Oracle(seen_by_tasks)
    verdict = seen.judge(published, rows)
    violations = kept.violations()
    begun_paused = {pause: held for pause in pauser.paused if (held := kept.begun_within(*pause))}
    errors = Counter(ERROR.findall(log))
    with capsys.disabled():
        print(f"\nflow, {kind.name}, seed {SEED}: {chaos.done.total()} faults {dict(chaos.done)}")
        print(f"  {len(published)} jobs published, {sum(p.failed for p in producers)} failed to be")
        print(f"  {sum(seen.runs.values())} runs, {len(kept.held)} claims")
        print(f"  pauses and weights {dict(pauser.done)}")
        print(f"  starts {dict(kept.starts)}, of which at the limit {dict(kept.full)}")
        print(f"  most at once in capped {kept.most_in_queue('capped')}")
        print(f"  errors of the server {errors.most_common(8)}")
    assert verdict.failures() == {}
    assert violations == {}
    assert kept.most_in_queue("capped") <= 4
    assert begun_paused == {}
    assert "deadlock detected" not in log
    assert len(published) > 100
    # Each rule has been met.
    assert set(kept.full) == set(kept.rules)


def forgotten(system: System) -> None:
    """Workers forget lanes, arrivals and pauses soon; gates a minute after their last use."""
    with system.connect() as connection:

        def left() -> tuple[Any, ...]:
            return tuple(connection.execute(LEFT).fetchall()[0])

        wait_for(lambda: not any(left()), 90, left)
        if not SECONDS:
            connection.execute(AGE)
            database = Database(parse_url(system.url), Options())
            database.flow.prune_gates(10_000)
            database.close()
        wait_for(lambda: connection.execute(GATES).fetchall() == [(0,)], 240)

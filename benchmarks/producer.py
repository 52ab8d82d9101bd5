"""The publishing side, a process of its own: clean import and connections, its own CPU clock.

Each command prints one line of JSON.
"""

import json
import random
import sys
import time

import click
from celery import chord as celery_chord

from benchmarks.app import app, noop, total

#: How many task ids `enqueue` hands back, evenly spread, so that their results can be read.
SAMPLED = 100


@click.group()
def cli() -> None:
    """Publish no-op tasks; the environment says where to (benchmarks/app.py)."""


@cli.command()
@click.argument("count", type=int)
@click.option("--warm-up", type=int, default=0, help="Tasks to send first, untimed.")
def enqueue(count: int, warm_up: int) -> None:
    """Call delay() COUNT times, one after the other."""
    for index in range(warm_up):
        noop.delay(index)
    step = max(1, count // SAMPLED)
    sampled: dict[str, int] = {}
    cpu, clock = time.process_time(), time.perf_counter()
    for index in range(count):
        result = noop.delay(index)
        if index % step == 0:
            sampled[result.id] = index
    seconds, cpu = time.perf_counter() - clock, time.process_time() - cpu
    click.echo(
        json.dumps({"seconds": seconds, "cpu": cpu, "reply_to": app.thread_oid, "sampled": sampled})
    )


@cli.command()
@click.argument("count", type=int)
def unique(count: int) -> None:
    """Call delay() COUNT times of each kind of task, in blocks that take turns."""
    kinds = {name: app.tasks[name] for name in ("noop", "pgtask", "unique")}
    names = {"noop": "task"}
    block, seconds, conflicts = 250, dict.fromkeys((*kinds, "duplicate"), 0.0), 0
    blocks = max(1, count // block)
    for turn in range(-1, blocks):  # the first is not timed: connections, imports, plans
        indexes = range(turn * block, (turn + 1) * block)
        for name, task in (*kinds.items(), ("duplicate", kinds["unique"])):
            clock = time.perf_counter()
            results = [task.delay(index) for index in indexes]
            if turn >= 0:
                seconds[name] += time.perf_counter() - clock
                if name == "duplicate":
                    conflicts += sum(result.conflict for result in results)
    sent = {"sent": blocks * block, "conflicts": conflicts, "extra": 3 * block}
    timed = {names.get(name, name): value for name, value in seconds.items()}
    click.echo(json.dumps({**sent, "seconds": timed}))


@cli.command()
@click.argument("later", type=int)
@click.argument("now", type=int)
def eta(later: int, now: int) -> None:
    """Send LATER tasks due in an hour, then NOW tasks due at once, numbered from 0."""
    for index in range(later):
        noop.apply_async((now + index,), countdown=3600)
    for index in range(now):
        noop.delay(index)
    click.echo(json.dumps({"reply_to": app.thread_oid}))


@cli.command()
@click.argument("samples", type=int)
@click.option("--warm-up", type=int, default=20, help="Tasks of each kind to send first, untimed.")
def latency(samples: int, warm_up: int) -> None:
    """Time SAMPLES round trips, then send SAMPLES tasks whose starts the worker notes."""
    think = random.Random(1)
    trips: list[float] = []
    sent: dict[int, float] = {}
    each = warm_up + samples
    for index in range(each):
        time.sleep(think.uniform(0.005, 0.020))
        clock = time.perf_counter()
        noop.delay(index).get(timeout=30)
        trips.append(time.perf_counter() - clock)
    for index in range(each, 2 * each):
        time.sleep(think.uniform(0.005, 0.020))
        sent[index] = time.time()
        noop.apply_async((index,), ignore_result=True)
    click.echo(
        json.dumps(
            {
                "trips": trips[warm_up:],
                "sent": list(sent.items())[warm_up:],
                "total": 2 * each,
                "reply_to": app.thread_oid,
            }
        )
    )


@cli.command()
@click.argument("header", type=int)
@click.argument("chords", type=int)
def chord(header: int, chords: int) -> None:
    """Time a chord of HEADER tasks, then CHORDS chords of 3 tasks, one after the other."""
    sent = wrong = 0

    def run_chord(size: int) -> float:
        nonlocal sent, wrong
        indexes = range(sent, sent + size)
        sent += size
        clock = time.perf_counter()
        found = celery_chord(noop.s(index) for index in indexes)(total.s()).get(timeout=120)
        wrong += found != sum(indexes)
        return time.perf_counter() - clock

    for _ in range(5):  # connections, imports, plans
        run_chord(3)
    seconds = run_chord(header)
    small = sum(run_chord(3) for _ in range(chords))
    click.echo(json.dumps({"chord": seconds, "small": small, "wrong": wrong, "total": sent}))


@cli.command()
def check() -> None:
    """Read {task id: index} as JSON from stdin and count the results that are right."""
    expected: dict[str, int] = json.load(sys.stdin)
    right = sum(
        app.AsyncResult(task_id).get(timeout=10) == index for task_id, index in expected.items()
    )
    click.echo(json.dumps({"right": right}))


if __name__ == "__main__":
    cli()

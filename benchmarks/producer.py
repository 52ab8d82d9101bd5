"""The publishing side, a process of its own: clean import and connections, its own CPU clock.

Each command prints one line of JSON.
"""

import contextlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click
import psycopg
from celery import chord as celery_chord
from kombu import Producer

from benchmarks import filling
from benchmarks.app import app, noop, total
from benchmarks.processes import cpu_clock
from benchmarks.together import publish_together


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
    cpu, clock = time.process_time(), time.perf_counter()
    for index in range(count):
        noop.delay(index)
    seconds, cpu = time.perf_counter() - clock, time.process_time() - cpu
    click.echo(json.dumps({"seconds": seconds, "cpu": cpu, "reply_to": app.thread_oid}))


@cli.command()
@click.argument("count", type=int)
def fill(count: int) -> None:
    """Put COUNT tasks there, by the shortest way; hands back the ids of some."""
    sampled = filling.fill(count)
    click.echo(json.dumps({"reply_to": app.thread_oid, "sampled": sampled}))


@cli.command()
@click.argument("count", type=int)
@click.argument("names")
def spread(count: int, names: str) -> None:
    """Publish COUNT tasks into queues with these NAMES, separated by commas, in turn."""
    queues = names.split(",")
    for index in range(count):
        noop.apply_async((index,), queue=queues[index % len(queues)])
    click.echo(json.dumps({}))


@cli.command()
@click.argument("count", type=int)
@click.argument("size", type=int)
def bodies(count: int, size: int) -> None:
    """Call delay() COUNT times with an argument of SIZE bytes, one after the other."""
    text = "x" * size
    app.tasks["swallow"].delay(0, text)  # connections, imports, plans
    clock = time.perf_counter()
    for index in range(1, count):
        app.tasks["swallow"].delay(index, text)
    click.echo(json.dumps({"rate": (count - 1) / (time.perf_counter() - clock)}))


@cli.command()
@click.argument("samples", type=int)
def thoughtful(samples: int) -> None:
    """Send SAMPLES tasks, each after some thought, and tell when."""
    sent = send_after_thought(range(samples), 0.02, 0.04)
    click.echo(json.dumps({"sent": list(sent.items())}))


def send_after_thought(indices: Iterable[int], least: float, most: float) -> dict[int, float]:
    """Send a task for each, after so many seconds each; when each was sent."""
    think = random.Random(1)
    sent: dict[int, float] = {}
    for index in indices:
        time.sleep(think.uniform(least, most))
        sent[index] = time.time()
        noop.apply_async((index,), ignore_result=True)
    return sent


@cli.command()
@click.argument("count", type=int)
@click.argument("seconds", type=float)
@click.option("--task", default="nap")
def naps(count: int, seconds: float, task: str) -> None:
    """Publish COUNT tasks that wait."""
    for index in range(count):
        app.tasks[task].delay(index, seconds)
    click.echo(json.dumps({}))


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
@click.argument("task")
@click.argument("count", type=int)
@click.option("--keys", default=1_000, help="How many keys there are.")
def keys(task: str, count: int, keys: int) -> None:
    """Publish COUNT tasks that have these keys in turn."""
    from pgjobs_celery import bulk

    with bulk():
        for index in range(count):
            app.tasks[task].delay(index, index % keys)
    click.echo(json.dumps({}))


@cli.command()
@click.argument("way", type=click.Choice(["one", "bulk", "many", "batch", "built"]))
@click.argument("count", type=int)
@click.option("--processes", type=int, default=1, help="How many do it at a time.")
def bulk(way: str, count: int, processes: int) -> None:
    """Publish COUNT tasks in each process: one by one, in bulk(), by enqueue_many() or in kombu's
    Producer.batch(); or build their messages and send them nowhere."""
    publish = globals()[f"publish_{way}"]
    click.echo(json.dumps(publish_together(publish_at_once, publish, count, processes)))


def publish_at_once(
    publish: Callable[[int, int], None], first: int, count: int, ready: Any, sent: Any
) -> None:
    """Publish when all the others are ready to, and say when it began, when it ended, its CPU."""
    publish(-100, 100)  # connections, declarations, imports
    ready.wait()
    cpu, clock = time.process_time(), time.monotonic()
    publish(first, count)
    sent.put((clock, time.monotonic(), time.process_time() - cpu))


def publish_one(first: int, count: int) -> None:
    for index in range(first, first + count):
        noop.delay(index)


def publish_bulk(first: int, count: int) -> None:
    from pgjobs_celery import bulk

    with bulk():
        publish_one(first, count)


def publish_many(first: int, count: int) -> None:
    from pgjobs_celery import enqueue_many

    enqueue_many(noop, ((index,) for index in range(first, first + count)))


def publish_batch(first: int, count: int) -> None:
    with app.producer_pool.acquire() as producer, producer.batch():
        for index in range(first, first + count):
            noop.apply_async((index,), producer=producer)


def publish_built(first: int, count: int) -> None:
    with nowhere() as producer:
        for index in range(first, first + count):
            noop.apply_async((index,), producer=producer)


class Nowhere(Producer):  # type: ignore[misc]
    """Serialises a message as kombu does, and keeps the last one."""

    row: tuple[Any, ...] = ()

    def publish(self, body: Any, **options: Any) -> None:
        headers = options["headers"]
        body, content_type, encoding = self._prepare(
            body, options["serializer"], None, None, options["compression"], headers
        )
        names = ("correlation_id", "reply_to", "delivery_mode")
        message = {
            "body": body,
            "content-type": content_type,
            "content-encoding": encoding,
            "headers": headers,
            "properties": {name: options[name] for name in names},
        }
        self.row = as_row(message, options["routing_key"])


def as_row(message: dict[str, Any], queue: str) -> tuple[Any, ...]:
    """What a bare INSERT needs of a message."""
    body, headers = message.pop("body"), message["headers"]
    return (
        headers["id"], headers["task"], queue, headers["root_id"], json.dumps(message),
        body.encode(), 0,
    )  # fmt: skip


@contextlib.contextmanager
def nowhere() -> Iterator[Nowhere]:
    with app.producer_pool.acquire() as producer:
        yield Nowhere(producer.channel, auto_declare=False)


def void_of(channel: Any) -> Any:
    """A channel that keeps the last message that kombu has published, and sends none."""

    class Void(type(channel)):  # type: ignore[misc]
        def basic_publish(self, message: Any, routing_key: str = "", **_: Any) -> None:
            self.row = as_row(message, routing_key)

    return Void(channel.transport)


@cli.command()
@click.argument("kind", type=click.Choice(["noop", "pgtask"]))
@click.argument("count", type=int)
def transaction(kind: str, count: int) -> None:
    """Call delay() COUNT times in transactions of a psycopg connection, in turns with Celery's own
    message building and a bare INSERT of the same row."""
    from pgjobs_celery import using

    insert = """
        INSERT INTO pgjobs.jobs (task_id, task, queue, root_id, message, body, priority,
                                 max_attempts, scheduled_at, state)
        VALUES (%s, %s, %s, %s, %s, %s, %s, 20, now(), 'available')
        """
    conninfo = app.connection_for_write().transport.database.conninfo
    task, block = app.tasks[kind], 50
    blocks = max(1, count // block)
    seconds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    with psycopg.connect(conninfo) as connection, nowhere() as producer:
        void = void_of(producer.channel)
        publisher = Producer(void, auto_declare=False)

        def cpu_used() -> float:
            """Ours and, where it is on this machine, that of the connection's server process."""
            with contextlib.suppress(OSError):
                return time.process_time() + cpu_clock(connection.info.backend_pid)
            return time.process_time()

        def delay() -> None:
            task.delay(0)

        def join_and_delay() -> None:
            with connection.transaction(), using(connection):
                task.delay(0)

        def build() -> None:
            task.apply_async((0,), producer=producer)

        def build_and_insert() -> None:
            build()
            connection.execute(insert, producer.row)

        def send_and_insert() -> None:
            task.apply_async((0,), producer=publisher)
            connection.execute(insert, void.row)

        def begin_build_and_insert() -> None:
            with connection.transaction():
                build_and_insert()

        ways: dict[str, Any] = {
            "delay": (delay, True),
            "insert": (build_and_insert, True),
            "build": (build, True),
            "sent": (send_and_insert, True),
            "delay_each": (join_and_delay, False),
            "insert_each": (begin_build_and_insert, False),
        }
        for turn in range(-1, blocks):  # the first is not timed: plans, imports
            for name, (act, in_one) in ways.items():
                with contextlib.ExitStack() as stack:
                    if in_one:
                        stack.enter_context(connection.transaction())
                        stack.enter_context(using(connection))
                    clock, used = time.perf_counter(), cpu_used()
                    for _ in range(block):
                        act()
                    if turn >= 0:
                        seconds.setdefault(name, []).append(time.perf_counter() - clock)
                        cpu.setdefault(name, []).append(cpu_used() - used)
                connection.commit()
    click.echo(
        json.dumps(
            {"block": block, "rows": 5 * block * (blocks + 1), "seconds": seconds, "cpu": cpu}
        )
    )


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
    each = warm_up + samples
    for index in range(each):
        time.sleep(think.uniform(0.005, 0.020))
        clock = time.perf_counter()
        noop.delay(index).get(timeout=30)
        trips.append(time.perf_counter() - clock)
    sent = send_after_thought(range(each, 2 * each), 0.005, 0.020)
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

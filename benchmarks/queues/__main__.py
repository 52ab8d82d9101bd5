"""Install, publish to and work on one queue; each command but ``work`` prints one line of JSON."""

import asyncio
import json
import os
import time

import click

from benchmarks.queues.base import Queue
from benchmarks.queues.publishing import load, opened, publish_at_once
from benchmarks.together import publish_together


@click.group()
@click.argument("name")
@click.pass_context
def cli(context: click.Context, name: str) -> None:
    """Run one command on the queue NAME; the environment says where it is."""
    context.obj = name


@cli.command()
@click.pass_obj
def install(name: str) -> None:
    """Put its schema into the empty database."""
    asyncio.run(load(name).install())
    click.echo("{}")


@cli.command()
@click.argument("count", type=int)
@click.option("--warm-up", type=int, default=0)
@click.pass_obj
def enqueue(name: str, count: int, warm_up: int) -> None:
    """Publish COUNT jobs one by one, each committed before the next."""

    async def publish(queue: Queue) -> dict[str, float]:
        for index in range(warm_up):
            await queue.enqueue(index)
        cpu, clock = time.process_time(), time.perf_counter()
        for index in range(count):
            await queue.enqueue(index)
        return {"seconds": time.perf_counter() - clock, "cpu": time.process_time() - cpu}

    say(asyncio.run(opened(load(name), publish)))


@cli.command()
@click.argument("count", type=int)
@click.pass_obj
def fill(name: str, count: int) -> None:
    """Publish COUNT jobs together."""

    async def publish(queue: Queue) -> dict[str, float]:
        await queue.enqueue_many(0, count)
        return {}

    say(asyncio.run(opened(load(name), publish)))


@cli.command()
@click.argument("way", type=click.Choice(["many"]))
@click.argument("count", type=int)
@click.option("--processes", type=int, default=1)
@click.pass_obj
def bulk(name: str, way: str, count: int, processes: int) -> None:
    """Publish COUNT jobs together in each process, all processes at once."""
    click.echo(json.dumps(publish_together(publish_at_once, name, count, processes)))


@cli.command()
@click.pass_obj
def work(name: str) -> None:
    """Work until SIGTERM."""
    queue = load(name)
    os.write(int(os.environ["BENCH_READY_FD"]), b"ready\n")
    asyncio.run(queue.work())


def say(values: dict[str, float]) -> None:
    click.echo(json.dumps({"reply_to": "", "sampled": {}, **values}))


if __name__ == "__main__":
    cli()

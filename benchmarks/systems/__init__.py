"""The systems that are compared, by their name on the command line."""

from benchmarks.systems.base import System
from benchmarks.systems.free import Free
from benchmarks.systems.kombus import Pgmq, Sqla
from benchmarks.systems.pgjobs import Pgjobs, PgjobsRelaxed
from benchmarks.systems.queues import Arq, Chancy, Oban, Pgqueuer, Procrastinate
from benchmarks.systems.rabbitmq import Rabbitmq, RabbitmqConfirms, RabbitmqQuorum
from benchmarks.systems.redis import Redis, RedisAlways, RedisEverysec, RedisNo

__all__ = ["CORE", "SYSTEMS", "System"]

#: In the order of the tables' columns.
SYSTEMS: dict[str, type[System]] = {
    system.name: system
    for system in (
        Pgjobs, Redis, Rabbitmq, Free,
        RedisAlways, PgjobsRelaxed, RedisEverysec, RedisNo, RabbitmqConfirms, RabbitmqQuorum,
        Sqla, Pgmq, Procrastinate, Pgqueuer, Chancy, Oban, Arq,
    )
}  # fmt: skip

#: Those of a run without ``--full``.
CORE = ("pgjobs", "redis", "rabbitmq", "free", "redis-aof-always", "rabbitmq-confirms")

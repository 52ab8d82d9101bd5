"""The systems that are compared, by their name on the command line."""

from benchmarks.systems.base import System
from benchmarks.systems.pgjobs import Pgjobs
from benchmarks.systems.rabbitmq import Rabbitmq, RabbitmqConfirms
from benchmarks.systems.redis import Redis, RedisAof

__all__ = ["SYSTEMS", "System"]

#: In the order of the tables' columns.
SYSTEMS: dict[str, type[System]] = {
    system.name: system for system in (Pgjobs, Redis, Rabbitmq, RedisAof, RabbitmqConfirms)
}

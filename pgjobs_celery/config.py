"""All that can be set: transport options and ``pgjobs_*`` settings, read once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from .errors import InvalidOption, UnknownOption
from .job.checks import did_you_mean
from .job.flow import GLOBAL, WORKER
from .job.flow_options import QueueRules, read_queue_rules

#: A schema name is written into statements, so it must not need quoting.
_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_$]{0,62}\Z")

#: Options that kombu itself, or Celery through it, puts into ``transport_options``.
_KOMBU_OPTIONS = frozenset({
    "max_retries", "interval_start", "interval_step", "interval_max", "errback", "callback",
    "retry_errors", "timeout", "client_properties", "confirm_publish", "confirm_timeout",
    "polling_interval", "login_method", "on_revive",
})  # fmt: skip

#: Options of kombu's other transports, which may be left over from a move.
_OTHERS_OPTIONS = {
    **dict.fromkeys((
        "ack_emulation", "fanout_patterns", "fanout_prefix", "global_keyprefix",
        "health_check_interval", "master_name", "max_connections", "min_priority",
        "priority_steps", "queue_order_strategy", "retry_on_timeout", "retry_policy",
        "sentinel_kwargs", "sep", "socket_connect_timeout", "socket_keepalive",
        "socket_keepalive_options", "socket_timeout", "unacked_index_key", "unacked_key",
        "unacked_mutex_expire", "unacked_mutex_key", "unacked_restore_limit",
        "visibility_timeout",
    ), "a Redis"),
    **dict.fromkeys((
        "heartbeat", "read_timeout", "write_timeout", "ssl",
    ), "a RabbitMQ"),
    **dict.fromkeys((
        "backoff_policy", "backoff_tasks", "is_secure", "port", "predefined_queues",
        "queue_name_prefix", "region", "sts_role_arn", "wait_time_seconds",
    ), "an SQS"),
}  # fmt: skip


_BOOLEANS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(
    ("false", "0", "no", "off"), False
)


@dataclass(frozen=True)
class Options:
    """The transport options, ``broker_transport_options`` in Celery; durations in seconds."""

    #: The schema that holds the tables.
    schema: str = "pgjobs"
    #: How often a waiting worker looks for work although nothing woke it: the safety net, and
    #: the pace where ``listen`` is off. 0 stands for 5 with LISTEN and 1 without.
    poll_interval: float = 0.0
    #: Wait by LISTEN. Off behind a transaction pooler without ``listen_url``: then polling only.
    listen: bool = True
    #: The URL that LISTEN connects to when the main URL leads to a transaction pooler.
    listen_url: str | None = None
    #: Use server-side prepared statements. Off for a pooler that cannot carry them
    #: (pgbouncer before 1.21, or with ``max_prepared_statements = 0``).
    prepare: bool = True
    #: ``"asc"``: priority 0 runs first, as on Redis; ``"desc"``: the highest, as on RabbitMQ.
    priority_order: str = "asc"
    #: How long to wait for the server when connecting; Celery's ``broker_connection_timeout``
    #: if that is set.
    connect_timeout: float = 4.0
    #: Seconds to wait for an answer before checking, over a new connection, that the server still
    #: works on it. If it does not, the connection counts as lost.
    ask_after: float = 10.0
    #: The largest message body accepted, in bytes.
    max_body_size: int = 100 * 1024 * 1024
    #: The most jobs one statement claims.
    max_claim: int = 100
    #: How far a worker may claim beyond the jobs that its pool can start, as time: never more than
    #: it finishes in this long at its present rate. The price: a worker that is killed takes as
    #: many with it, and another could not have started them.
    read_ahead: float = 0.02
    #: The most connections one process opens for publishing and results together.
    pool_size: int = 10
    #: Seconds after which an unused connection is closed; 0 for never. A worker's own are in use
    #: all the time: this is for children and for programs that publish now and then.
    idle_timeout: float = 10.0
    #: Queues whose jobs :func:`delay` commits without waiting for the disk, unless task or call say
    #: otherwise: a crash of the server may lose what was published just before.
    relaxed_queues: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.schema, str) or not _SCHEMA_NAME.match(self.schema):
            raise InvalidOption(
                f"schema {self.schema!r} is not a plain lower-case PostgreSQL name "
                "(letters, digits and _, not starting with a digit, at most 63)"
            )
        if self.priority_order not in ("asc", "desc"):
            raise InvalidOption(
                f"priority_order is {self.priority_order!r}; use 'asc' (0 runs first) "
                "or 'desc' (the highest runs first)"
            )
        for name in ("connect_timeout", "ask_after", "max_body_size", "max_claim", "pool_size"):
            if not getattr(self, name) > 0:
                raise InvalidOption(f"{name} must be above 0, not {getattr(self, name)!r}")
        for name in ("read_ahead", "poll_interval", "idle_timeout"):
            if not getattr(self, name) >= 0:
                raise InvalidOption(f"{name} must be 0 or more, not {getattr(self, name)!r}")

    @property
    def poll(self) -> float:
        """Seconds between two looks of a waiting worker."""
        return self.poll_interval or (5.0 if self.listen else 1.0)


def read_options(
    given: Mapping[str, Any] | None, base: Options | None = None
) -> tuple[Options, list[str]]:
    """Options from a mapping, and a warning line for each unknown name.

    A name that belongs to another transport (``visibility_timeout`` left over from Redis) must
    not stop an app, so it comes back as a warning. Raises InvalidOption for a value that
    cannot be used.
    """
    known = {field.name: field.type for field in fields(Options)}
    chosen: dict[str, Any] = {}
    warnings = []
    for name, value in (given or {}).items():
        if name in known:
            chosen[name] = _coerce(name, value, getattr(Options, name))
        elif name in _OTHERS_OPTIONS:
            kind = _OTHERS_OPTIONS[name]
            warnings.append(f"transport option {name!r}: {kind} option, ignored here")
        elif name not in _KOMBU_OPTIONS:
            warnings.append(
                f"transport option {name!r} is not used here{did_you_mean(name, known)}"
            )
    return replace(base or Options(), **chosen), warnings


def _coerce(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        return _names(name, value)
    try:
        if isinstance(default, bool):
            if isinstance(value, str):
                return _BOOLEANS[value.lower()]
            return bool(value)
        if isinstance(default, int):
            return int(value)
        if isinstance(default, float):
            return float(value)
    except (KeyError, TypeError, ValueError):
        kind = {bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
        raise InvalidOption(f"{name} must be {kind}, not {value!r}") from None
    return value


def _names(option: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidOption(f"{option} must be a list of queues, not {value!r}")
    return tuple(check_queue_name(each) for each in value)


@dataclass(frozen=True)
class Settings:
    """The app's ``pgjobs_*`` settings; durations in seconds."""

    #: Run the maintenance services (stage due jobs, ...) inside this worker.
    maintenance: bool = True
    #: How long a worker's node row may stay without a heartbeat before others take its jobs. With
    #: the interval: a killed worker's jobs are back within 15 s, a stall of 10 s is survived.
    lease: float = 13.0
    #: How often a worker renews its node row.
    heartbeat_interval: float = 2.0
    #: How long completed jobs are kept; 0: for ever. Unless it is set, Celery's
    #: ``result_expires`` counts, a day by default; but at most a day where results are kept
    #: elsewhere.
    prune_max_age: float = 86_400.0
    #: How long discarded and cancelled jobs are kept; 0 for ever. Unless it is set, Celery's
    #: ``result_failure_expires`` counts, if that is set, or ``pgjobs_prune_max_age``; otherwise a
    #: week, or ``result_expires`` if that is longer.
    prune_failed_max_age: float = 7 * 86_400.0
    #: How many finished jobs of each state are kept at most; 0 for any number.
    prune_max_count: int = 0
    #: The queues that this worker consumes from unless ``-Q`` names others, each with the most of
    #: its jobs that this worker runs at once, or with a dict of its rules. A queue that is not
    #: listed has none.
    queues: Mapping[str, Any] | None = None
    #: ``"global"``: Celery's ``rate_limit`` of a task holds for all workers together; ``"worker"``:
    #: for each by itself, as Celery has it.
    rate_limits: str = WORKER
    #: How long the audit keeps who did what; 0 for ever.
    audit_max_age: float = 90 * 86_400.0
    #: The actor for the audit where no :func:`pgjobs_celery.acting_as` says so: a name, or a
    #: function without arguments that returns one, or None where it knows none.
    actor: str | Callable[[], str | None] | None = None
    #: Write the log of a worker as JSON lines, with the job that each belongs to.
    log_json: bool = False
    #: How long a chord may take from one of its tasks to the next before it fails; 0 for ever.
    #: Unless it is set, Celery's ``result_chord_expires`` counts, or its ``result_expires``.
    chord_max_age: float = 86_400.0
    #: A result that was never stored (an ignored one, or Ignore) reads as its job ended, SUCCESS or
    #: FAILURE, instead of the state that was stored last.
    result_from_row: bool = False
    #: For how many pairs of task and queue metrics are counted apart; those beyond it count
    #: together, as task and queue ``other``.
    metrics_limit: int = 500
    #: The port on which this worker answers ``/live``, ``/ready`` and ``/metrics``; 0 for none.
    http_port: int = 0
    #: The address at which it listens there.
    http_address: str = "0.0.0.0"
    #: How large the value of a step, or the payload of a signal, may be, in bytes.
    step_max_size: int = 256 * 1024
    #: How often a job with steps may be cut off, by a shutdown or with its worker, and lose no
    #: attempt by it.
    max_interruptions: int = 20
    #: How long a signal is kept that no job has taken, of a job that is not there or to a key.
    signal_max_age: float = 30 * 86_400.0
    #: For rehearsals and tests: the time, with its offset, that beats begin with. None: the
    #: server's.
    beat_clock_origin: str | datetime | None = None
    #: The moment when they begin with it, by the server's clock; the same for all beats.
    beat_clock_anchor: str | datetime | None = None
    #: How many of beat's seconds pass in one.
    beat_clock_speed: float = 1.0

    @property
    def queue_rules(self) -> dict[str, QueueRules]:
        """The rules of each queue in ``pgjobs_queues``."""
        return {
            check_queue_name(name): read_queue_rules(name, value)
            for name, value in (self.queues or {}).items()
        }


def read_settings(conf: Mapping[str, Any]) -> Settings:
    """The ``pgjobs_*`` settings in Celery's configuration.

    Raises UnknownOption for a ``pgjobs_*`` name that does not exist, naming the nearest one,
    and InvalidOption for a value that cannot be used.
    """
    chosen = _read_given(conf)
    expires = _seconds(conf.get("result_expires", Settings.prune_max_age))
    failure_expires = conf.get("result_failure_expires")
    if _are_results_elsewhere(conf):
        # Rows that hold no results need not be kept for longer than these say.
        expires = min(expires or math.inf, Settings.prune_max_age)
        failed = min(_seconds(failure_expires) or math.inf, Settings.prune_failed_max_age)
    elif failure_expires is not None:
        failed = _seconds(failure_expires)
    else:
        failed = max(expires, Settings.prune_failed_max_age) if expires else 0.0
    if failure_expires is None and "prune_max_age" in chosen:
        failed = chosen["prune_max_age"]  # one number covers all jobs
    chosen.setdefault("prune_max_age", expires)
    chosen.setdefault("prune_failed_max_age", failed)
    chord_expires = conf.get("result_chord_expires")
    chosen.setdefault(
        "chord_max_age", expires if chord_expires is None else _seconds(chord_expires)
    )
    settings = Settings(**chosen)
    ages = (
        "prune_max_age", "prune_failed_max_age", "audit_max_age", "chord_max_age",
        "signal_max_age",
    )  # fmt: skip
    for name in (*ages, "prune_max_count", "max_interruptions"):
        if getattr(settings, name) < 0:
            raise InvalidOption(f"pgjobs_{name} must be 0 or more, not {getattr(settings, name)}")
    if not 0 < settings.heartbeat_interval < settings.lease:
        raise InvalidOption(
            f"pgjobs_heartbeat_interval ({settings.heartbeat_interval}) must be above 0 and "
            f"below pgjobs_lease ({settings.lease})"
        )
    if not 0 <= settings.http_port <= 65535:
        raise InvalidOption(f"pgjobs_http_port must be from 0 to 65535, not {settings.http_port}")
    if settings.step_max_size < 1:
        raise InvalidOption(f"pgjobs_step_max_size must be 1 or more, not {settings.step_max_size}")
    if settings.metrics_limit < 1:
        raise InvalidOption(f"pgjobs_metrics_limit must be 1 or more, not {settings.metrics_limit}")
    _check_flow(settings)
    if not (settings.actor is None or isinstance(settings.actor, str) or callable(settings.actor)):
        raise InvalidOption(f"pgjobs_actor must be a name or a function, not {settings.actor!r}")
    return settings


def read_flow_settings(conf: Mapping[str, Any]) -> Settings:
    """As :func:`read_settings`, for what a publisher must know: the rules of queues, and
    ``rate_limits``. Another setting that is wrong is the worker's matter."""
    chosen = _read_given(conf, ("queues", "rate_limits"))
    settings = Settings(**chosen)
    _check_flow(settings)
    return settings


def read_setting(conf: Mapping[str, Any], name: str) -> Any:
    """One setting alone, in 10 µs: :func:`read_settings` takes 0.5 ms, for all names are looked at.

    Another setting that is wrong is the worker's matter. Raises InvalidOption.
    """
    key, prefix = f"pgjobs_{name}", getattr(conf, "prefix", None) or ""
    default = getattr(Settings, name)
    names = (key, key.upper(), f"{prefix}{key}".lower(), f"{prefix}{key}".upper())
    for written in dict.fromkeys(names):
        if (value := conf.get(written)) is not None:
            return _coerce(key, value, default)
    return default


def _read_given(conf: Mapping[str, Any], only: Iterable[str] = ()) -> dict[str, Any]:
    """The settings that are given, or only these of them. Raises UnknownOption."""
    known = {f"pgjobs_{field.name}": field for field in fields(Settings)}
    wanted = {f"pgjobs_{name}" for name in only} or known
    # Celery keeps the names as they were written: PGJOBS_LEASE, or CELERY_PGJOBS_LEASE with
    # config_from_object(..., namespace="CELERY"). It reads them, and its prefix, when first asked.
    names = sorted(conf)
    namespace = (getattr(conf, "prefix", None) or "").lower()
    chosen: dict[str, Any] = {}
    for written in names:
        key = written.lower().removeprefix(namespace)
        if not key.startswith("pgjobs_"):
            continue
        if key not in wanted:
            if only:
                continue
            raise UnknownOption(f"there is no setting {key!r}{did_you_mean(key, known)}")
        value = conf.get(key)  # Celery's own look-up, in case it is there twice
        value = conf.get(written) if value is None else value
        if value is not None:
            chosen[known[key].name] = _coerce(key, value, known[key].default)
    return chosen


def _are_results_elsewhere(conf: Mapping[str, Any]) -> bool:
    """True if another backend keeps the results, or none does."""
    return not str(conf.get("result_backend") or "").startswith("pgjobs")


def _check_flow(settings: Settings) -> None:
    if settings.rate_limits not in (WORKER, GLOBAL):
        raise InvalidOption(
            f"pgjobs_rate_limits must be {WORKER!r} (each worker by itself, as in Celery) or "
            f"{GLOBAL!r} (all workers together), not {settings.rate_limits!r}"
        )
    if settings.queues is not None and not isinstance(settings.queues, Mapping):
        raise InvalidOption(
            "pgjobs_queues must be a dict of queues with how many of their jobs run at once, such "
            f'as {{"emails": 20}}, or with a dict of rules, not {settings.queues!r}'
        )
    _ = settings.queue_rules


def check_queue_name(name: Any) -> str:
    """The name; raises InvalidOption if a queue cannot have it."""
    if not isinstance(name, str) or not name or "\x00" in name:
        raise InvalidOption(f"a queue cannot be called {name!r}")
    return name


def _seconds(expires: Any) -> float:
    """Celery's ``result_expires``: seconds, a timedelta, or None for ever."""
    if isinstance(expires, timedelta):
        return expires.total_seconds()
    return float(expires or 0)


_warned: set[str] = set()


def is_news(text: str) -> bool:
    """True the first time that a process is warned of this."""
    if text in _warned:
        return False
    _warned.add(text)
    return True

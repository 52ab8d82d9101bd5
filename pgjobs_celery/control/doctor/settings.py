"""Decide about an app's settings: what has no effect here, and what hurts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from celery.app.defaults import DEFAULTS

from ...config import Options, read_options, read_settings
from ...db.dsn import Target, hide_secrets, our_urls
from ...errors import PgJobsError
from .findings import Finding, finding

if TYPE_CHECKING:
    from ...config import Settings

OPTIONS = ("broker_transport_options", "result_backend_transport_options")

#: Celery's settings that change nothing here, each with the reason.
WITHOUT_EFFECT = {
    "broker_heartbeat": "a worker sends heartbeats of its own; see pgjobs_heartbeat_interval",
    "broker_heartbeat_checkrate": "a worker sends heartbeats of its own",
    "broker_login_method": "libpq and pg_hba.conf settle how a role logs in",
    "broker_native_delayed_delivery_queue_type": "a job that is not due waits in its row",
    "task_create_missing_queue_type": "queues are of one type",
    "task_default_queue_type": "queues are of one type, and each job is durable",
    "worker_eta_task_limit": "a job that is not due waits in its row, and not in a worker",
    "worker_prefetch_multiplier": "a worker claims what its pool can begin; this is no more than an"
    " upper bound",
}
#: Those of result backends that are not ours, by how they begin.
OTHER_BACKENDS = (
    "arangodb_", "azureblockblob_", "cache_", "cassandra_", "cosmosdbsql_", "couchbase_",
    "database_", "elasticsearch_", "gcs_", "mongodb_", "redis_", "s3_",
)  # fmt: skip
#: Those of the rpc backend.
RPC = ("result_exchange", "result_exchange_type", "result_persistent")
#: A shorter lease is taken for a death when a machine is busy, in seconds.
SHORTEST_LEASE = 5.0


def look_at_settings(app: Any) -> Iterator[Finding]:
    """The settings of an app, as they are at this moment; those of its workers may differ."""
    conf = app.conf
    try:
        settings = read_settings(conf)
        options = {name: read_options(conf.get(name)) for name in OPTIONS}
    except PgJobsError as error:
        yield finding("settings_refused", f"{error}.", "Correct it: a worker ends with this error")
        return
    for name, (_, warnings) in options.items():
        for warning in warnings:
            yield finding(
                "setting_ignored",
                f"{name}: {warning}.",
                f"Take it out of {name}, or correct its name",
                f"{name}: {warning.split(chr(39))[1]}",
            )
    is_here = bool(our_urls(conf.broker_url))
    yield from _without_effect(conf, is_here, options["broker_transport_options"][0])
    yield from _results(conf, settings, is_here)
    if is_here:
        yield from _harmful(conf, settings)


def _changed(conf: Any, name: str) -> bool:
    """True where a setting is not Celery's default."""
    value = conf.get(name)
    return name in DEFAULTS and value is not None and value != DEFAULTS[name]


def _without_effect(conf: Any, is_here: bool, options: Options) -> Iterator[Finding]:
    known: Mapping[str, str] = WITHOUT_EFFECT if is_here else {}
    found = {name: reason for name, reason in known.items() if _changed(conf, name)}
    if our_urls(conf.result_backend):
        foreign = [name for name in DEFAULTS if name.startswith(OTHER_BACKENDS) or name in RPC]
        found |= {
            name: "it belongs to another result backend" for name in foreign if _changed(conf, name)
        }
    for name, reason in sorted(found.items()):
        yield finding(
            "setting_ignored",
            f"{name} is set, and has no effect here: {reason}.",
            f"Take {name} out of the settings",
            name,
        )
    if is_here and conf.get("task_queue_max_priority") and options.priority_order == "asc":
        yield finding(
            "setting_ignored",
            "task_queue_max_priority is set, as for RabbitMQ, where the highest priority runs"
            " first. Every queue has 256 priorities here, and 0 runs first unless priority_order"
            " says otherwise.",
            'Set {"priority_order": "desc"} in broker_transport_options, or take'
            " task_queue_max_priority out",
            "task_queue_max_priority",
        )


def _results(conf: Any, settings: Settings, is_here: bool) -> Iterator[Finding]:
    backend, ours = conf.result_backend, our_urls(conf.result_backend)
    if is_here and backend and not ours:
        shown = hide_secrets(str(backend)) if "://" in str(backend) else str(backend)
        yield finding(
            "results_elsewhere",
            f"result_backend is {shown}: a result and the end of its job are not one commit, and"
            " each result costs a round trip of its own.",
            "Set result_backend to the broker_url, unless other programs read results there",
            "result_backend",
        )
    elif is_here and ours and _place(conf.broker_url, 0, conf) != _place(backend, 1, conf):
        yield finding(
            "results_elsewhere",
            f"Jobs are at {Target(our_urls(conf.broker_url)[0])}, and results at"
            f" {Target(ours[0])}, or in another schema: each is then two rows, and two commits.",
            "Give result_backend the URL, and the schema, of broker_url",
            "result_backend",
        )
    if (is_here or ours) and not settings.prune_max_age and not settings.prune_max_count:
        yield finding(
            "jobs_kept_for_ever",
            "Neither result_expires nor pgjobs_prune_max_age sets an age, and"
            " pgjobs_prune_max_count no number: the table of jobs grows without a bound.",
            "Set pgjobs_prune_max_age, in seconds",
            "result_expires",
        )


def _place(setting: Any, number: int, conf: Any) -> tuple[Any, str]:
    schemas = [(conf.get(name) or {}).get("schema") for name in OPTIONS]
    schema = schemas[number] or schemas[0] or Options.schema
    return {Target(url).conninfo for url in our_urls(setting)}, schema


def _harmful(conf: Any, settings: Settings) -> Iterator[Finding]:
    if conf.task_always_eager:
        yield finding(
            "always_eager",
            "task_always_eager is on: a task runs in the process that calls it, and no row tells"
            " of it.",
            "Take task_always_eager out; tests have pgjobs_celery.testing",
            "task_always_eager",
        )
    if not conf.broker_connection_retry:
        yield finding(
            "no_reconnect",
            "broker_connection_retry is off: a restart of the server ends every worker.",
            "Take broker_connection_retry out of the settings",
            "broker_connection_retry",
        )
    if conf.broker_use_ssl:
        yield finding(
            "ssl_setting_ignored",
            "broker_use_ssl is set, and has no effect: libpq takes TLS from the URL.",
            "Add sslmode=verify-full and sslrootcert to broker_url, and take broker_use_ssl out",
            "broker_use_ssl",
        )
    if settings.lease < SHORTEST_LEASE:
        yield finding(
            "lease_short",
            f"pgjobs_lease is {settings.lease:g} s: a worker that is stopped for as long, by a"
            " busy machine or a snapshot of it, loses its jobs to others while it runs them.",
            "Take pgjobs_lease out of the settings: 13 s",
            "pgjobs_lease",
            seconds=settings.lease,
        )
    if conf.worker_enable_remote_control is False:
        yield finding(
            "remote_control_off",
            "worker_enable_remote_control is off: celery inspect and control, Flower and revokes"
            " of messages that are no jobs reach no worker. Cancelling a job works all the same.",
            "Take worker_enable_remote_control out, if you use any of these",
            "worker_enable_remote_control",
        )
    if conf.task_reject_on_worker_lost and not conf.task_acks_late:
        yield finding(
            "worker_lost_ignored",
            "task_reject_on_worker_lost is on, and task_acks_late is off: a task that was"
            " acknowledged when it began is not put back.",
            "Set task_acks_late, or let tasks be a PgTask, which needs neither",
            "task_reject_on_worker_lost",
        )

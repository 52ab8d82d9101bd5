"""List what we patch of Celery, kombu, billiard and psycopg, or use although its name is private.

python -m tests.worker.celery_internals > docs/explanation/celery-internals.md
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "celery-internals.md"

#: Ways to use a name: we put ours in its place; a class of ours overrides it; we read or call it.
REPLACED, OVERRIDDEN, USED = "replaced", "overridden", "used"


class Internal(NamedTuple):
    """A name of another package on which we rely."""

    owner: str
    name: str
    how: str
    why: str
    #: The test that fails when its meaning changes.
    test: str
    #: The first release of Celery, or kombu, that has it, where an older one is supported.
    since: tuple[int, ...] = ()


REQUEST = "celery.worker.request:Request"
CONSUMER = "celery.worker.consumer.consumer:Consumer"
POOL = "billiard.pool:Pool"
ASYNPOOL = "celery.concurrency.asynpool"
RESULT = "billiard.pool:ApplyResult"
CRONTAB = "celery.schedules:crontab"
CONNECTION = "kombu.connection:Connection"
APP = "celery.app.base:Celery"
BACKEND = "celery.backends.base:Backend"

PIPES = "tests/worker/test_pipes.py"
PIPE_IO = "tests/worker/test_pipe_io.py"
HUB = "tests/e2e/test_cancel.py::test_a_worker_passes_jobs_that_have_expired_without_a_wait_between"
STALLS = "tests/e2e/test_stalls.py"
POOL_SIZES = "tests/e2e/test_pool_sizes.py"
LAST_WORDS = "tests/e2e/test_last_words.py"
SHUTDOWN = "tests/e2e/test_shutdown.py"
CANCEL = "tests/e2e/test_cancel.py"
SENT = "tests/e2e/test_sent_tasks.py"
KILLED = "tests/e2e/test_killed_tasks.py"
OUTCOMES = "tests/e2e/test_outcomes.py"
HOSTILE = "tests/e2e/test_hostile_messages.py"
COROUTINES = "tests/e2e/test_coroutines.py"
OVERSEEING = "tests/e2e/test_overseeing.py"
CLIENT = "tests/broker/test_client.py"
ENQUEUE_MANY = "tests/publishing/test_enqueue_many.py"
BULK = "tests/publishing/test_bulk.py"
NEXT_TICK = "tests/beat/test_next_tick.py"
CAPTURE = "tests/testing/test_capture.py"
EAGER = "tests/tasks/test_eager.py"
EXECUTION = "tests/testing/test_drain.py"

INTERNALS = [
    # A worker's parts.
    Internal(CONSUMER, "create_task_handler", REPLACED,
             "a message that raises would end the worker, and the next one as well", HOSTILE),
    Internal(CONSUMER, "on_invalid_task", REPLACED,
             "the row gets the reason why its message cannot be read", HOSTILE),
    Internal(CONSUMER, "on_decode_error", REPLACED,
             "the same for a body that cannot be decoded", HOSTILE),
    Internal(CONSUMER, "add_task_queue", REPLACED,
             "an error about a queue that remote control adds would end the worker",
             "tests/e2e/test_remote_control.py"),
    Internal(CONSUMER, "update_strategies", REPLACED,
             "tasks get our request class before Celery makes their strategies",
             "tests/worker/test_steps.py"),
    Internal("celery.worker.worker:WorkController", "wait_for_soft_shutdown", REPLACED,
             "what waits goes back in line at once, and what ends meanwhile is heard",
             STALLS + "::test_what_happens_in_a_soft_shutdown_is_heard_in_it"),
    Internal("celery.worker.worker:WorkController", "terminate", REPLACED,
             "ends a pool whose end a signal handler had to leave to the interrupted code",
             "tests/e2e/test_leaving.py"),
    Internal("celery.apps.worker", "on_cold_shutdown", USED,
             "the signal handler that ends the pool, known by its name",
             "tests/e2e/test_leaving.py"),
    Internal("celery.worker.consumer.gossip:Gossip", "on_message", REPLACED,
             "an event that cannot be read would end the worker",
             HOSTILE + "::test_hostile_commands_events_and_plain_messages_stop_nobody"),
    Internal("celery.worker.consumer.gossip:Gossip", "get_consumers", REPLACED,
             "the same for a body that cannot be decoded",
             HOSTILE + "::test_hostile_commands_events_and_plain_messages_stop_nobody"),
    Internal("celery.worker.consumer.gossip:Gossip", "compatible_transports", REPLACED,
             "Celery lists by name the transports on which workers hear of each other",
             "tests/e2e/test_gossip.py"),
    Internal("celery.worker.consumer.mingle:Mingle", "compatible_transports", REPLACED,
             "Celery lists by name the transports on which workers synchronise",
             "tests/e2e/test_gossip.py"),
    Internal("celery.events.dispatcher:EventDispatcher", "on_send_buffered", REPLACED,
             "Celery sends the events of each turn of its loop, which costs as much as a task",
             "tests/worker/test_events.py"),
    Internal("celery.events.dispatcher:EventDispatcher", "buffer_limit", REPLACED,
             "the same", "tests/worker/test_events.py"),
    Internal("celery.worker.control:Panel", "data", REPLACED,
             "`inspect scheduled` and `query_task` answer for the jobs that wait in their rows",
             "tests/e2e/test_waiting_jobs.py"),
    Internal("celery.app.amqp:Queues", "_consume_from", USED,
             "tells a worker with `-Q` from one without, before `pgjobs_queues` chooses",
             "tests/worker/test_steps.py::test_what_was_selected_stays"),
    Internal("celery._state", "_task_stack", USED,
             "a retry that the main process publishes is published by its task",
             KILLED + "::test_a_task_that_is_retried_when_its_worker_is_lost_waits_as_retryable"),
    # A task's request in the main process.
    Internal("celery.app.task:Task", "Request", REPLACED,
             "Celery's extension point: a request that tells the row what becomes of its task",
             OUTCOMES),
    Internal(REQUEST, "on_success", OVERRIDDEN,
             "Celery specialises it for each task, after us", OUTCOMES),
    Internal(REQUEST, "execute_using_pool", OVERRIDDEN,
             "the pool's tracer takes the result to the main process", OUTCOMES),
    Internal(REQUEST, "_announce_revoked", OVERRIDDEN,
             "a revoked, expired or terminated task is cancelled in its row", CANCEL),
    Internal(REQUEST, "_announce_cancelled", OVERRIDDEN,
             "a task that a cold shutdown ends may have ended by itself, unheard", SHUTDOWN),
    Internal(REQUEST, "_retry_worker_lost", OVERRIDDEN,
             "`task_retry_on_worker_lost` puts the row back in line",
             KILLED + "::test_a_task_that_is_retried_when_its_worker_is_lost_waits_as_retryable",
             since=(5, 7)),
    Internal(REQUEST, "_already_revoked", USED,
             "a revoked task is settled once, whatever else its pool reports", CANCEL),
    Internal(REQUEST, "_already_cancelled", USED,
             "a killed greenlet reports at once that it was killed", SHUTDOWN),
    Internal(REQUEST, "_apply_result", USED,
             "tells whether a process of the pool was sent the task", CANCEL),
    Internal(REQUEST, "_context", USED,
             "the task's context, for its next delay and for signals", KILLED),
    Internal(REQUEST, "_ignore_result", USED,
             "a task whose result is ignored leaves none in its row",
             OUTCOMES + "::test_a_task_whose_result_is_ignored_is_completed"),
    Internal(REQUEST, "_message", USED, "the message, and with it the claim", OUTCOMES),
    Internal(REQUEST, "_request_dict", USED,
             "the eta, the attempt and the group of a task", OUTCOMES),
    # The prefork pool.
    Internal("celery.concurrency.base:BasePool", "_pool", USED,
             "billiard's pool behind Celery's", POOL_SIZES),
    Internal("celery.concurrency.base:BasePool", "stop", REPLACED,
             "a signal handler must not end the pool on top of code that may hold a lock",
             "tests/e2e/test_leaving.py"),
    Internal("celery.concurrency.base:BasePool", "flush", REPLACED,
             "Celery forgets what it has sent when the connection is lost; the child runs it",
             SENT),
    Internal(POOL, "close", REPLACED,
             "a child that dies while it writes would keep its worker from leaving",
             SHUTDOWN
             + "::test_a_child_that_dies_while_it_writes_does_not_keep_its_worker_from_leaving"),
    Internal(POOL, "_iterinactive", REPLACED,
             "a pool that shrinks would end a child that was sent a task", POOL_SIZES),
    Internal(POOL, "_pool", USED, "the children", POOL_SIZES),
    Internal(POOL, "_cache", USED, "what the pool was given, and has not reported the end of",
             OVERSEEING),
    Internal(POOL, "_state", USED, "tells a pool that runs from one that closes", SHUTDOWN),
    Internal(POOL, "_timeout_handler", USED,
             "its warning of a soft time limit is given once", STALLS),
    Internal(POOL, "_result_handler", USED, "reads a child's pipe", STALLS),
    Internal("billiard.pool:TimeoutHandler", "on_soft_timeout", REPLACED,
             "timers and the closed pool warn of the same limit, each by itself",
             STALLS + "::test_a_task_is_told_once_that_its_time_is_over"),
    Internal(f"{ASYNPOOL}:AsynPool", "_on_soft_timeout", REPLACED,
             "pipes are read before a time limit is judged", STALLS),
    Internal(f"{ASYNPOOL}:AsynPool", "_on_hard_timeout", REPLACED,
             "pipes are read before a time limit is judged", STALLS),
    Internal("billiard.pool:ResultHandler", "check_timeouts", REPLACED,
             "the same while the pool is closed", STALLS),
    Internal("billiard.pool:ResultHandler", "join_exited_workers", REPLACED,
             "the same; Celery looks at the pipes one by one, half a second each", STALLS),
    Internal("billiard.pool:ResultHandler", "stop", REPLACED,
             "nobody reads the pipes once the last task has ended, and a child that cannot write "
             "does not leave", LAST_WORDS),
    Internal("billiard.process:BaseProcess", "_is_alive", USED,
             "the children that have yet to leave", LAST_WORDS),
    Internal("billiard.process:BaseProcess", "_popen", USED,
             "tells by its sentinel that a child has left", LAST_WORDS),
    Internal(f"{ASYNPOOL}:AsynPool", "_fileno_to_outq", USED, "the children by their pipes",
             STALLS),
    Internal(f"{ASYNPOOL}:AsynPool", "_create_write_handlers", REPLACED,
             "makes `_quick_put` and `on_poll_start` anew for each event loop", PIPES),
    Internal(f"{ASYNPOOL}:AsynPool", "_quick_put", REPLACED,
             "a child that waits wakes for each of Celery's two writes of a task; one takes it "
             "there whole", PIPES),
    Internal(f"{ASYNPOOL}:AsynPool", "on_poll_start", REPLACED,
             "Celery asks the event loop in each turn which pipes can be written; those of "
             "children that run nothing can", PIPES),
    Internal(f"{ASYNPOOL}:AsynPool", "sched_strategy", USED,
             "with `-O fast` Celery also sends to children that run something", PIPES),
    Internal("kombu.asynchronous.hub:Hub", "consolidate_callback", USED,
             "Celery's writer of waiting tasks to such pipes", PIPES),
    Internal("kombu.asynchronous.hub:Hub", "consolidate", USED,
             "the pipes that Celery has asked for", PIPES),
    Internal("kombu.asynchronous.hub:Hub", "_ready", USED,
             "calls that the event loop makes when it has waited: it must not wait then", HUB),
    Internal(f"{ASYNPOOL}:ResultHandler", "_recv_message", REPLACED,
             "Celery reads one message of a child in a turn of the event loop, in two parts",
             PIPE_IO),
    Internal(f"{ASYNPOOL}:AsynPool", "_all_inqueues", USED, "the children that can be sent tasks",
             PIPES),
    Internal(f"{ASYNPOOL}:AsynPool", "_active_writes", USED,
             "the children that are being sent one", PIPES),
    Internal(f"{ASYNPOOL}:AsynPool", "_busy_workers", USED,
             "a child that was sent a task stays busy through a flush",
             SENT),
    Internal(f"{ASYNPOOL}:AsynPool", "_put_back", USED,
             "a task whose child died before it began is sent to another",
             SENT),
    Internal(f"{ASYNPOOL}:AsynPool", "outbound_buffer", USED,
             "tells what was not sent yet; only this pool has it", POOL_SIZES),
    Internal(RESULT, "discard", REPLACED,
             "a flush would forget a task that was sent", SENT),
    Internal(RESULT, "_accepted", USED, "tells whether a child has begun the task", CANCEL),
    Internal(RESULT, "_worker_pid", USED, "the child that has begun it", POOL_SIZES),
    Internal(RESULT, "_job", USED, "its number in the pool", POOL_SIZES),
    Internal(ASYNPOOL, "_write_to", USED, "the child that it was sent to", POOL_SIZES),
    Internal(ASYNPOOL, "_scheduled_for", USED, "the child that it is being sent to", POOL_SIZES),
    Internal(ASYNPOOL, "_payload", USED,
             "a task without one could not be sent, and the pool would wait for it; its two parts "
             "are written as one", PIPES),
    Internal("billiard.queues:_SimpleQueue", "_reader", USED, "a child's pipe, our end", STALLS),
    Internal("billiard.queues:_SimpleQueue", "_writer", USED, "a child's pipe, its end", SHUTDOWN),
    Internal("billiard.pool", "ExceptionInfo", REPLACED,
             "in a child: a failure longer than a pipe holds would block the child",
             STALLS + "::test_a_failure_of_any_size_is_told_when_nobody_listened"),
    Internal("celery.concurrency.gevent:TaskPool", "_pool_map", USED,
             "tells whether greenlets run", OVERSEEING),
    Internal("celery.concurrency.base:BasePool", "_get_info", OVERRIDDEN,
             "`inspect stats` tells how many coroutines run", COROUTINES),
    # Publishing.
    Internal("celery._state", "get_current_task", USED,
             "the task that publishes; Celery's public proxy costs more",
             "tests/e2e/test_chords.py"),
    Internal("kombu.transport", "TRANSPORT_ALIASES", REPLACED,
             "kombu finds transports in this table and nowhere else", CLIENT),
    Internal(CONNECTION, "_init_params", REPLACED,
             "a connection shows port, user and database before it connects",
             CLIENT + "::test_a_broker_can_be_named_in_parts_and_switched_to"),
    Internal(CONNECTION, "_initial_params", USED,
             "a clone shows no password either", CLIENT + "::test_no_password_is_shown"),
    Internal(CONNECTION, "hostname", REPLACED, "no log line shows a password",
             CLIENT + "::test_no_password_is_shown"),
    Internal(CONNECTION, "cycle", REPLACED, "the same for the URLs that follow",
             CLIENT + "::test_no_password_is_shown"),
    Internal(CONNECTION, "uri_prefix", REPLACED,
             "kombu would write it in front of each connection made like this one",
             CLIENT + "::test_a_clone_and_a_pickled_connection_keep_their_options"),
    Internal(CONNECTION, "declared_entities", USED,
             "what a transaction that was rolled back has declared is declared again",
             "tests/beat/test_scheduler.py"),
    Internal(CONNECTION, "_reraise_as_library_errors", USED,
             "`enqueue_many()` raises what `apply_async()` raises", ENQUEUE_MANY),
    Internal("kombu.messaging:Producer", "_prepare", USED,
             "`bulk()` publishes without kombu's work for another try", BULK),
    Internal("kombu.messaging:Producer", "_delivery_details", USED,
             "`bulk()` publishes without kombu's work for another try", BULK),
    Internal("kombu.message:Message", "_decode", OVERRIDDEN,
             "a body that cannot be decoded is known by its error", HOSTILE),
    Internal("kombu.message:Message", "_decoded_cache", USED,
             "a message is as kombu makes it, in a tenth of the time",
             "tests/broker/test_channel.py"),
    Internal("kombu.message:Message", "_state", USED,
             "a message is as kombu makes it, in a tenth of the time",
             "tests/broker/test_channel.py"),
    Internal("celery.app.task:Task", "apply_async", REPLACED,
             "plain tasks are collected in a block of `bulk()`, and published in less time when "
             "they are called again, as a `PgTask` is, once a process publishes to us",
             "tests/publishing/test_written_at_once.py"),
    Internal(APP, "_local", USED,
             "a thread's knowledge of an app's calls, which must end with the app",
             "tests/publishing/test_written_at_once.py::test_an_app_that_is_dropped_goes"),
    Internal("celery.app.task:Task", "_get_exec_options", USED,
             "`enqueue_many()` works a task's options out once", ENQUEUE_MANY),
    Internal("celery.app.task:Task", "_dump_pydantic_arguments", USED,
             "a task with pydantic's models is published by `apply_async()`", ENQUEUE_MANY,
             since=(5, 7)),
    Internal("celery.local:Proxy", "_get_current_object", USED,
             "the task or the app behind a proxy",
             ENQUEUE_MANY + "::test_a_shared_task_is_the_one_of_its_app"),
    # Tasks and results.
    Internal("celery.app.task:Task", "_get_request", USED,
             "the request of a task that runs, without a property's cost",
             "tests/tasks/test_task.py"),
    Internal("celery.app.task:Task", "_get_app", USED, "a task's app, as Celery finds it",
             "tests/tasks/test_task.py"),
    Internal("celery.app.task:Task", "on_bound", REPLACED,
             "plain tasks that are coroutines run eagerly; Celery calls it for each task, and it "
             "does nothing", EAGER),
    Internal("celery._state", "_get_active_apps", USED, "the same for tasks that came before",
             EAGER),
    Internal(APP, "_tasks", USED, "the same: to ask for the tasks themselves would finalize an app",
             EAGER),
    Internal("celery.app.autoretry", "_orig_run", REPLACED,
             "a `PgTask` retries by itself, and Celery's autoretry stays away; a plain task's "
             "sees what its coroutine raises", EAGER),
    Internal(APP, "_backend_cache", USED, "an app's backend, if it has one yet", CAPTURE),
    Internal("celery.backends.base:KeyValueStoreBackend", "_get_task_meta_for", OVERRIDDEN,
             "reads a result from its row; also how a task has ended whose process was lost",
             KILLED),
    Internal(BACKEND, "_forget", OVERRIDDEN, "deletes a result from its row",
             "tests/results/test_backend.py"),
    Internal(BACKEND, "_pending_results", USED, "the results that wait",
             "tests/results/test_consumer.py"),
    Internal(BACKEND, "_pending_messages", USED, "the results that came before somebody waited",
             "tests/results/test_consumer.py"),
    Internal("celery.backends.asynchronous:BaseResultConsumer", "_after_fork", USED,
             "a child does not wait for its parent's results", "tests/results/test_consumer.py"),
    Internal("celery.backends.asynchronous:BaseResultConsumer", "_connection_errors", OVERRIDDEN,
             "Celery waits for results anew when the connection is lost",
             "tests/results/test_consumer.py", since=(5, 6, 3)),
    Internal("celery.result:AsyncResult", "_cache", USED,
             "a result that has come is not asked for", "tests/e2e/test_aio.py"),
    Internal("celery.result:AsyncResult", "_maybe_set_cache", USED,
             "hands a result to each that waits for it, before Celery 5.7",
             "tests/results/test_consumer.py"),
    Internal("celery.utils.functional", "_regen", USED,
             "a chord's header that is a generator", "tests/e2e/test_chords.py"),
    # Beat.
    *(
        Internal(CRONTAB, f"_orig_{field}", USED,
                 "an entry keeps the field of `crontab()` as it was written", NEXT_TICK)
        for field in ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    ),
    Internal("celery.beat:Scheduler", "_heap", USED, "the ticks of this scheduler come from rows",
             "tests/beat/test_scheduler.py"),
    # psycopg.
    Internal("psycopg.waiting", "wait", REPLACED,
             "under eventlet a wait must let the others run", "tests/e2e/test_greenlets.py"),
    Internal("psycopg:Connection", "wait", REPLACED,
             "a server that has vanished is noticed", "tests/e2e/test_reconnect.py"),
    Internal("psycopg:Connection", "_num_transactions", USED,
             "the savepoint that a caller's connection is in",
             "tests/publishing/test_using_psycopg.py"),
    # Tests of applications.
    Internal("celery._state", "_tls", USED, "a task runs as in a worker, with its own current app",
             EXECUTION),
    Internal("celery._state", "_set_current_app", USED, "the same", EXECUTION),
    Internal("celery.app.trace", "_install_stack_protection", USED, "the same", EXECUTION),
    Internal("celery.app.trace", "_stackprotected", USED, "the same", EXECUTION),
    Internal(REQUEST, "_payload", USED, "the arguments of a captured task", EXECUTION),
    Internal(APP, "_pool", REPLACED, "an app's connections while its tasks are captured", CAPTURE),
    Internal(APP, "_local", REPLACED, "the same of its backend", CAPTURE),
    Internal(APP, "_ensure_after_fork", USED, "the same in a child", CAPTURE),
    Internal("celery.app.amqp:AMQP", "_producer_pool", REPLACED, "the same of its producers",
             CAPTURE),
    Internal("kombu.transport.virtual.base:Channel", "_lookup", USED,
             "the queue of a captured task", CAPTURE),
]  # fmt: skip

#: Private names of packages that are not Celery's, and what they are used for.
ELSEWHERE = {
    "_asdict": "a NamedTuple's documented method",
    "_fields": "a NamedTuple's documented attribute",
    "_replace": "a NamedTuple's documented method",
    "_meta": "Django's documented attribute of a model",
    "_connections": "SQLAlchemy's: the connections that a session's transaction has by now",
    "_db": "Django's attribute of a queryset and a manager",
    "_getframe": "Python's frames; in `sys`",
    "_current_frames": "the frames of all threads, documented; in `sys`",
    "_get_running_loop": "asyncio's, which raises nothing where no loop runs",
    "_exit": "the end of a process that does not end by itself; in `os`",
    "_worker": "of Python's threads in an executor: the loop in which each waits",
    "_threads": "of Python's ThreadPoolExecutor",
    "_work_queue": "of Python's ThreadPoolExecutor",
    "_fixturemanager": "pytest's: whether a fixture exists",
    "_wait_port": "pytest-celery's: the port of a container",
}

#: Names of ours that another object of ours is asked for, or a base of ours.
OURS = {
    "_collect", "_flow", "_is_attempt", "_is_complete", "_is_ours", "_is_retried_for",
    "_open", "_points", "_signature", "_start_thread", "_steps",
}  # fmt: skip

#: The classes of Celery's that ours are mixed into.
MIXINS = {
    "pgjobs_celery.worker.request:JobRequest": REQUEST,
    "pgjobs_celery.worker.cancelling:CancelledRequest": REQUEST,
    "pgjobs_celery.worker.losses:LostRequest": REQUEST,
    "pgjobs_celery.worker.tracking:TrackedRequest": REQUEST,
    "pgjobs_celery.results.chords:Chords": BACKEND,
    "pgjobs_celery.results.key_values:KeyValues": BACKEND,
}

HEAD = """\
# Celery's internals that we rely on

Everything of Celery, kombu, billiard and psycopg that this package replaces or overrides, or uses
although its name is private. Each is the smallest hook that we found, and has a test that fails
when its meaning changes. `tests/worker/test_celery_internals.py` fails when a name is gone, or when
the code uses one that is not listed here. It runs on Celery and kombu 5.5, 5.6 and 5.7; a name that
5.5 does not have says since when.

The table is written by `python -m tests.worker.celery_internals`.

| owner | name | | why | test |
|---|---|---|---|---|
"""


def page() -> str:
    """The page about them."""
    rows = [
        f"| `{each.owner}` | `{each.name}`"
        + (f" (since {'.'.join(map(str, each.since))})" if each.since else "")
        + f" | {each.how} | {each.why} | `{each.test}` |"
        for each in INTERNALS
    ]
    others = [f"| `{name}` | {why} |" for name, why in ELSEWHERE.items()]
    return (
        HEAD
        + "\n".join(rows)
        + "\n\nPrivate names of other packages:\n\n| name | what it is |\n|---|---|\n"
        + "\n".join(others)
        + "\n"
    )


if __name__ == "__main__":
    print(page(), end="")

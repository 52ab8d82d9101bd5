"""Decide about queues, workers, messages and chords: what nobody sees to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from shlex import quote
from typing import TYPE_CHECKING

from ...db.rights import quoted
from ...db.rows.doctor import (
    DEPTH,
    MEMBERS,
    Late,
    MessageQueue,
    OpenChord,
    Queue,
    SilentNode,
    StuckFlow,
)
from ..explanation import COMMAND, count, span
from .findings import Finding, finding
from .schema import require

if TYPE_CHECKING:
    from ...db.rows.doctor import Looks
    from .thresholds import Thresholds

MAINTAIN = f"{COMMAND} maintain"
#: Gives back the messages of nodes that are gone.
GIVE_BACK = (
    "UPDATE {0}.messages SET claimed_by = NULL, redelivered = true WHERE claimed_by IS NOT NULL AND"
    " NOT EXISTS (SELECT FROM {0}.nodes WHERE node = claimed_by);"
)


def look_at_work(looks: Looks, limits: Thresholds) -> Iterator[Finding]:
    """What waits, and who should see to it."""
    require(looks)
    yield from decide_late(looks.list_late(), limits)
    yield from decide_nodes(looks.list_silent_nodes(), limits)
    yield from decide_queues(looks.survey_queues(), limits)
    yield from decide_flows(looks.survey_flows(), limits)
    yield from decide_messages(looks.survey_messages(limits.message), looks.schema)
    chords = looks.survey_chords(limits.chord, limits.unsized_chord)
    yield from decide_chords(chords, looks.schema, limits)


def decide_late(found: Iterable[Late], limits: Thresholds) -> Iterator[Finding]:
    """Jobs that are due and not in line, and entries whose tick has passed."""
    for each in found:
        if each.kind == "job" and each.seconds > limits.late_job:
            yield finding(
                "no_maintenance",
                f"Job {each.name} of queue {each.where} has been due for {span(each.seconds)},"
                " and no process has put it in line: no worker runs, or all have"
                " pgjobs_maintenance = False.",
                MAINTAIN,
                each.where,
                task_id=each.name,
                seconds=each.seconds,
            )
        elif each.kind == "entry" and each.seconds > limits.late_tick:
            yield finding(
                "no_beat",
                f"Entry {each.name} of app {each.where} was due {span(each.seconds)} ago: no beat"
                " of that app runs, or none can publish the entry.",
                "celery -A proj beat",
                each.name,
                app=each.where,
                seconds=each.seconds,
            )


def decide_nodes(found: Iterable[SilentNode], limits: Thresholds) -> Iterator[Finding]:
    """Workers that are dead, and that no other one has buried."""
    for each in found:
        if each.live_nodes and each.seconds <= limits.silence:
            continue
        others = (
            f"{count(each.live_nodes, 'node')} lives, and does no maintenance"
            if each.live_nodes == 1
            else f"{count(each.live_nodes, 'node')} live, and do no maintenance"
        )
        yield finding(
            "dead_node",
            f"{each.name} has been past its lease for {span(each.seconds)}:"
            f" {others if each.live_nodes else 'no node lives that could take its jobs'}.",
            f"{MAINTAIN} --once",
            each.name,
            **each._asdict(),
        )


def decide_queues(found: Iterable[Queue], limits: Thresholds) -> Iterator[Finding]:
    """Jobs that no worker will begin."""
    for each in found:
        if each.orphans:
            yield finding(
                "orphan_jobs",
                f"{count(each.orphans, 'job')} of queue {each.name}, such as {each.orphan},"
                f" {_are(each.orphans)} held by a node that has no row.",
                f"{MAINTAIN} --once",
                each.name,
                **each._asdict(),
            )
        if not each.waiting:
            continue
        if each.paused is not None or each.concurrency == 0:
            yield _paused(each)
        elif not each.consumers and (each.seconds or 0) > limits.unconsumed:
            waiting = _waiting(each.waiting, "job")
            yield finding(
                "queue_without_consumer",
                f"{waiting[0].upper()}{waiting[1:]} in queue {each.name}, the oldest for"
                f" {span(each.seconds or 0)}, and no live worker consumes from it.",
                f"celery -A proj worker -Q {quote(each.name)}",
                each.name,
                **each._asdict(),
            )


def decide_flows(found: Iterable[StuckFlow], limits: Thresholds) -> Iterator[Finding]:
    """Pauses and rules by which jobs may wait for ever."""
    for each in found:
        details = each._asdict()
        if each.kind == "pause":
            if each.number > limits.paused:
                where = f" of queue {each.queue}" if each.queue else ""
                option = f"{quote(each.queue)} --key" if each.queue else f"--{each.of}"
                yield finding(
                    "jobs_paused",
                    f"The jobs of {each.of} {each.name}{where} have been paused for"
                    f" {span(each.number)}, without an end.",
                    f"{COMMAND} resume {option} {quote(each.name)}",
                    f"{each.of} {each.name}{where}",
                    **details,
                )
        elif each.kind == "none":
            yield finding(
                "rule_allows_none",
                f"Jobs wait in {count(int(each.number), 'lane')}, such as of queue {each.queue},"
                f" and rule {each.name} lets none of them begin.",
                f"{COMMAND} flows set {quote(each.name)} none",
                each.name,
                **details,
            )
        else:
            yield finding(
                "key_missing",
                f"Rule {each.name} counts by {each.of}, and none of the jobs that wait for it, such"
                f" as in queue {each.queue}, has a value there: all count as one.",
                f"{COMMAND} flows show {quote(each.name)}",
                each.name,
                **details,
            )


def _paused(queue: Queue) -> Finding:
    if queue.paused is None:
        how, remedy = "has limit 0", f"{COMMAND} limit {quote(queue.name)} none"
    else:
        how, remedy = (
            f"was paused {span(queue.paused)} ago",
            f"{COMMAND} resume {quote(queue.name)}",
        )
    return finding(
        "queue_paused",
        f"Queue {queue.name} {how}, and {_waiting(queue.waiting, 'job')} in it, the oldest for"
        f" {span(queue.seconds or 0)}.",
        remedy,
        queue.name,
        **queue._asdict(),
    )


def decide_messages(found: Iterable[MessageQueue], schema: str) -> Iterator[Finding]:
    """Messages that are no jobs, and that nobody takes."""
    for each in found:
        if each.orphans:
            yield finding(
                "orphan_messages",
                f"{count(each.orphans, 'message')} of queue {each.name} {_are(each.orphans)} held"
                " by a node that has no row.",
                GIVE_BACK.format(quoted(schema)),
                each.name,
                **each._asdict(),
            )
        if each.waiting and not each.consumers:
            waiting = _waiting(each.waiting, "message")
            yield finding(
                "unread_messages",
                f"{waiting[0].upper()}{waiting[1:]} in queue {each.name}, the oldest for"
                f" {span(each.seconds or 0)}, and no live process consumes from it.",
                f"celery -A proj purge -f -Q {quote(each.name)}, or start its consumer",
                each.name,
                **each._asdict(),
            )


def decide_chords(found: Iterable[OpenChord], schema: str, limits: Thresholds) -> Iterator[Finding]:
    """Chords whose body will never be published, or should have been."""
    for each in found:
        details = each._asdict()
        literal = each.group_id.replace("'", "''")
        delete = f"DELETE FROM {quoted(schema)}.groups WHERE group_id = '{literal}';"
        if each.size is None:
            yield finding(
                "chord_unsized",
                f"The body of chord {each.group_id} was kept {span(each.seconds)} ago, and its"
                " header was never published to its end: the publisher died, or is still at it.",
                f"Publish the chord again; {delete}",
                each.group_id,
                **details,
            )
            continue
        there, finished = each.there or 0, each.finished or 0
        if there < min(each.size, MEMBERS):
            yield finding(
                "chord_incomplete",
                f"The header of chord {each.group_id} has {count(each.size, 'task')}, and"
                f" {each.size - there:,} of them have no row: they were deleted, or pruned. Its"
                " body fails after pgjobs_chord_max_age.",
                f"Publish the chord again; {delete}",
                each.group_id,
                **details,
            )
        elif finished >= each.size and (each.last or 0) > limits.chord:
            tries = f" It was tried {count(each.attempts, 'time')}." if each.attempts else ""
            yield finding(
                "chord_not_published",
                f"All {count(each.size, 'task')} of the header of chord {each.group_id} have"
                f" finished, the last {span(each.last or 0)} ago, and its body is not"
                f" published.{tries}",
                "celery -A proj worker, with the result_backend of the publisher; its log tells"
                " why a body cannot be published",
                each.group_id,
                **details,
            )


def _waiting(number: int, noun: str) -> str:
    """``1 job waits``, ``at least 100 jobs wait``."""
    more = "at least " if number >= DEPTH else ""
    return f"{more}{count(number, noun)} {'waits' if number == 1 else 'wait'}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"

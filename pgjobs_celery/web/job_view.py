"""The row of a job as its page shows it: read, redacted and made visible."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celery.utils.saferepr import saferepr
from kombu.utils import json as kombu_json
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonTracebackLexer

from ..db.rows.results import StoredResult
from ..db.rows.steps import DoneStep
from ..db.rows.views import ShownJob
from ..errors import UndecodableRow
from ..job.envelope import Envelope, decode_envelope
from ..job.job import Job
from .progress import Progress, progress_of
from .redact import HIDDEN, Redaction, Redactor
from .values import (
    ABSENT,
    Item,
    Number,
    Unread,
    arguments,
    call,
    decode,
    is_cut,
    tree,
    visible,
    write_json,
)

if TYPE_CHECKING:
    from .visit import Visit

#: How much of a traceback is shown: its end.
LONGEST_TRACEBACK = 20_000
#: How long Celery's own representation of arguments is, unless the app says otherwise.
LONGEST_REPR = 1024
#: Up to how many bytes the arguments of one of many jobs are looked through for that.
SMALL = 64 * 1024
#: Stands for a text that may hold what was not read.
BLIND = "[not shown: the arguments were not read, and what is secret among them is not known]"
#: Of what is downloaded.
JSON, TEXT = "application/json", "text/plain"

_PART = re.compile(r"\w+|[^\w\s\[\](){},]")


@dataclass(frozen=True)
class Part:
    """Something that a job was given, or gave: a tree, a text, or why neither is shown."""

    name: str
    item: Item | None = None
    #: As its publisher wrote it, where that is not what Celery would have written.
    text: str = ""
    why: str = ""
    #: Its size in bytes, where it is cut or not shown and can be downloaded.
    size: int | None = None

    @property
    def is_worth_a_file(self) -> bool:
        """It is cut, or too large to be shown at all."""
        return self.size is not None and (self.item is None or is_cut(self.item))

    @property
    def is_absent(self) -> bool:
        """There is none."""
        return self.item is None and not self.text and not self.why


@dataclass
class JobView:
    """A job as it may be shown."""

    row: ShownJob
    redactor: Redactor
    args: Part
    kwargs: Part
    result: Part
    meta: Part
    #: A test that runs it, as Python; empty where its arguments were not read.
    test: str
    progress: Progress | None
    envelope: Envelope | None = None
    #: Its arguments were not read: what has to be hidden elsewhere is not known.
    is_blind: bool = False
    names: Sequence[str] = field(default_factory=list)

    def text(self, text: Any) -> str:
        """A text of the row, such as an error's message, as it may be shown."""
        if not text:
            return ""
        if self.is_blind:
            return BLIND
        return visible(self.redactor.text(str(text)))

    def kind(self, text: Any) -> str:
        """The class of an error: shown of any job, for it names no value."""
        return visible(self.redactor.text(str(text or "")))

    def words(self, text: str) -> str:
        """A text of ours about the job. It tells of an error only where one attempt was made."""
        has_run = self.row.attempt or self.row.errors
        return self.text(text) if has_run else self.kind(text)

    def traceback(self, text: Any) -> Markup:
        """A traceback with its parts told apart by classes."""
        shown = str(text or "")
        shown = self.redactor.places(shown) if self.is_blind else self.redactor.traceback(shown)
        if len(shown) > LONGEST_TRACEBACK:
            shown = "...\n" + shown[-LONGEST_TRACEBACK:]
        return Markup(highlight(visible(shown), _LEXER, _FORMATTER))


_LEXER = PythonTracebackLexer()
_FORMATTER = HtmlFormatter(nowrap=True, classprefix="tb-")


def view_job(row: ShownJob, redaction: Redaction, app: Any = None) -> JobView:
    """A row, as far as it may be shown. ``app`` tells the parameters' names, if it has the task."""
    redactor = redaction.of(row.task)
    envelope = None if row.message is None else _decoded(row.message, row.queue)
    content_type = envelope.content_type if envelope else row.result_type
    names = parameters(app, row.task)
    given = read_given(row.body, row.body_size, content_type)
    result = decode(row.result, row.result_size, row.result_type)
    # What is secret in one is hidden in the others, whichever is shown first.
    redactor.learn(row.meta)
    redactor.learn(result)
    args_part, kwargs_part, args, kwargs = _given_parts(row, given, redactor, names, envelope, app)
    shown_result = result
    if not isinstance(result, Unread):
        shown_result = redactor.value("result", _without_error(result, given))
    # It may be nested deeper than Python goes; what was redacted is not.
    meta = json_again(redactor.value("meta", row.meta))
    return JobView(
        row,
        redactor,
        args_part,
        kwargs_part,
        _part("result", shown_result, row.result_size),
        _part("meta", meta if row.meta else ABSENT, None),
        "" if isinstance(given, Unread) or args_part.text or kwargs_part.text
        else call(row.task, args, kwargs, module_of(app, row.task)),
        progress_of(row, result),
        envelope,
        is_unknown(given),
        names,
    )  # fmt: skip


def view_step(view: JobView, step: DoneStep) -> Part:
    """The value of a step, or the payload of a signal, as it may be shown."""
    if step.size is None:
        return Part("value")
    if view.is_blind:  # a step may return what the job was given
        return Part("value", why=BLIND)
    value = decode(step.value, step.size, step.value_type)
    if isinstance(value, Unread):
        return _part("value", value, None)
    # By its name, too: what the step "token" returns is one.
    named = {step.name: value}
    view.redactor.learn(named)
    shown = view.redactor.value("result", named)
    return _part("value", shown.get(step.name) if isinstance(shown, dict) else shown, None)


def as_job(row: ShownJob) -> Job:
    """The row as its attempts are told of; without what it was given."""
    return Job(
        task_id=row.task_id,
        task=row.task,
        queue=row.queue,
        state=row.state,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        meta=row.meta,
        errors=row.errors,
        attempted_at=row.attempted_at,
        attempted_by=row.attempted_by,
        finished_at=row.finished_at,
    )


def _primed(row: ShownJob, redaction: Redaction, app: Any = None) -> Redactor | None:
    """The cover of the job's secrets in texts; None if what the job was given is not known."""
    redactor = redaction.of(row.task)
    envelope = None if row.message is None else _decoded(row.message, row.queue)
    content_type = envelope.content_type if envelope else row.result_type
    given = read_given(row.body, row.body_size, content_type)
    if is_unknown(given):
        return None
    if not isinstance(given, Unread):
        redactor.given(given[0], given[1], parameters(app, row.task))
    redactor.learn(row.meta)
    return redactor


def without_secrets(
    visit: Visit, texts: Iterable[tuple[str, str, str]]
) -> dict[tuple[str, str, str], str]:
    """Texts about jobs, such as their errors, without what these jobs were given that is secret.

    Each is an id, a task and a text, and comes as it may be shown.
    """
    given = list(texts)
    rows = visit.source.database.views.show_jobs({id for id, _, _ in given}, SMALL)
    known = {row.task_id: row for row in rows}
    return {each: _without_secrets(visit, known.get(each[0]), each[2]) for each in given}


def _without_secrets(visit: Visit, row: ShownJob | None, text: str) -> str:
    # A row that was deleted since was not read either.
    redactor = row and _primed(row, visit.site.redaction, visit.source.app)
    return BLIND if redactor is None else visible(redactor.text(text))


def spelled_again(value: Any) -> Any:
    """Arguments that were read as JSON, as Celery would have read them."""
    try:
        return kombu_json.loads(json.dumps(value))
    except Exception:  # whatever a marker makes of its value
        return value


def read_given(body: bytes | None, size: int | None, content_type: str | None) -> Any:
    """Arguments and keyword arguments as a pair, or an :class:`Unread`."""
    value = decode(body, size, content_type)
    if isinstance(value, Unread):
        return value
    if (
        isinstance(value, list)
        and len(value) >= 2
        and isinstance(value[0], list)
        and isinstance(value[1], dict)
    ):
        return value[0], value[1]
    return Unread("It is not what Celery would have published.")


def is_unknown(given: Any) -> bool:
    """True if a job was given something, and it is not known what: its errors may tell secrets."""
    return isinstance(given, Unread) and given != ABSENT


def _without_error(result: Any, given: Any) -> Any:
    """A result of a failed task without its message, where that may tell a secret."""
    if is_unknown(given) and isinstance(result, dict) and "exc_message" in result:
        return {**result, "exc_message": HIDDEN}
    return result


def _given_parts(
    row: ShownJob,
    given: Any,
    redactor: Redactor,
    names: Sequence[str],
    envelope: Envelope | None,
    app: Any,
) -> tuple[Part, Part, list[Any], dict[str, Any]]:
    headers = envelope.headers if envelope else {}
    if isinstance(given, Unread):
        # Not argsrepr either: what is secret in a text cannot be told.
        return Part("args", why=given.why), Part("kwargs", why=given.why), [], {}
    shown_args, shown_kwargs = redactor.given(given[0], given[1], names)
    spelled = _spelled(row.body)
    chosen = [
        chosen_repr(headers.get(f"{name}repr"), spelled[index], app)
        for index, name in enumerate(("args", "kwargs"))
    ]
    size = row.body_size
    args_part = (
        Part("args", text=visible(redactor.spelled(chosen[0])))
        if chosen[0] is not None
        else Part("args", arguments(shown_args, names), size=size)
    )
    kwargs_part = (
        Part("kwargs", text=visible(redactor.spelled(chosen[1])))
        if chosen[1] is not None
        else Part("kwargs", tree(shown_kwargs), size=size)
    )
    kwargs = shown_kwargs if isinstance(shown_kwargs, dict) else {}
    return args_part, kwargs_part, shown_args, kwargs


def part_in_full(
    row: StoredResult, part: str, redaction: Redaction, app: Any = None
) -> tuple[str, str] | Unread:
    """``args``, ``kwargs`` or ``result`` as a file: its text and media type; redacted as shown."""
    redactor = redaction.of(row.task)
    envelope = None if row.message is None else _decoded(row.message, row.queue)
    content_type = envelope.content_type if envelope else row.result_type
    given = read_given(row.body, None if row.body is None else len(row.body), content_type)
    shown: tuple[Any, ...] = ()
    if not isinstance(given, Unread):
        # Of a result, too: its errors may tell what was given.
        shown = redactor.given(given[0], given[1], parameters(app, row.task))
    if part == "result":
        size = None if row.result is None else len(row.result)
        value = decode(row.result, size, row.result_type)
        if isinstance(value, Unread):
            return value
        return write_json(redactor.value("result", _without_error(value, given))), JSON
    if isinstance(given, Unread):
        return given
    index = ("args", "kwargs").index(part)
    headers = envelope.headers if envelope else {}
    chosen = chosen_repr(headers.get(f"{part}repr"), _spelled(row.body)[index], app)
    if chosen is not None:
        return redactor.spelled(chosen), TEXT
    return write_json(shown[index]), JSON


def _part(name: str, value: Any, size: int | None) -> Part:
    if isinstance(value, Unread):
        return Part(name, why=value.why, size=size)
    return Part(name, tree(value), size=size)


def _decoded(message: str, queue: str) -> Envelope | None:
    try:
        return decode_envelope(message, queue)
    except UndecodableRow:
        return None


def _spelled(body: bytes | None) -> tuple[Any, Any]:
    """The arguments as Python had them, as far as Celery's JSON tells, for their representation."""
    try:
        value = kombu_json.loads(body or b"[]")
        return value[0], value[1]
    except Exception:  # whatever a marker makes of its value
        return None, None


def chosen_repr(given: Any, value: Any, app: Any = None) -> str | None:
    """The ``argsrepr`` that a publisher has chosen; None where it is Celery's own.

    Celery writes one for each message. One that says anything else than the arguments was given to
    ``apply_async``: to keep them from being seen.
    """
    if not isinstance(given, str):
        return None
    longest = getattr(getattr(app, "amqp", None), "argsrepr_maxsize", LONGEST_REPR)
    # Tuples and sets have become lists on the way, and jsonb has an order of its own.
    return None if _parts(given) == _parts(saferepr(value, longest)) else given


def _parts(text: str) -> list[str]:
    return sorted(_PART.findall(text))


def parameters(app: Any, task: str) -> list[str]:
    """The names of a task's positional parameters; none where the app does not know the task."""
    found = find_task(app, task)
    if found is None:
        return []
    try:
        signature = inspect.signature(found.run)
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in signature.parameters.values() if each.kind in kinds]


def module_of(app: Any, task: str) -> str:
    """The module of a task; empty where the app does not know it."""
    found = find_task(app, task)
    return str(getattr(found, "__module__", "") or "") if found is not None else ""


def find_task(app: Any, task: str) -> Any:
    """The task of this name; None without an app that has it."""
    return None if app is None else app.tasks.get(task)


def json_again(value: Any) -> Any:
    """A value that was read from JSON, with its numbers as texts of their own kind."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        return Number(json.dumps(value))
    if isinstance(value, Mapping):
        return {key: json_again(each) for key, each in value.items()}
    return [json_again(each) for each in value] if isinstance(value, list) else value

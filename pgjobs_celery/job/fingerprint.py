"""Which failures are alike: a pure function of the exception's type, message and place.

Two failures are one problem where the same task fails with the same type of exception, from the
same function of the user's own code, with a message that differs only in what differs from job to
job: numbers, ids, quoted values, addresses. Line numbers do not count, nor does the folder that a
release is deployed to, so that a failure is the same before and after a deploy.

The worker computes the ``cause`` when an attempt fails, and keeps it in the entry of ``errors``;
the row's ``fingerprint`` is made of it and of the task's name, in SQL (``pgjobs.fingerprint``) and
here (:func:`fingerprint`, for rows that have none).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

#: How much of a message is looked at, and how much of what is left of it tells two apart.
LONGEST_MESSAGE, LONGEST_SUMMARY = 1_000, 300
#: How much of a traceback is looked at: a worker keeps no more.
LONGEST_TRACEBACK = 50_000
#: How many characters of the exception's type stand in a fingerprint.
LONGEST_TYPE = 80

#: The parts of a message that differ from job to job, and what stands for each.
_VARYING = [
    (re.compile(pattern, re.IGNORECASE), instead)
    for pattern, instead in (
        # Not the apostrophe of "can't".
        (r"(?<!\w)[bru]?'(?:[^'\\]|\\.)*'(?!\w)", "<value>"),
        (r'(?<!\w)[bru]?"(?:[^"\\]|\\.)*"', "<value>"),
        ("`[^`]*`|\u00ab[^\u00bb]*\u00bb|\u201c[^\u201d]*\u201d|\u2018[^\u2019]*\u2019", "<value>"),
        (r"\b[a-z][a-z0-9+.-]{0,20}://[^\s<>]+", "<url>"),
        (r"(?<![\w.+-])[\w.+-]{1,100}@[\w.-]{1,100}", "<address>"),
        (r"(?:/private)?/(?:tmp|var/tmp|var/folders|dev/shm)/[^\s:,;)\]}]+", "<path>"),
        (r"[a-z]:\\[^\s:,;)\]}]*\\temp\\[^\s:,;)\]}]+", "<path>"),
        (r"\b[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\b", "<uuid>"),
        (r"\b0x[0-9a-f]+\b", "<hex>"),
        (r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?![\w.]\d)", "<address>"),
        (r"(?<![\w:])\[?(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{0,4}\]?(?![\w:])", "<address>"),
        (r"\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}\b", "<hex>"),
        # An id of letters and digits: two digits or more in a long word.
        (r"\b(?=[^\W\d]*\d\w*\d)(?=\w*[^\W\d])\w{10,}\b", "<id>"),
        (r"(?:(?<![\w>])[-+])?\d+(?:[.,_:]\d+)*(?:e[-+]?\d+)?", "<n>"),
    )
]
_REPEATED = re.compile(r"(<\w+>)(?:[\s,;/x-]+\1)+")
_CHAINED = re.compile(
    r"^[ |]*(?:The above exception was the direct cause of the following exception"
    r"|During handling of the above exception, another exception occurred):$",
    re.MULTILINE,
)
_FRAME = re.compile(r'^[ |+]*File "([^"\n]{1,1000})", line (\d{1,9}), in (.{1,200})$', re.MULTILINE)

_PACKAGES = re.compile(r"(?:site|dist)-packages/")
_STANDARD = re.compile(r"(?:^|/)lib(?:32|64)?/python\d|/python\d+/lib/|^<", re.IGNORECASE)
#: Celery and we, installed or in a checkout; not an app in a folder that is named after Celery.
_MACHINERY = re.compile(
    r"(?:site|dist)-packages/(?:celery|kombu|billiard|vine|pgjobs_celery)/"
    r"|/celery/app/(?:trace|autoretry|task)\.py$"
    r"|/pgjobs_celery/(?:\w+/)?\w+\.py$"
)


class Frame(NamedTuple):
    """A line of a traceback."""

    file: str
    line: int
    function: str

    @property
    def place(self) -> str:
        """``app/tasks.py:charge``: without the line, and the folder that it is deployed to."""
        return f"{'/'.join(_slashed(self.file).split('/')[-2:])}:{self.function}"

    def __str__(self) -> str:
        """``app/tasks.py:12 in charge``."""
        file = "/".join(_slashed(self.file).split("/")[-2:])
        return f"{file}:{self.line} in {self.function}"


def fingerprint(task: str, kind: str, cause: str | None) -> str:
    """The name of the problem, as ``pgjobs.fingerprint`` makes it: ``ValueError-3f9a1c2b77``."""
    digest = _digest(task, cause or kind)
    return f"{type_of(kind)}-{digest[:10]}"


def type_of(kind: str) -> str:
    """The type of an exception as it stands in a fingerprint, before the hyphen."""
    return kind.replace("-", "_")[:LONGEST_TYPE]


def cause_of(kind: str, message: str, frame: Frame | None) -> str:
    """The sign that tells this failure from others of its task, given its own frame: 16 digits."""
    if kind == "WorkerLostError" and frame is None:
        return kind  # as rescue_jobs has it, which knows the worker's name and no more
    return _digest(kind, summary(message, kind), frame.place if frame else "")[:16]


def summary(message: str, kind: str = "") -> str:
    """The message of an exception of that type without what differs from job to job.

    >>> summary("order 4711 of 'Ada' is at 10.0.0.7:5432")
    'order <n> of <value> is at <address>'
    """
    if kind == "KeyError":
        return "<value>"  # its message is the key, with quotes or without
    text = " ".join(_shown(message[:LONGEST_MESSAGE]).split())
    for pattern, instead in _VARYING:
        text = pattern.sub(instead, text)
    return _REPEATED.sub(r"\1", text)[:LONGEST_SUMMARY]


def own_frame(traceback: str | None) -> Frame | None:
    """The innermost line of the user's own code; None where the traceback names no line of it.

    Own is what no installer has put there. Where the app itself is installed, it is what lies in
    the package of the outermost function that is neither Celery's nor ours: the task's.
    """
    if not traceback:
        return None
    chain = _CHAINED.split(traceback[-LONGEST_TRACEBACK:])
    frames = [[Frame(f, int(n), name) for f, n, name in _FRAME.findall(part)] for part in chain]
    for part in reversed(frames):
        own = [frame for frame in part if _is_own(_slashed(frame.file))]
        if own:
            return own[-1]
    for part in reversed(frames):
        if found := _in_package_of_task(part):
            return found
    return None


def _in_package_of_task(frames: Sequence[Frame]) -> Frame | None:
    packages: dict[str, Frame] = {}
    for frame in frames:
        file = _slashed(frame.file)
        if _PACKAGES.search(file) and not _MACHINERY.search(file):
            packages[_PACKAGES.split(file)[-1].split("/")[0]] = frame
    # A dict keeps the place of the first, and the value of the last.
    return next(iter(packages.values()), None)


def _is_own(file: str) -> bool:
    return not any(p.search(file) for p in (_PACKAGES, _STANDARD, _MACHINERY))


def _slashed(file: str) -> str:
    return file.replace("\\", "/")


def _shown(text: str) -> str:
    """Without characters that nobody sees: NUL, marks of direction, half of a surrogate pair."""
    return "".join(
        " " if c in "\t\n\r\v\f" else c for c in text
        if c in "\t\n\r\v\f" or unicodedata.category(c) not in ("Cc", "Cf", "Cs")
    )  # fmt: skip


def _digest(*parts: str) -> str:
    return sha256("\n".join(parts).encode("utf-8", "backslashreplace")).hexdigest()

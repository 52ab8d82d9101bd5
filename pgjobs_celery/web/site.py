"""The configuration of a page."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from mimetypes import guess_type
from pathlib import Path
from typing import NamedTuple

import jinja2
from jinja2.bccache import Bucket

from . import words
from .examinations import Examiner
from .live import Live
from .logins import Login
from .memory import Memory
from .redact import Redaction
from .roles import Rules
from .routes import Page, Route, name_of
from .sources import Source

HERE = Path(__file__).parent
STATIC = HERE / "static"


class File(NamedTuple):
    """A file of ours, as it is served."""

    body: bytes
    media_type: str
    #: Changes with the file, so that browsers may keep it.
    version: str


class Compiled(jinja2.BytecodeCache):
    """The templates that this process has compiled: 40 ms for a first page, once for all sites."""

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """The template's code, if its text is the same."""
        if (code := self._known.get(bucket.key)) is not None:
            bucket.bytecode_from_string(code)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Remember it."""
        self._known[bucket.key] = bucket.bytecode_to_string()


_compiled = Compiled()


@dataclass
class Site:
    """A page as it was configured."""

    sources: Mapping[str, Source]
    routes: Sequence[Route]
    login: Login
    rules: Rules
    title: str = "Jobs"
    #: The values of a row that may not be shown.
    redaction: Redaction = field(default_factory=Redaction)
    #: Addresses from which forms may come although the browser calls them another site.
    trusted_origins: Collection[str] = ()
    #: The names under which the page is shown; empty for any.
    hosts: Collection[str] = ()
    #: The visitors who watch each source, by its name.
    live: dict[str, Live] = field(default_factory=dict, init=False)
    #: The doctors, by the name of the source.
    examiners: dict[str, Examiner] = field(default_factory=dict, init=False)
    #: The answers that the pages have read a moment ago.
    memory: Memory = field(default_factory=Memory, init=False)

    def __post_init__(self) -> None:
        self.live.update((name, Live(each.database)) for name, each in self.sources.items())

    @cached_property
    def paths(self) -> dict[str, str]:
        """The path of each page, action and stream by its name."""
        return {name_of(route): route.path for route in self.routes}

    @cached_property
    def bar(self) -> list[Page]:
        """The pages that are named at the top of all."""
        return [route for route in self.routes if isinstance(route, Page) and route.title]

    @cached_property
    def templates(self) -> jinja2.Environment:
        """The templates; everything that they show is escaped."""
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            bytecode_cache=_compiled,
        )
        environment.filters.update(words.FILTERS)
        environment.globals.update(site=self, share=words.share, ranges=words.RANGES)
        return environment

    @cached_property
    def files(self) -> dict[str, File]:
        """The scripts, styles and pictures by their names: nothing else is ever served."""
        return {path.name: _read(path) for path in STATIC.iterdir() if path.is_file()}

    def version(self, name: str) -> str:
        """Changes with the file, so that browsers may keep it."""
        return self.files[name].version

    def prefix(self, source: Source) -> str:
        """The beginning of the paths of a source: its name, if there are several."""
        return f"/{source.name}" if len(self.sources) > 1 else ""


def _read(path: Path) -> File:
    body = path.read_bytes()
    kind = guess_type(path.name)[0] or "application/octet-stream"
    return File(body, kind, sha256(body).hexdigest()[:10])

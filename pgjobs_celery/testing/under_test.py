"""The endpoints of an app's messages and results, and those that count in a test."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any, Generic, Protocol, TypeVar

from kombu import pools

from ..errors import PgJobsError

#: The settings that lead to a server.
_SERVERS = ("broker_url", "broker_read_url", "broker_write_url", "result_backend")
#: The settings that a test overrides.
_SETTINGS = frozenset([*_SERVERS, "task_always_eager"])
#: The attribute of the overriding values: no setting has such a name.
_LAID_OVER = "_pgjobs_laid_over"


class Endpoints:
    """The endpoints of an app's messages and results: a broker and a backend.

    It holds the app's pool of producers, its pool of connections and its result backend. An app
    makes each when it first needs it: None until then.
    """

    def __init__(
        self,
        producers: Any = None,
        connections: Any = None,
        backend: Any = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._is_lazy = producers is None
        self.producers = producers
        self.connections = connections
        self.backend = backend
        #: The settings that are laid over the app's own there.
        self.settings = dict(settings or {})
        # Backends that are not thread-safe are the threads' own: those of these endpoints only.
        self.local: Any = threading.local() if self.settings else None

    @classmethod
    def at(cls, url: str) -> Endpoints:
        """Broker and result backend at a URL, whatever the settings name."""
        return cls(settings=dict.fromkeys(_SERVERS, url))

    def keep(self, app: Any) -> None:
        """Keep the pools and the backend that the app has made here."""
        if not self._is_lazy:
            return
        self.producers, self.connections = app.amqp._producer_pool, app._pool
        self.backend, self.local = app._backend_cache, app._local

    def take(self, app: Any) -> None:
        """Make the app use these endpoints from now on."""
        app.amqp._producer_pool, app._pool = self.producers, self.connections
        app._backend_cache = self.backend
        if self.local is not None:
            app._local = self.local

    def forget_connections(self) -> None:
        """In a forked child: its parent's are not its own."""
        self.producers = self.connections = None

    def close(self) -> None:
        """Close the pools and the backend that were made here."""
        for each in (self.backend, getattr(self.local, "backend", None)):
            if close := getattr(each, "close", None):
                close()
        if self.connections is not None:
            close_pool(self.connections)
        self.producers = self.connections = self.backend = None


def lay_over(conf: Any) -> dict[str, Any]:
    """Make this dict override the settings from now on.

    Its values are neither written into the app's own, nor laid over them as one more map: restored
    values would hide later changes of their source (Django's ``override_settings``), values set
    meanwhile would be lost, and variables of the environment would come first.
    """
    laid_over: dict[str, Any] = {}
    kind: Any = type(conf)

    class Settings(kind):
        def __getitem__(self, key: str) -> Any:
            laid_over = self.__dict__.get(_LAID_OVER, {})  # nothing in a copy
            return laid_over[key] if key in laid_over else kind.__getitem__(self, key)

        def __getattribute__(self, name: str) -> Any:
            if name in _SETTINGS and name in (laid_over := self.__dict__.get(_LAID_OVER, {})):
                # Several are properties, which look into the environment first.
                return laid_over[name]
            return kind.__getattribute__(self, name)

    conf.__dict__[_LAID_OVER] = laid_over
    # Past the settings' own way to set an attribute.
    object.__setattr__(conf, "__class__", Settings)
    return laid_over


def lay_off(conf: Any) -> None:
    """Remove the override."""
    if conf.__dict__.pop(_LAID_OVER, None) is not None:
        object.__setattr__(conf, "__class__", type(conf).__base__)


class Block(Protocol):
    """A block of ``testing()``, as far as its app under test uses it."""

    def endpoints(self) -> Endpoints | None:
        """The block's own; None for those of the settings, or of an outer block."""

    def forget_connections(self) -> None:
        """In a forked child, where its parent's are closed."""


B = TypeVar("B", bound=Block)


class AppUnderTest(Generic[B]):
    """An app that is in at least one block: the one entered last counts."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._blocks: list[B] = []
        #: The endpoints that the settings name.
        self._own = self._here = Endpoints()
        bool(app.conf.task_always_eager)  # reads them, unless they are read already
        # Otherwise the first publish loads them, between the begin of a countdown and its record:
        # 0.2 s of CPU, and two seconds on a busy machine. Without a driver they are never used.
        for name in ("transport", "results.backend"):
            with suppress(ImportError):
                import_module(f"pgjobs_celery.{name}")
        self._conf = app.conf
        self._laid_over = lay_over(self._conf)
        # A child that multiprocessing forks drops its pools: it must not make real ones.
        app._ensure_after_fork()
        app.on_after_fork.connect(self._after_fork, weak=False, dispatch_uid=id(self))

    @property
    def current(self) -> B | None:
        """The innermost block."""
        return self._blocks[-1] if self._blocks else None

    def enter(self, block: B) -> None:
        """Make this the innermost block."""
        block.endpoints()  # before anything is changed: it may raise
        self._blocks.append(block)
        self._apply()

    def leave(self, block: B) -> bool:
        """A block has ended, of several tasks of an event loop not always the innermost; False if
        it was the last."""
        with suppress(ValueError):
            self._blocks.remove(block)
        self._apply()
        return bool(self._blocks)

    def end(self) -> None:
        """The last block has ended."""
        lay_off(self._conf)
        self._app.on_after_fork.disconnect(self._after_fork, dispatch_uid=id(self))

    def check(self) -> None:
        """Raise PgJobsError if the app no longer uses the block's settings."""
        if self._app.conf is not self._conf:
            raise PgJobsError(
                f"app {self._app.main!r} has read its settings anew within the block "
                "(config_from_object(..., force=True)): what was published since may have been "
                "run eagerly, unseen; do that before the block"
            )

    def _after_fork(self, **_: Any) -> None:
        # kombu has closed the parent's pools.
        for block in self._blocks:
            block.forget_connections()
        self._own.forget_connections()
        self._here = Endpoints()
        self._apply()

    def _apply(self) -> None:
        endpoints = self._current_endpoints()
        if endpoints is not self._here:
            self._here.keep(self._app)
            endpoints.take(self._app)
            self._here = endpoints
        self._laid_over.clear()
        # Eager tasks are not published at all.
        self._laid_over.update(endpoints.settings, task_always_eager=False)

    def _current_endpoints(self) -> Endpoints:
        """Those of the innermost block; if that is in mode real, of an outer one with a server."""
        current = self.current
        if current is None:
            return self._own
        if (endpoints := current.endpoints()) is not None:
            return endpoints
        around = [block.endpoints() for block in reversed(self._blocks)]
        return next((each for each in around if each is not None and each.settings), self._own)


def close_pool(pool: Any) -> None:
    """Close a pool of connections, and have kombu forget it: the next test is on the same URL."""
    pool.force_close_all()
    # By identity: the key is made of options, which a connection that was open has changed.
    for group in (pools.connections, pools.producers):
        for key, each in list(group.items()):
            if getattr(each, "connections", each) is pool:
                group.pop(key)

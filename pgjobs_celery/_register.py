"""Make ``pgjobs://`` known to kombu.

kombu finds transports in ``kombu.transport.TRANSPORT_ALIASES`` and nowhere else. It loads the
entry points of the group ``kombu.serializers`` when Celery imports it, and that is where this
module is named: loading it extends the table. The serializer that it registers can neither encode
nor decode.

kombu does not parse our URLs either, nor does it report when it makes a connection or switches one
to the next URL. For both it sets the connection's parameters by one method.

Celery tells the class of a task when it makes one: by that, ``async def`` tasks run to their end in
eager mode.
"""

from __future__ import annotations

import functools
import sys
from importlib import import_module
from typing import Any, NoReturn

from kombu.transport import TRANSPORT_ALIASES

#: The scheme, as kombu takes it from a URL: the part before ``+`` or ``://``.
SCHEME = "pgjobs"

#: The arguments of kombu's ``register()``: encoder, decoder, content type, encoding.
_SERIALIZER = (None, None, "application/x-pgjobs", "utf-8")


def __getattr__(name: str) -> Any:
    """The serializer. When kombu asks for it, the modules that it needs to connect are loaded, or
    soon will be: a test run that imports this package does not need them."""
    if name != "SERIALIZER":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    show_parts()
    return _SERIALIZER


def find_transport() -> str:
    """The path of our transport; raises RequirementMissing if it cannot be loaded."""
    from .requirements import check

    check()
    show_parts()
    return "pgjobs_celery.transport:Transport"


def refuse() -> NoReturn:
    """Raise our error for PostgreSQL's own scheme: kombu's only says that it is unknown."""
    from .requirements import refusal

    raise refusal()


def show_parts() -> None:
    """Show port, user and database of our connections before they connect."""
    from kombu.connection import Connection

    init_params = Connection._init_params
    if hasattr(init_params, "shows_parts"):
        return

    @functools.wraps(init_params)
    def set_params(self: Connection, *args: Any, **kwargs: Any) -> None:
        init_params(self, *args, **kwargs)
        if str(self.transport_cls).partition("+")[0] == SCHEME:
            find_transport()
            watch_tasks()
            client = import_module(".broker.client", __package__)
            client.show_parts_early(self, kwargs.get("port"), kwargs.get("virtual_host"))

    set_params.shows_parts = True  # type: ignore[attr-defined]
    Connection._init_params = set_params


def watch_tasks() -> None:
    """Hear of each task that Celery makes: in eager mode nothing else leads to us.

    Not while this module is loaded, for Celery is then, too: it is called when a name of this
    package is first used, when a connection of ours is first made, and by pytest.
    """
    if not hasattr(sys.modules.get("celery.app.base"), "Celery"):
        return
    if not hasattr(import_module("celery.app.task").Task.on_bound, "is_ours"):
        import_module(".tasks.plain", __package__).watch_tasks()


# kombu calls what can be called, when a connection first asks for the scheme.
TRANSPORT_ALIASES[SCHEME] = find_transport
for bare in ("postgresql", "postgres"):
    TRANSPORT_ALIASES.setdefault(bare, refuse)

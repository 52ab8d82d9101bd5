"""``python -m tests.support.lean_celery``: the ``celery`` command, quick to start.

Hundreds of workers are started, and most of the processor time of each went into imports and into
the end of the interpreter: 1.0 s, and 0.5 s so. It leaves out what no test of ours is about, and
everything else is as in ``python -m celery``: the commands that other packages add (Flower's import
takes a quarter of a second) and the shell of ``celery amqp``.
"""

from __future__ import annotations

import gc
import sys
from types import ModuleType
from typing import Any

#: Words that ask for the whole command: for Flower's, and for pools whose patches come before all
#: imports.
WHOLE = ("flower", "gevent", "eventlet")


def no_shell(*_: Any) -> None: ...


def import_celery() -> None:
    """Import the command line, and look at none of its objects again when collecting garbage."""
    from importlib import metadata

    entry_points: Any = metadata.entry_points

    def our_entry_points(**params: Any) -> Any:
        found = entry_points(**params)
        return found.select(name="pgjobs") if params.get("group") == "celery.commands" else found

    shell = ModuleType("click_repl")
    shell.register_repl = no_shell  # type: ignore[attr-defined]
    sys.modules["click_repl"] = shell
    metadata.entry_points = our_entry_points
    gc.disable()
    import celery.bin.celery  # noqa: F401 - not before the above

    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    if not any(word in given for given in sys.argv[1:] for word in WHOLE):
        import_celery()
    from celery.__main__ import main

    sys.exit(main())

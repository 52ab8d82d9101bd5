"""Make ``pgjobs://`` known to kombu.

kombu finds transports in ``kombu.transport.TRANSPORT_ALIASES`` and nowhere else. It loads the
entry points of the group ``kombu.serializers`` when Celery imports it, and that is where this
module is named: loading it extends the table. What it registers as a serializer can neither encode
nor decode.
"""

from __future__ import annotations

from typing import NoReturn

from kombu.transport import TRANSPORT_ALIASES

#: The schemes, as kombu takes them from a URL: what stands before ``+`` or ``://``.
SCHEME = "pgjobs"

#: What kombu's ``register()`` is called with: encoder, decoder, content type, encoding.
SERIALIZER = (None, None, "application/x-pgjobs", "utf-8")


def find_transport() -> str:
    """Where our transport is; raises RequirementMissing where it cannot be loaded."""
    from .requirements import check

    check()
    return "pgjobs_celery.transport:Transport"


def refuse() -> NoReturn:
    """Of PostgreSQL's own scheme kombu says only that it knows none of that name."""
    from .requirements import refusal

    raise refusal()


# kombu calls what can be called, when a connection first asks for the scheme.
TRANSPORT_ALIASES[SCHEME] = find_transport
for bare in ("postgresql", "postgres"):
    TRANSPORT_ALIASES.setdefault(bare, refuse)

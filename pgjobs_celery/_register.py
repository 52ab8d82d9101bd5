"""Make ``pgjobs://`` known to kombu.

kombu finds transports in ``kombu.transport.TRANSPORT_ALIASES`` and nowhere else. It loads the
entry points of the group ``kombu.serializers`` when Celery imports it, and that is where this
module is named: loading it extends the table. What it registers as a serializer can neither encode
nor decode.
"""

from __future__ import annotations

from kombu.transport import TRANSPORT_ALIASES

#: The schemes, as kombu takes them from a URL: what stands before ``+`` or ``://``.
SCHEME = "pgjobs"

#: What kombu's ``register()`` is called with: encoder, decoder, content type, encoding.
SERIALIZER = (None, None, "application/x-pgjobs", "utf-8")

TRANSPORT_ALIASES[SCHEME] = "pgjobs_celery.transport:Transport"

"""A web page over the rows: see, understand and act, in a browser.

    app.mount("/jobs", dashboard(celery_app))  # FastAPI, Starlette

It needs neither a worker nor events, and starts nothing. Install ``pgjobs-celery[web]``.
"""

from __future__ import annotations

from ..errors import RequirementMissing

try:
    from .dashboard import dashboard
    from .redact import Redaction
    from .roles import User
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] not in {
        "anyio", "jinja2", "multipart", "pygments", "python_multipart", "starlette",
    }:  # fmt: skip
        raise
    raise RequirementMissing(
        f"the web page needs {error.name}: pip install 'pgjobs-celery[web]'"
    ) from None

__all__ = ["Redaction", "User", "dashboard"]

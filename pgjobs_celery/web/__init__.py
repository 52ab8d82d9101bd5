"""A web page over the rows: see, understand and act, in a browser.

    app.mount("/jobs", dashboard(celery_app))  # FastAPI, Starlette

It needs neither a worker nor events, and starts nothing. Install ``pgjobs-celery[web]``.
"""

from __future__ import annotations

from ..errors import RequirementMissing

try:
    from .dashboard import dashboard
    from .logins import basic_auth, hash_password, trusted_header
    from .redact import Redaction
    from .roles import Role, User
    from .wsgi import as_wsgi
except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    if missing not in {"a2wsgi", "anyio", "jinja2", "pygments", "starlette"}:
        raise
    raise RequirementMissing(
        f"the web page needs {missing}: pip install 'pgjobs-celery[web]'"
    ) from None

__all__ = [
    "Redaction", "Role", "User", "as_wsgi", "basic_auth", "dashboard", "hash_password",
    "trusted_header",
]  # fmt: skip

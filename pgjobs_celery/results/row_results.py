"""Results as the rows of a database hold them: where that is, and how they are read."""

from __future__ import annotations

import json
from datetime import timezone
from functools import cached_property
from typing import Any

from celery.backends import base
from celery.utils.log import get_logger
from kombu.compression import decompress
from kombu.serialization import loads

from ..config import Options, read_options, read_settings
from ..db.database import Database, get_database
from ..db.dsn import Target, urls_of
from ..db.rows.results import StoredResult
from ..job.envelope import decode_envelope
from ..job.states import celery_state
from ..printable import guarded
from .errors import exception_of

logger = guarded(get_logger(__name__))

#: New in Celery 5.7, with ``result_compression``.
_decompress = getattr(base, "decompress_payload", lambda payload: payload)


class RowResults(base.Backend):
    """The part of the backend on which its others stand."""

    def __init__(self, app: Any, url: str | None = None, **kwargs: Any) -> None:
        super().__init__(app, url=url, **kwargs)
        self._target = Target(url or "pgjobs://")
        self._options = self._read_options()
        self._alternates = self._find_alternates()

    @property
    def database(self) -> Database:
        """The database of the rows; the transport's own, if broker and backend are the same."""
        return get_database(self._target.conninfo, self._options, self._alternates)

    def _find_alternates(self) -> list[str]:
        """The broker's URLs, if ours is the first of them: it is one database, and when the broker
        fails over to the next one, so do the results."""
        urls = urls_of(self.app.conf.broker_read_url)
        if len(urls) < 2 or not urls[0].startswith(("pgjobs:", "pgjobs+")):
            return []
        found = [Target(url).conninfo for url in urls]
        return found if found[0] == self._target.conninfo else []

    def _read_options(self) -> Options:
        conf = self.app.conf
        given = {
            "connect_timeout": conf.get("broker_connection_timeout") or Options.connect_timeout,
            **(conf.get("broker_transport_options") or {}),
            **(conf.get("result_backend_transport_options") or {}),
        }
        return read_options(given)[0]

    @cached_property
    def _reads_rows(self) -> bool:
        return read_settings(self.app.conf).result_from_row

    @property
    def _is_extended(self) -> bool:
        return bool(self.app.conf.result_extended)

    def _encoded(self, value: Any) -> bytes:
        """Encode in the result serializer, which may return text."""
        encoded: str | bytes = self.encode(value)
        return encoded.encode() if isinstance(encoded, str) else encoded

    def _to_meta(
        self, row: StoredResult, extended: bool, *, from_row: bool | None = None
    ) -> dict[str, Any]:
        if from_row is None:
            from_row = self._reads_rows
        state = celery_state(
            row.state,
            row.reported_state,
            has_result=row.result_type is not None,
            from_row=from_row,
        )
        # The value stored with a report belongs to it.
        is_of_it = not row.reported_state or state == row.reported_state
        result = self._decode_as(row.result_type, row.result) if is_of_it else None
        if result is None and state in self.EXCEPTION_STATES:
            result = exception_of(row, state)
        meta = {
            "task_id": row.task_id,
            "status": state,
            "result": result,
            "traceback": row.traceback,
            "children": json.loads(row.children) if row.children else [],
            "date_done": _iso(row),
        }
        if row.group_id:
            meta["group_id"] = row.group_id
        if row.parent_id:
            meta["parent_id"] = row.parent_id
        if extended:
            meta.update(self._extended_meta(row))
        decoded: dict[str, Any] = self.meta_from_decoded(meta)
        return decoded

    def _decode_as(self, content_type: str | None, payload: bytes | None) -> Any:
        if payload is None:
            return None
        if content_type in (None, self.content_type):
            return self.decode(payload)
        # Another serializer wrote it; accept_content says whether it may be read.
        return loads(_decompress(payload), content_type, "utf-8", accept=self.accept)

    def _extended_meta(self, row: StoredResult) -> dict[str, Any]:
        """The fields that ``result_extended`` adds: the row has them anyway."""
        meta = {
            "name": row.task,
            "args": None,
            "kwargs": None,
            "worker": row.attempted_by,
            "retries": max(0, row.attempt - 1),
            "queue": row.queue,
        }
        if row.body is None:
            return meta
        headers: dict[str, Any] = {}
        try:
            if row.message is None:  # it came through another broker: _origin kept this
                args, kwargs = self._decode_as(row.result_type, row.body)
            else:
                args, kwargs, headers = self._decode_message(row.message, row.body, row.queue)
        except Exception as error:
            logger.warning("the arguments of task %s cannot be read back: %s", row.task_id, error)
            return meta
        meta.update(args=args, kwargs=kwargs)
        if row.message is not None:
            meta["retries"] = headers.get("retries") or 0
        if headers.get("stamps"):
            meta.update(headers["stamps"], stamped_headers=headers.get("stamped_headers"))
        return meta

    def _decode_message(self, message: str, body: bytes, queue: str) -> tuple[Any, Any, Any]:
        """The arguments of a task, by position and by name, and its headers."""
        envelope = decode_envelope(message, queue)
        if envelope.headers.get("compression"):
            body = decompress(body, envelope.headers["compression"])
        args, kwargs, _ = loads(
            body, envelope.content_type, envelope.content_encoding, accept=self.accept
        )
        return args, kwargs, envelope.headers


def _iso(row: StoredResult) -> str | None:
    return row.finished_at.astimezone(timezone.utc).isoformat() if row.finished_at else None

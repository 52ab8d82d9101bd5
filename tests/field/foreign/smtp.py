"""A mail server that can be away, and remembers what it got."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller


class Inbox:
    """The subjects of the mails that came in."""

    def __init__(self, port: int) -> None:
        self.subjects: list[str] = []
        self._port = port

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.subjects.append(message_from_bytes(envelope.content, policy=default)["Subject"])
        return "250 OK"

    @contextmanager
    def open(self) -> Iterator[None]:
        """Take mails while the block runs."""
        controller = Controller(self, hostname="127.0.0.1", port=self._port)
        controller.start()
        try:
            yield
        finally:
            controller.stop()

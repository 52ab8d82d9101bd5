"""Sends mail; here it only remembers it."""

from typing import NamedTuple


class Mail(NamedTuple):
    to: str
    subject: str


#: What was sent.
outbox: list[Mail] = []


def send(to: str, subject: str) -> None:
    outbox.append(Mail(to, subject))

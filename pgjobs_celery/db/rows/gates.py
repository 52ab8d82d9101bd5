"""The rows of ``gates``, for code outside of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..session import Session

#: The advisory locks under which rows of gates are made, by claims as well.
SPACE = 0x7067_6A67


class Tokens(NamedTuple):
    """The answer of a gate."""

    #: They are the caller's, from ``delay`` on.
    are_taken: bool
    #: In how many seconds they are, or would be, free.
    delay: float


class Gates:
    """Statements on gates, one method each."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def take_tokens(self, flow: str, gate: str, cost: int, most: float) -> Tokens | None:
        """Take tokens of a gate, now or within ``most`` seconds; None if the row is being made.

        Over a connection of ours, and committed when this returns. Where an answer is lost they may
        have been taken twice; the same ones are never given twice.
        """
        calls = [
            [self._session.call("open_gate", gate=gate, space=SPACE)],
            [self._session.call("take_tokens", flow=flow, gate=gate, cost=cost, most=most)],
        ]
        rows = self._session.retrying(lambda: self._session.run(*calls))[1]
        return Tokens(*rows[0]) if rows else None

    def has_rule(self, flow: str) -> bool:
        """True if a rule of this name is there."""
        return bool(self._session.fetch("find_flow", flow=flow))

"""The transport, as far as its channels use it, and the ground that their parts stand on."""

from __future__ import annotations

from typing import Any, Protocol

from kombu.transport.base import StdChannel

from ..config import Options
from ..db.database import Database
from ..node.nodes import get_node
from .own_queues import OwnQueues
from .sleep import Sleep


class Host(Protocol):
    """A connection that channels stand on."""

    database: Database
    options: Options
    #: kombu's connection, and what it is told that the transport can do.
    client: Any
    implements: Any
    #: The queues that go with it.
    own_queues: OwnQueues
    #: The wait for work, announced to all who publish.
    sleep: Sleep

    def wake(self) -> None:
        """Have another turn soon: a channel has room for another message."""

    def fail(self, why: str) -> None:
        """Give the connection up for lost, whatever the loop is doing."""

    def queues_changed(self) -> None:
        """A channel consumes from other queues than before."""

    def forget_channel(self, channel: Any) -> None:
        """Drop a channel that is closing."""


class HostedChannel(StdChannel):
    """A channel on a host, with the node that claims for it."""

    def __init__(self, transport: Host) -> None:
        self.transport = transport
        self.database = transport.database
        self.options = transport.options
        self.node = get_node(self.database)
        #: Queues declared here that are deleted when they are not used for a while.
        self.passing_queues: set[str] = set()

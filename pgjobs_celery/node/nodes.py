"""The nodes of this process, one for each database."""

from __future__ import annotations

import atexit
import os
import threading

from ..db.database import Database
from .node import Node

_nodes: dict[Database, Node] = {}
_lock = threading.Lock()


def get_node(database: Database) -> Node:
    """This process's node in a database; the same one for all who ask."""
    with _lock:
        if database not in _nodes:
            _nodes[database] = Node(database)
        return _nodes[database]


def close_nodes() -> None:
    """Before the process ends: write what is due everywhere."""
    for node in list(_nodes.values()):
        node.close()


def _forget_parent() -> None:
    """In a forked child: the claims are the parent's."""
    global _lock
    _lock = threading.Lock()
    _nodes.clear()


os.register_at_fork(after_in_child=_forget_parent)
atexit.register(close_nodes)

"""The tests' app as ordinary ones are: its process's default, which Flower asks for results."""

from __future__ import annotations

from .tasks import app

app.set_default()

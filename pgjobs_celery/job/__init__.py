"""A job and its words: states, options, envelope, outcome. Nothing here does I/O."""

from __future__ import annotations

from .job import Job

__all__ = ["Job"]

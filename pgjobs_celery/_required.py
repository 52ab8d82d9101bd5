"""Looks, when it is imported, whether all is installed that the modules imported after it need."""

from __future__ import annotations

from .requirements import check

check()

"""The console: read-only pages for operators."""

from __future__ import annotations

from pointsman.console.handlers import routes

__all__ = ["routes"]

"""The operator's pages: what came in, where it went, and why something is not where it should be. Read only."""

from __future__ import annotations

from pointsman.console.handlers import routes

__all__ = ["routes"]

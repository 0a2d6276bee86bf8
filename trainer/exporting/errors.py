"""What an export refuses, in one line."""

from __future__ import annotations


class ExportError(ValueError):
    """A checkpoint, or what came with it, that cannot be exported: what was wrong, and where."""

"""What an import refuses, in one line."""

from __future__ import annotations


class ImportingError(ValueError):
    """A model that cannot be made ours: what was wrong, and where."""

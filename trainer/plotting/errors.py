"""What a plot refuses, in one line."""

from __future__ import annotations


class PlottingError(ValueError):
    """Nothing that could be drawn: what was wrong, where, and what to do."""

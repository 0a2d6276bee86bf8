"""The two ways in which an evaluation ends without being done; each text is one clear line."""

from __future__ import annotations


class UsageError(ValueError):
    """What was asked for can't be done: change the command. Exit code 2."""


class EvaluationStoppedError(RuntimeError):
    """The evaluation can't go on; what is recorded stays, and it can be resumed. Exit code 1."""

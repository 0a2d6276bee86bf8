from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

_PROJECT = Path(__file__).parents[2]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of examples/, by its name."""
    monkeypatch.syspath_prepend(_PROJECT / "examples")
    return importlib.import_module

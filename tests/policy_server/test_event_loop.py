"""Which event loop the server runs on, and that it runs on either."""

from __future__ import annotations

import asyncio
import importlib.util

import pytest

from policy_server import event_loop


async def _module_of_the_loop() -> str:
    await asyncio.sleep(0)
    return type(asyncio.get_running_loop()).__module__


def test_uvloop_runs_where_it_is_installed() -> None:
    if importlib.util.find_spec("uvloop") is None:
        pytest.skip("uvloop is not installed here")
    assert event_loop.run(_module_of_the_loop()).startswith("uvloop")


def test_asyncio_runs_where_it_is_not(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert event_loop.run(_module_of_the_loop()).startswith("asyncio")

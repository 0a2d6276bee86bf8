"""Stations are slow to build, so tests share them; each test resets the one it takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from policy_interface.contract import ImageSize
from sim_client.station.station import Station
from sim_client.tasks.catalog import get_task

StationOf = Callable[..., Station]


@pytest.fixture(scope="session")
def station_of() -> StationOf:
    """station_of(task, *cameras): a station with these cameras at 64x64, or without rendering."""

    @cache
    def build(task: str, *cameras: str) -> Station:
        size = ImageSize(height=64, width=64)
        return Station(get_task(task), cameras=dict.fromkeys(cameras, size))

    return build

"""A port's value that changes while the simulation runs, written into Drake's own memory."""

from __future__ import annotations

from typing import Any

from pydrake.systems.framework import Context, InputPort

from sim_client.station.panda_kinematics import Array


class FixedInput:
    """An input port fixed in a context; a fifth of what fixing it anew each time costs.

    It holds until the port is fixed anew, by whomever.
    """

    def __init__(self, port: InputPort, context: Context, value: Array) -> None:
        fixed: Any = port.FixValue(context, value)
        self._notify = fixed.GetMutableData
        self._memory: Array = fixed.GetMutableData().get_mutable_value().get_mutable_value()

    def set(self, value: Array) -> None:
        """Give the port another value of the same length."""
        # What was computed from the former value is to be computed anew.
        self._notify()
        self._memory[:] = value

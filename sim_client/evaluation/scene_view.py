"""The scene of an episode in three dimensions, live in a browser or as one HTML file."""

from __future__ import annotations

import logging
from typing import Any, Protocol, runtime_checkable

import numpy as np
from pydrake.common.value import AbstractValue  # pyright: ignore[reportMissingModuleSource]
from pydrake.geometry import (
    Meshcat,
    MeshcatParams,
    MeshcatVisualizer,
    MeshcatVisualizerParams,
)

from sim_client.drake_arrays import drake_array
from sim_client.evaluation.station import Station


@runtime_checkable
class DrawableStation(Protocol):
    """A station whose scene Drake knows; see sim_client.station.station.Station.geometry."""

    def geometry(self) -> Any: ...


_NUM_PORTS_TRIED = 32

# Metres in the world's frame.
_VIEWER_POSITION_W = drake_array(np.array([1.25, 0.0, 0.85]))
_TABLE_TOP_W = drake_array(np.array([-0.1, 0.0, 0.15]))


class SceneView:
    """Draws one station after the other, frame by frame at the control rate.

    Listens on this machine alone. port: of the page, or the next that is free; None for any.
    Raises RuntimeError where none is.
    """

    def __init__(self, *, port: int | None = None) -> None:
        self._meshcat = _listening(port)
        # As somebody who stands before the table sees it; a browser may then turn and zoom.
        self._meshcat.SetCameraPose(_VIEWER_POSITION_W, _TABLE_TOP_W)
        for name in ("/Grid", "/Axes"):
            self._meshcat.SetProperty(name, "visible", False)
        self._visualizer: MeshcatVisualizer | None = None
        self._context: Any = None

    @property
    def url(self) -> str:
        return self._meshcat.web_url()

    def begin(self, station: Station) -> None:
        """Forget what was drawn, and draw the station as it is now."""
        self._meshcat.Delete()
        self._meshcat.DeleteRecording()
        self._visualizer = MeshcatVisualizer(self._meshcat, MeshcatVisualizerParams())
        self._context = self._visualizer.CreateDefaultContext()
        self._meshcat.StartRecording(
            frames_per_second=station.contract.control_rate_hz,
            set_visualizations_while_recording=True,
        )
        self.publish(station)

    def publish(self, station: Station) -> None:
        """Draw the station as it is now, as the next frame of the recording."""
        if not isinstance(station, DrawableStation):
            raise TypeError(f"{type(station).__name__} has no geometry to draw")
        assert self._visualizer is not None, "begin comes first"
        port = self._visualizer.query_object_input_port()
        port.FixValue(self._context, AbstractValue.Make(station.geometry()))
        self._context.SetTime(station.time_s)
        self._visualizer.ForcedPublish(self._context)

    def html(self) -> str:
        """All frames since `begin` as one page that needs nothing else."""
        self._meshcat.StopRecording()
        self._meshcat.PublishRecording()
        return self._meshcat.StaticHtml()


def _listening(port: int | None) -> Meshcat:
    parameters = MeshcatParams()
    parameters.host = "localhost"
    if port is None:
        # Drake looks for a free one, where nobody needs to look.
        logging.getLogger("drake").setLevel(logging.WARNING)
        return Meshcat(parameters)
    last = min(port + _NUM_PORTS_TRIED, 65536) - 1
    for candidate in range(port, last + 1):
        parameters.port = candidate
        try:
            return Meshcat(parameters)
        except RuntimeError:
            # Another worker's, or somebody else's.
            if candidate == last:
                raise
    raise AssertionError("the last port returns or raises")

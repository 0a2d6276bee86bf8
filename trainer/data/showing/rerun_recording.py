"""A Rerun recording of an episode, for rerun-sdk's viewer (rerun.io).

instruction          text
world/PART           where each hand was and is sent, in the frame of the cameras
world/CAMERA         cameras that know their pose; the others under cameras/CAMERA
plots/PANEL          the curves that a film would show
"""

from __future__ import annotations

import importlib
import io
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from policy_interface.types import FloatArray
from policy_interface.usage import UsageError
from trainer.data.episode import Episode
from trainer.data.field_geometry import has_position, positions_of
from trainer.data.showing.canvas import PARTS
from trainer.data.showing.clock import shown_times_s
from trainer.data.showing.contact_sheet import first_instruction
from trainer.data.showing.plots import Panel, panels_of

_TIMELINE = "time"
_FUTURE_S = 1.6
_JPEG_QUALITY = 92
_FRAMES_AT_ONCE = 16


def write_recording(
    episode: Episode,
    output: Path,
    *,
    fields: Sequence[str] | None = None,
    progress: Callable[[Iterator[int]], Any] = iter,
) -> None:
    """fields: what is plotted; None plots the motions of each part.

    Written aside and renamed. Raises UsageError where rerun-sdk is not installed.
    """
    rerun = _rerun()
    # Otherwise what it cannot log is only warned about, and missing.
    rerun.set_strict_mode(True)
    panels = panels_of(episode, fields)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.stem}.{uuid.uuid4().hex}.partial.rrd")
    recording = rerun.RecordingStream(
        "assay", recording_id=f"{episode.description.episode_id}-{uuid.uuid4().hex[:8]}"
    )
    try:
        recording.save(str(partial), default_blueprint=_blueprint(episode, panels))
        _log_still(rerun, recording, episode, panels)
        tracks = _Tracks(episode)
        for step in progress(_steps_with_frames(rerun, recording, episode)):
            tracks.log(rerun, recording, step)
            for index, panel in enumerate(panels):
                values = [curve.values[step] for curve in panel.curves]
                recording.log(_plot_path(index), rerun.Scalars(values))
        recording.flush()
        recording.disconnect()
        partial.replace(output)
    finally:
        recording.disconnect()
        partial.unlink(missing_ok=True)


def _rerun() -> Any:
    try:
        return importlib.import_module("rerun")
    except ModuleNotFoundError as error:
        raise UsageError("play: --to rerun needs rerun-sdk: pip install rerun-sdk") from error


def _plot_path(index: int) -> str:
    return f"plots/panel_{index}"


def _camera_path(episode: Episode, camera: str) -> str:
    view = episode.description.cameras[camera]
    known = view.has_intrinsics and view.has_extrinsics
    return f"{'world' if known else 'cameras'}/{camera}"


def _blueprint(episode: Episode, panels: Sequence[Panel]) -> Any:
    blueprint = importlib.import_module("rerun.blueprint")
    cameras = [
        blueprint.Spatial2DView(origin=_camera_path(episode, camera), name=camera)
        for camera in episode.description.cameras
    ]
    plots = [
        blueprint.TimeSeriesView(origin=_plot_path(index), name=panel.title)
        for index, panel in enumerate(panels)
    ]
    left = [
        blueprint.TextDocumentView(origin="instruction", name="instruction"),
        blueprint.Spatial3DView(origin="world", name="world"),
        blueprint.Grid(*cameras),
    ]
    return blueprint.Blueprint(
        blueprint.Horizontal(
            blueprint.Vertical(*left, row_shares=[1, 5, 5]),
            blueprint.Vertical(*plots),
            column_shares=[3, 2],
        )
    )


def _log_still(rerun: Any, recording: Any, episode: Episode, panels: Sequence[Panel]) -> None:
    """What does not change over the episode."""
    description = episode.description
    told = first_instruction(episode) or "no instruction"
    facts = " · ".join(filter(None, [description.task, description.episode_id]))
    recording.log("instruction", rerun.TextDocument(f"{told}\n\n{facts}"), static=True)
    for index, panel in enumerate(panels):
        lines = rerun.SeriesLines(
            colors=[curve.colour for curve in panel.curves],
            widths=[1.0 if curve.dotted else 2.0 for curve in panel.curves],
            names=[
                f"{curve.name or panel.title}{' commanded' if curve.dotted else ''}"
                for curve in panel.curves
            ],
        )
        recording.log(_plot_path(index), lines, static=True)


def _steps_with_frames(rerun: Any, recording: Any, episode: Episode) -> Iterator[int]:
    """Each control step, its time set and its frames logged."""
    description = episode.description
    times_s = shown_times_s(episode)
    poses = {
        camera: (episode.intrinsics(camera), episode.extrinsics(camera))
        for camera, view in description.cameras.items()
        if view.has_intrinsics and view.has_extrinsics
    }
    for start in range(0, description.num_steps, _FRAMES_AT_ONCE):
        steps = range(start, min(start + _FRAMES_AT_ONCE, description.num_steps))
        encoded = {camera: _encoded(episode, camera, steps) for camera in description.cameras}
        for index, step in enumerate(steps):
            recording.set_time(_TIMELINE, duration=float(times_s[step]))
            for camera, view in description.cameras.items():
                path = _camera_path(episode, camera)
                if camera in poses:
                    intrinsics, X_FC = poses[camera]
                    recording.log(
                        path,
                        rerun.Transform3D(translation=X_FC[step, :3, 3], mat3x3=X_FC[step, :3, :3]),
                        rerun.Pinhole(
                            image_from_camera=intrinsics[step],
                            resolution=[view.width, view.height],
                            image_plane_distance=0.15,
                        ),
                    )
                recording.log(path, _image(rerun, encoded[camera][index]))
            yield step


def _image(rerun: Any, file: bytes) -> Any:
    is_jpeg = file.startswith(b"\xff\xd8")
    return rerun.EncodedImage(contents=file, media_type="image/jpeg" if is_jpeg else "image/png")


def _encoded(episode: Episode, camera: str, steps: range) -> list[bytes]:
    """As stored where that is JPEG or PNG: a recording need not lose quality twice."""
    stored = episode.encoded_frames(camera, steps)
    if stored is not None:
        return stored
    files = []
    for frame in episode.frames(camera, steps):
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=_JPEG_QUALITY)
        files.append(file.getvalue())
    return files


class _Tracks:
    """Where each hand was, and where it is sent, in the frame of the cameras."""

    def __init__(self, episode: Episode) -> None:
        description = episode.description
        frames = {view.frame for view in description.cameras.values() if view.has_extrinsics}
        self._times_s = shown_times_s(episode)
        self._tracks: dict[tuple[str, str], FloatArray] = {}
        for name, field in description.fields.items():
            if field.role not in ("observed", "action") or not has_position(field):
                continue
            if field.frame is None or (frames and field.frame not in frames):
                continue
            positions = positions_of(field, episode.read(name))
            if positions is not None:
                self._tracks.setdefault((field.part or name, field.role), positions)

    def log(self, rerun: Any, recording: Any, step: int) -> None:
        parts = list(dict.fromkeys(part for part, _ in self._tracks))
        for (part, role), positions in self._tracks.items():
            colour = PARTS[parts.index(part) % len(PARTS)]
            # A path's colons would be read as something else.
            path = f"world/{part.replace('::', '_')}"
            if role == "observed":
                trail = rerun.LineStrips3D([positions[: step + 1]], colors=[colour], radii=0.002)
                hand = rerun.Points3D(positions[step : step + 1], colors=[colour], radii=0.01)
                recording.log(f"{path}/trail", trail)
                recording.log(f"{path}/hand", hand)
            else:
                ahead = self._times_s - self._times_s[step]
                future = np.flatnonzero((ahead >= 0) & (ahead <= _FUTURE_S))
                sent = rerun.Points3D(positions[future], colors=[colour], radii=0.004)
                recording.log(f"{path}/sent", sent)

"""`sim-client replay`: find an episode, simulate it again, say whether it is the same."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from policy_interface.contract import ContractError, ImageSize
from policy_interface.usage import UsageError
from sim_client.evaluation.action_log import (
    ACTION_LOG_FILE_NAME,
    ActionLog,
    ActionLogError,
    load_action_log,
)
from sim_client.evaluation.episode_files import ERROR_FILE_NAME
from sim_client.evaluation.run_folder import run_folder
from sim_client.evaluation.simulator_facts import version_of
from sim_client.evaluation.station import (
    OUR_STATION,
    Station,
    StationOptions,
    imported_factory,
)
from sim_client.evaluation.video import VideoWriter, side_by_side
from sim_client.replay.simulate_again import Replay, simulate_again
from step_analysis.atomic_file import write_atomically
from step_analysis.ledger import DESIGN_FILE_NAME, LedgerError, read_design
from step_analysis.results_json import snake_case
from step_analysis.rollouts import EvaluationDesign

EQUAL, DIFFERENT = 0, 1
_DEFAULT_CAMERAS = "scene_right_0,scene_left_0"


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """Simulate an evaluated episode again, from the actions that were executed.

    Says whether every state is what it was, to the last bit (exit code 0), or where the first one
    differs (1). An episode that ended in an error of the simulation is replayed up to there."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Folder of an evaluated policy: the one with evaluation.json and ledger.jsonl."""
    task: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="TASK")]]
    """Its name, such as PickAndPlaceBox."""
    episode: tyro.conf.Positional[Annotated[int, tyro.conf.arg(metavar="EPISODE")]]
    """Its scenario's index."""
    video: Path | None = None
    """Film it into this mp4."""
    cameras: Annotated[str, tyro.conf.arg(metavar="CAMERA[,CAMERA]")] = _DEFAULT_CAMERAS
    """What films it, side by side."""
    image_size: str = "320x240"
    """Of each camera's picture, WIDTHxHEIGHT."""
    meshcat: Path | None = None
    """Draw it in three dimensions, as one HTML file."""

    @property
    def camera_names(self) -> list[str]:
        return [name.strip() for name in self.cameras.split(",") if name.strip()]


def run(config: ReplayConfig, *, station_factory: str = OUR_STATION) -> int:
    """Replay, say what came of it, and return the exit code. Raises UsageError."""
    folder = run_folder(config.run)
    try:
        design = read_design(folder / DESIGN_FILE_NAME)
    except LedgerError as error:
        raise UsageError(str(error)) from error
    log = _find_log(folder, design, config)
    options = _station_options(design, config)
    _say_versions(log)
    try:
        station = imported_factory(station_factory)(options)
    except ContractError as error:
        raise UsageError(str(error)) from error
    with _Drawing(config, station) as drawing:
        replay = simulate_again(log, station, show=drawing.show)
        drawing.save()
    print(f"{log.task} episode {log.scenario_index}, seed {log.seed}: {_described(replay, log)}")
    return EQUAL if replay.is_equal else DIFFERENT


def _find_log(folder: Path, design: EvaluationDesign, config: ReplayConfig) -> ActionLog:
    if config.task not in design.tasks:
        close = difflib.get_close_matches(config.task, design.tasks, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(
            f"{folder} has no task {config.task!r}: expected one of {', '.join(design.tasks)}{hint}"
        )
    simulator = design.station.get("simulator", "drake")
    if simulator != "drake":
        raise UsageError(
            f"{folder} was simulated by {simulator}, which keeps no log to replay; "
            "see its own recording.html"
        )
    place = f"{config.task}/rollouts/*/{snake_case(config.task)}/demonstration_{config.episode}"
    for name in (ACTION_LOG_FILE_NAME, ERROR_FILE_NAME):
        for path in sorted(folder.glob(f"{place}/{name}"), reverse=True):
            try:
                return load_action_log(path)
            except ActionLogError as error:
                raise UsageError(str(error)) from error
    last = design.first_episode + design.num_episodes - 1
    raise UsageError(
        f"{folder} has no {ACTION_LOG_FILE_NAME} of {config.task} episode {config.episode}: "
        f"expected one that has been run, of {design.first_episode} to {last}"
    )


def _station_options(design: EvaluationDesign, config: ReplayConfig) -> StationOptions:
    cameras: Mapping[str, ImageSize] = {}
    if config.video is not None:
        try:
            cameras = dict.fromkeys(config.camera_names, ImageSize.parse(config.image_size))
        except ContractError as error:
            raise UsageError(f"--image-size: {error}") from error
    return StationOptions(
        task_name=config.task,
        cameras=cameras,
        shift=design.station.get("shift", ""),
        latency_ms=design.station.get("latency_ms", 0.0),
    )


def _say_versions(log: ActionLog) -> None:
    software = json.loads(log.protocol_json)["software"]
    for name in ("drake", "assay"):
        then, now = software.get(name), version_of(name)
        if then != now:
            print(f"simulated with {name} {then} then, with {now} now: expect other states")


def _described(replay: Replay, log: ActionLog) -> str:
    compared = f"{replay.num_states_compared} states of {replay.num_steps} control steps"
    broke = "" if replay.broke is None else f"; then the simulation broke: {replay.broke}"
    difference = replay.first_difference
    if difference is None:
        return f"bit-equal in all {compared}{broke}"
    where = (
        "as it was reset"
        if difference.step == 0
        else f"after control step {difference.step}, at {difference.time_s:.1f} s"
    )
    off_by = ""
    if difference.off_by is not None:
        off_by = f"; the arms are off by at most {difference.off_by:.3g} there"
    return f"differs first {where}{off_by} (of {compared}){broke}"


class _Drawing:
    """The video and the page asked for; nothing by default."""

    def __init__(self, config: ReplayConfig, station: Station) -> None:
        self._config = config
        self._station = station
        self._video: VideoWriter | None = None
        self._view: Any = None

    def __enter__(self) -> _Drawing:
        if self._config.video is not None:
            self._video = VideoWriter(
                self._config.video, frame_rate_hz=self._station.contract.control_rate_hz
            )
        if self._config.meshcat is not None:
            from sim_client.evaluation.scene_view import SceneView

            self._view = SceneView()
            self._is_drawn = False
        return self

    def __exit__(self, *_: object) -> None:
        if self._video is not None:
            self._video.close()

    def show(self) -> None:
        if self._video is not None:
            views = self._station.observe().cameras
            self._video.write(side_by_side([views[name].rgb for name in self._config.camera_names]))
        if self._view is not None:
            if self._is_drawn:
                self._view.publish(self._station)
            else:
                self._view.begin(self._station)
                self._is_drawn = True

    def save(self) -> None:
        if self._view is not None and self._config.meshcat is not None:
            write_atomically(self._config.meshcat, self._view.html())

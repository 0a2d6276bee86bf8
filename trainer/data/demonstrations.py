"""A folder of demonstrations, in memory.

Images stay uint8: a hundred episodes of two 96-pixel cameras are some 300 MB. Only episodes that
succeeded are kept, since a policy should not imitate what failed.

Axes: F frame (all episodes, one after the other), A arm, G gripper, E episode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.contract import Contract, differences
from policy_interface.demonstration import (
    Demonstration,
    DemonstrationError,
    list_demonstrations,
    load_demonstration,
)
from policy_interface.types import FloatArray
from trainer.configuration import ConfigurationError
from trainer.configuration_json import did_you_mean


@dataclass(frozen=True, kw_only=True, eq=False)
class DemonstrationSet:
    """contract: what a policy trained on these needs, with the chosen cameras alone.

    images: (F, H, W, 3) uint8 by camera. Poses are X_TE (F, A, 4, 4), widths (F, G) in metres;
    `actual` was measured, `action` commanded by the teacher. episode_starts: (E + 1,) frame
    numbers, the last one F. digest: SHA-256 over the files, in order. num_failed: left out.
    """

    contract: Contract
    images: Mapping[str, npt.NDArray[np.uint8]]
    actual_poses: FloatArray
    actual_widths_m: FloatArray
    action_poses: FloatArray
    action_widths_m: FloatArray
    episode_starts: npt.NDArray[np.int64]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    digest: str
    num_failed: int

    @property
    def num_episodes(self) -> int:
        return len(self.episode_starts) - 1

    @property
    def num_frames(self) -> int:
        return int(self.episode_starts[-1])


def load_demonstrations(folder: Path, cameras: Sequence[str] | None) -> DemonstrationSet:
    """cameras: those to keep; None keeps all.

    Raises DemonstrationError where a file is not whole, the contracts of two files differ or no
    episode succeeded, and ConfigurationError for a camera that was not recorded.
    """
    hasher = hashlib.sha256()
    episodes: list[Demonstration] = []
    num_failed = 0
    paths = list_demonstrations(folder)
    recorded = load_demonstration(paths[0]).contract
    chosen = _choose_cameras(recorded, cameras, folder)
    for path in paths:
        episode = load_demonstration(path)
        if episode.contract != recorded:
            differing = differences(policy=recorded, station=episode.contract)
            raise DemonstrationError(
                f"{path}: recorded under another contract than the files before it: "
                f"{'; '.join(differing) or 'other cameras, order of arms or use of language'}"
            )
        if not episode.success:
            num_failed += 1
            continue
        hasher.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        episodes.append(_without_other_cameras(episode, chosen))
    if not episodes:
        raise DemonstrationError(f"{folder}: none of the {num_failed} demonstrations succeeded")
    return _concatenate(episodes, chosen, hasher.hexdigest(), num_failed)


def _choose_cameras(contract: Contract, cameras: Sequence[str] | None, folder: Path) -> Contract:
    names = tuple(contract.cameras) if cameras is None else tuple(cameras)
    for name in names:
        if name not in contract.cameras:
            raise ConfigurationError(
                f"camera {name!r} missing: {folder} has {sorted(contract.cameras)}"
                f"{did_you_mean(name, contract.cameras)}"
            )
    if not names:
        raise ConfigurationError(f"{folder}: recorded without cameras; a policy needs one")
    return Contract(
        cameras={name: contract.cameras[name] for name in names},
        arms=contract.arms,
        grippers=contract.grippers,
        frame=contract.frame,
        end_effector=contract.end_effector,
        gripper_unit=contract.gripper_unit,
        control_rate_hz=contract.control_rate_hz,
        # What the robot is told is recorded, but this model does not listen.
        uses_language=False,
    )


def _without_other_cameras(episode: Demonstration, contract: Contract) -> Demonstration:
    """Lets go of images that are not needed before the next file is read."""
    fields: dict[str, Any] = dict(vars(episode))
    fields["cameras"] = {name: episode.cameras[name] for name in contract.cameras}
    fields["contract"] = contract
    return Demonstration(**fields)


def _concatenate(
    episodes: list[Demonstration], contract: Contract, digest: str, num_failed: int
) -> DemonstrationSet:
    def poses(name: str) -> FloatArray:
        tracks = [getattr(episode, name).poses for episode in episodes]
        return np.stack([np.concatenate([t[arm] for t in tracks]) for arm in contract.arms], axis=1)

    def widths(name: str) -> FloatArray:
        tracks = [getattr(episode, name).gripper_widths_m for episode in episodes]
        columns = [np.concatenate([t[gripper] for t in tracks]) for gripper in contract.grippers]
        num_frames = sum(episode.num_steps for episode in episodes)
        return np.stack(columns, axis=1) if columns else np.zeros((num_frames, 0))

    return DemonstrationSet(
        contract=contract,
        images={
            name: np.concatenate([episode.cameras[name].rgb for episode in episodes])
            for name in contract.cameras
        },
        actual_poses=poses("actual"),
        actual_widths_m=widths("actual"),
        action_poses=poses("action"),
        action_widths_m=widths("action"),
        episode_starts=np.cumsum([0, *(episode.num_steps for episode in episodes)]),
        tasks=tuple(sorted({episode.task for episode in episodes})),
        seeds=tuple(episode.seed for episode in episodes),
        digest=digest,
        num_failed=num_failed,
    )

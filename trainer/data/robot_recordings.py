"""What a data set holds of robots' motion, in memory, in the form that a policy is trained on.

Any format will do, as long as it says which poses were measured and which were commanded: those
of one part (`Field.part`), by their roles. Frames stay where they are (`trainer.data.loader`).
Episodes that are known to have failed are left out, since a policy should not imitate them.

Axes: T control step (all episodes, one after the other), A arm, G gripper, E episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.contract import (
    END_EFFECTOR_FRAME,
    Contract,
    ContractError,
    ImageSize,
    differences,
)
from policy_interface.types import FloatArray
from trainer.configuration_json import did_you_mean
from trainer.data.episode import Dataset, Episode, EpisodeDescription, FieldRole
from trainer.data.errors import DataError
from trainer.data.instructions import instruction_places, task_phrasings
from trainer.data.poses import PoseFields
from trainer.data.windows import IntArray
from trainer.requirements import ConfigurationError

_ROTATION_TOLERANCE = 1e-4
_KINDS_OF_ROTATION = (
    "rotation_matrix",
    "rotation_6d_rows",
    "rotation_6d_columns",
    "rotation_6d_interleaved",
)


@dataclass(frozen=True, kw_only=True)
class _Motion:
    """Where arms' poses and grippers' widths are, by part."""

    poses: Mapping[str, PoseFields]
    widths: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class RobotRecordings:
    """contract: what a policy trained on these needs, with the chosen cameras alone.

    episodes: their places in the data set. Poses are X_TE (T, A, 4, 4), widths (T, G) in metres;
    `actual` was measured, `action` commanded by the teacher. episode_starts: (E + 1,), the last one
    T. episode_tasks: where they are named. num_failed: left out. instructions: of each episode its
    phrasings, none where the policy is not told what to do; instruction_places: (T,) which of them
    holds, -1 where any does.
    """

    dataset: Dataset
    episodes: tuple[int, ...]
    contract: Contract
    actual_poses: FloatArray
    actual_widths_m: FloatArray
    action_poses: FloatArray
    action_widths_m: FloatArray
    episode_starts: npt.NDArray[np.int64]
    episode_tasks: tuple[str | None, ...]
    seeds: tuple[int, ...]
    digest: str
    num_failed: int
    instructions: tuple[tuple[str, ...], ...]
    instruction_places: npt.NDArray[np.int64]

    @property
    def num_episodes(self) -> int:
        return len(self.episodes)

    @property
    def tasks(self) -> tuple[str, ...]:
        """All that are named, each once."""
        return tuple(sorted({task for task in self.episode_tasks if task is not None}))

    @property
    def num_steps(self) -> int:
        return int(self.episode_starts[-1])

    def desired(self, places: IntArray, steps: IntArray) -> tuple[FloatArray, FloatArray]:
        """Where the arms are meant to be at control steps (...) of episodes (...), by their places:
        as was commanded at the step before, and at an episode's first step where they are.

        (..., A, 4, 4) and (..., G).
        """
        rows, is_first = self.episode_starts[places] + steps, steps == 0
        before = np.maximum(rows - 1, 0)
        return (
            np.where(
                is_first[..., None, None, None], self.actual_poses[rows], self.action_poses[before]
            ),
            np.where(is_first[..., None], self.actual_widths_m[rows], self.action_widths_m[before]),
        )


def read_recordings(
    dataset: Dataset, cameras: Sequence[str] | None, *, uses_language: bool = False
) -> RobotRecordings:
    """cameras: those to keep, whatever others an episode has; None keeps all, which are then the
    same in each. uses_language: whether the policy is told what to do.

    Raises DataError where an episode is not whole, episodes were recorded under different
    contracts, none succeeded, or an instruction is missing; ConfigurationError for a camera that
    was not recorded.
    """
    if len(dataset) == 0:
        raise DataError("no episodes", where=dataset.where)
    # Held against every other episode, those that failed included.
    recorded = _choose_cameras(_contract(dataset.episode(0).description), cameras, dataset.where)
    kept: list[int] = []
    descriptions: list[EpisodeDescription] = []
    tracks: list[tuple[FloatArray, FloatArray, FloatArray, FloatArray]] = []
    told: list[tuple[tuple[str, ...], npt.NDArray[np.int64]]] = []
    for index, episode in enumerate(dataset):
        description = episode.description
        contract = _without_others(_contract(description), cameras)
        if contract != recorded:
            differing = differences(policy=recorded, station=contract)
            raise DataError(
                "recorded under another contract than the episodes before it: "
                f"{'; '.join(differing) or 'other cameras, order of arms or use of language'}",
                where=dataset.where,
                episode=description.episode_id,
            )
        if description.success is False:
            continue
        kept.append(index)
        descriptions.append(description)
        told.append(_read_instructions(episode) if uses_language else ((), _any_of(description)))
        tracks.append(
            (
                *_read_motion(episode, "observed", contract),
                *_read_motion(episode, "action", contract),
            )
        )
    num_failed = len(dataset) - len(kept)
    if not kept:
        raise DataError(f"none of the {num_failed} episodes succeeded", where=dataset.where)
    columns = [np.concatenate(track) for track in zip(*tracks, strict=True)]
    return RobotRecordings(
        dataset=dataset,
        episodes=tuple(kept),
        contract=replace(recorded, uses_language=uses_language),
        actual_poses=columns[0],
        actual_widths_m=columns[1],
        action_poses=columns[2],
        action_widths_m=columns[3],
        episode_starts=np.cumsum([0, *(each.num_steps for each in descriptions)]),
        episode_tasks=tuple(each.task for each in descriptions),
        seeds=tuple(each.seed for each in descriptions if each.seed is not None),
        digest=dataset.digest,
        num_failed=num_failed,
        instructions=tuple(phrasings for phrasings, _ in told),
        instruction_places=np.concatenate([places for _, places in told]),
    )


def _any_of(description: EpisodeDescription) -> npt.NDArray[np.int64]:
    return np.full(description.num_steps, -1, np.int64)


def _read_instructions(episode: Episode) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """The phrasings, the original ones where they are told apart, and (T,) which holds."""
    description = episode.description
    phrasings = description.instructions.get("original") or task_phrasings(description)
    if not phrasings:
        raise DataError(
            "no instruction, and the policy is told what to do", episode=description.episode_id
        )
    places = instruction_places(episode, len(description.instructions.get("original", ())))
    return phrasings, _any_of(description) if places is None else places


def _contract(description: EpisodeDescription) -> Contract:
    """As the recording station stated it, or as the fields tell it. Nothing is guessed that could
    move a robot wrongly."""
    if "contract" in description.provenance:
        try:
            return Contract.from_json(description.provenance["contract"])
        except ContractError as error:
            raise DataError(str(error), episode=description.episode_id) from error
    commanded = _find_motion(description, "action")
    frames = {
        description.fields[name].frame
        for fields in commanded.poses.values()
        for name in fields.names
        if description.fields[name].kind != "rotation_matrix" or fields.pose is None
    }
    end_effector = description.provenance.get("end_effector")
    if end_effector is None and all(arm.endswith("::panda") for arm in commanded.poses):
        # The names are LBM Eval's, whose poses are of this frame.
        end_effector = END_EFFECTOR_FRAME
    frame = next(iter(frames)) if len(frames) == 1 else None
    for name, value in (
        ("which frame poses are in", frame),
        ("which frame of the arm they are of (provenance: end_effector)", end_effector),
        ("the control rate", description.rate_hz),
    ):
        if value is None:
            raise DataError(
                f"the data does not say {name}, without which no robot can be moved",
                episode=description.episode_id,
            )
    assert frame is not None
    assert end_effector is not None
    assert description.rate_hz is not None
    return Contract(
        cameras={
            name: ImageSize(height=camera.height, width=camera.width)
            for name, camera in description.cameras.items()
        },
        arms=tuple(commanded.poses),
        grippers=tuple(commanded.widths),
        frame=frame,
        end_effector=end_effector,
        control_rate_hz=description.rate_hz,
    )


def _find_motion(description: EpisodeDescription, role: FieldRole) -> _Motion:
    """By kind, role and part. Raises DataError where no arm's pose is given."""
    poses: dict[str, PoseFields] = {}
    translations: dict[str, str] = {}
    rotations: dict[str, str] = {}
    widths: dict[str, str] = {}
    for name, each in description.fields.items():
        if each.role != role or each.part is None:
            continue
        if each.kind == "pose":
            poses[each.part] = PoseFields(pose=name)
        elif each.kind == "translation":
            translations[each.part] = name
        elif each.kind in _KINDS_OF_ROTATION:
            rotations[each.part] = name
        elif each.kind == "gripper":
            if each.unit != "m" or each.size != 1:
                raise DataError(
                    f"expected one width in metres, got {each.size} of unit {each.unit!r}",
                    episode=description.episode_id,
                    field=name,
                )
            widths[each.part] = name
    for part in translations.keys() & rotations.keys():
        poses.setdefault(part, PoseFields(translation=translations[part], rotation=rotations[part]))
    if not poses:
        raise DataError(
            f"no pose of role {role!r} with its part named, which this policy learns from; there "
            f"are {sorted(description.fields)}",
            episode=description.episode_id,
        )
    return _Motion(poses=poses, widths=widths)


def _read_motion(
    episode: Episode, role: FieldRole, contract: Contract
) -> tuple[FloatArray, FloatArray]:
    """(T, A, 4, 4) and (T, G), in the contract's order."""
    description = episode.description
    motion = _find_motion(description, role)
    for part in (*contract.arms, *contract.grippers):
        if part not in motion.poses and part not in motion.widths:
            raise DataError(
                f"no pose or width of role {role!r} for {part!r}; there are "
                f"{[*motion.poses, *motion.widths]}",
                episode=description.episode_id,
            )
    names = [name for arm in contract.arms for name in motion.poses[arm].names]
    names += [motion.widths[gripper] for gripper in contract.grippers]
    values = episode.read_fields(names)
    for name, array in values.items():
        _check_finite(name, array, description)
    poses = [motion.poses[arm].join(values, description.fields) for arm in contract.arms]
    for arm, each in zip(contract.arms, poses, strict=True):
        _check_rotations(motion.poses[arm].names[-1], each[:, :3, :3], description)
    widths = [
        np.asarray(values[motion.widths[gripper]], dtype=np.float64).reshape(-1)
        for gripper in contract.grippers
    ]
    num_steps = description.num_steps
    return (
        np.stack(poses, axis=1),
        np.stack(widths, axis=1) if widths else np.zeros((num_steps, 0)),
    )


def _check_finite(name: str, values: npt.NDArray[Any], description: EpisodeDescription) -> None:
    if not np.isfinite(values).all():
        step = int(np.nonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0][0])
        raise DataError(
            f"expected finite numbers, got NaN or infinity at step {step}; "
            "`trainer data doctor` lists all that is wrong",
            episode=description.episode_id,
            field=name,
        )


def _check_rotations(name: str, rotation: FloatArray, description: EpisodeDescription) -> None:
    residual = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max()
    if residual > _ROTATION_TOLERANCE or not (np.linalg.det(rotation) > 0).all():
        raise DataError(
            f"expected rotations, got matrices off by {residual:.3g}",
            episode=description.episode_id,
            field=name,
        )


def _choose_cameras(contract: Contract, cameras: Sequence[str] | None, where: str) -> Contract:
    names = tuple(contract.cameras) if cameras is None else tuple(cameras)
    for name in names:
        if name not in contract.cameras:
            raise ConfigurationError(
                f"camera {name!r} missing: {where} has {sorted(contract.cameras)}"
                f"{did_you_mean(name, contract.cameras)}"
            )
    if not names:
        raise ConfigurationError(f"{where}: recorded without cameras; a policy needs one")
    return _without_others(contract, names)


def _without_others(contract: Contract, cameras: Sequence[str] | None) -> Contract:
    """With those of the cameras that it has; None for all."""
    if cameras is None:
        return contract
    sizes = contract.cameras
    return replace(contract, cameras={name: sizes[name] for name in cameras if name in sizes})

"""Between poses in the task frame and the numbers a network reads and writes.

One object does it for training, validation and serving alike, so the three cannot drift apart.

An action of the chunk is the pose that the teacher commanded at step t, relative to where the
end effector *was measured* at the anchor, in the end effector's own frame:

    X_EA = inverse(X_TE at the anchor) @ X_TA at t

A chunk is converted with one anchor, so that executed targets do not drift with what is observed
later. Proprioception is the measured pose in the task frame. Rotations are six numbers, the
first two rows of the matrix; gripper widths stay absolute, in metres.

Layout, for both: for each arm x, y, z (m), then six of the rotation; then a width a gripper. It
is an `ActionSpace` like any other (`robot_action_space`); this class is the way in for arrays of
poses, as a robot gives and takes them.

Axes: T timestep of the chunk, A arm, G gripper, D = 9 A + G numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.configuration import NormalizationConfig
from trainer.data.episode import Field
from trainer.data.normalization import NormalizationError, Normalizer
from trainer.data.poses import PoseFields
from trainer.data.statistics.field_statistics import FieldStatistics
from trainer.data.statistics.summary import Summary
from trainer.data.vector_components import Component, GripperNumbers, PoseNumbers
from trainer.data.vector_layout import ActionSpace, ResolvedLayout, VectorLayout

NORMALIZATION_FORMAT = "assay.normalization/2"
# Without a normaliser's first step, which was the anchor.
_EARLIER_FORMATS = ("assay.normalization/1",)

_WIDTH = Field(shape=(), kind="gripper", unit="m")
_POSE = Field(shape=(4, 4), kind="pose", unit="m")


def robot_action_space(arms: tuple[str, ...], grippers: tuple[str, ...]) -> ActionSpace:
    """Over fields named as our demonstrations name them."""
    action: list[Component] = [
        PoseNumbers(
            name=arm,
            pose=PoseFields(pose=f"action/pose/{arm}"),
            relative_to=PoseFields(pose=f"actual/pose/{arm}"),
        )
        for arm in arms
    ]
    state: list[Component] = [
        PoseNumbers(name=arm, pose=PoseFields(pose=f"actual/pose/{arm}")) for arm in arms
    ]
    action += [GripperNumbers(name=g, field=f"action/width_m/{g}") for g in grippers]
    state += [GripperNumbers(name=g, field=f"actual/width_m/{g}") for g in grippers]
    return ActionSpace(
        action=VectorLayout(components=tuple(action)),
        proprioception=VectorLayout(components=tuple(state)),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class RobotTransform:
    """arms, grippers: in vector order. chunk_length: T. action, proprioception: scales."""

    arms: tuple[str, ...]
    grippers: tuple[str, ...]
    chunk_length: int
    action: Normalizer
    proprioception: Normalizer

    def __post_init__(self) -> None:
        for label, layout in (
            ("action", self._action_layout),
            ("proprioception", self._state_layout),
        ):
            normalizer: Normalizer = getattr(self, label)
            if normalizer.names != layout.names:
                raise NormalizationError(
                    f"{label} statistics: expected {list(layout.names)}, "
                    f"got {list(normalizer.names)}"
                )
        steps = len(self.action.center) + self.action.first_step
        if self.action.is_per_timestep and steps != self.chunk_length:
            raise NormalizationError(
                f"action statistics: expected {self.chunk_length} timesteps, got {steps}"
            )

    @property
    def num_numbers(self) -> int:
        """D."""
        return len(self.action.names)

    @cached_property
    def _action_layout(self) -> ResolvedLayout:
        return robot_layouts(self.arms, self.grippers)[0]

    @cached_property
    def _state_layout(self) -> ResolvedLayout:
        return robot_layouts(self.arms, self.grippers)[1]

    @staticmethod
    def fit(
        *,
        arms: tuple[str, ...],
        grippers: tuple[str, ...],
        anchor_poses: FloatArray,
        anchor_widths_m: FloatArray,
        action_poses: FloatArray,
        action_widths_m: FloatArray,
        valid: npt.NDArray[np.bool_],
        config: NormalizationConfig,
    ) -> RobotTransform:
        """Scales from N windows, as `motion_statistics` takes them."""
        action, proprioception = motion_statistics(
            arms=arms,
            grippers=grippers,
            anchor_poses=anchor_poses,
            anchor_widths_m=anchor_widths_m,
            action_poses=action_poses,
            action_widths_m=action_widths_m,
            valid=valid,
        )
        return RobotTransform.from_statistics(arms, grippers, action, proprioception, config)

    @staticmethod
    def from_statistics(
        arms: tuple[str, ...],
        grippers: tuple[str, ...],
        action: FieldStatistics,
        proprioception: FieldStatistics,
        config: NormalizationConfig,
    ) -> RobotTransform:
        """Raises NormalizationError for statistics of other numbers."""
        floors = [config.translation_floor_m] * 3 + [config.rotation_floor] * 6
        scale_floors = floors * len(arms) + [config.width_floor_m] * len(grippers)
        return RobotTransform(
            arms=arms,
            grippers=grippers,
            chunk_length=len(action.per_step) - action.past,
            action=Normalizer.from_statistics(action, config, scale_floors),
            # There is one state to a window: nothing to scale each timestep apart.
            proprioception=Normalizer.from_statistics(
                proprioception, replace(config, scope="global"), scale_floors
            ),
        )

    def encode_actions(
        self, anchor_poses: FloatArray, poses: FloatArray, widths_m: FloatArray
    ) -> FloatArray:
        """Anchor X_TE (..., A, 4, 4), actions (..., T, A, 4, 4) and (..., T, G) to (..., T, D)."""
        return self.action.normalize(
            self._relative(anchor_poses, poses, widths_m), self._first_step
        )

    def encode_history(
        self,
        poses: FloatArray,
        widths_m: FloatArray,
        commanded_poses: FloatArray,
        commanded_widths_m: FloatArray,
    ) -> FloatArray:
        """What is known of the body, (..., P D + (P + 1) D): past actions, relative to where the
        arms are now, then states, the oldest first.

        Measured X_TE (..., P + 1, A, 4, 4) and widths (..., P + 1, G) of the P steps before the
        anchor and of it; what was commanded at those P steps, (..., P, A, 4, 4) and (..., P, G).
        Raises NormalizationError for steps that the statistics do not cover.
        """
        past = commanded_poses.shape[-4]
        values = _values("actual", self.arms, self.grippers, poses, widths_m)
        states = self.proprioception.normalize(self._state_layout.encode(values, {}), -past)
        parts = [states]
        if past:
            relative = self._relative(poses[..., -1, :, :, :], commanded_poses, commanded_widths_m)
            parts.insert(0, self.action.normalize(relative, -past))
        return np.concatenate([part.reshape(*part.shape[:-2], -1) for part in parts], axis=-1)

    def decode_actions(
        self, anchor_poses: FloatArray, chunk: npt.ArrayLike
    ) -> tuple[FloatArray, FloatArray]:
        """The inverse of encode_actions: absolute poses (..., T, A, 4, 4), widths (..., T, G).

        Raises NormalizationError for a chunk of another length or with NaN, and
        InvalidValueError where six numbers make no rotation.
        """
        numbers = self.action.denormalize(chunk, self._first_step)
        anchor = _values("actual", self.arms, (), anchor_poses, np.empty(0))
        decoded = self._action_layout.decode(numbers, anchor)
        poses = np.stack([decoded[f"action/pose/{arm}"] for arm in self.arms], axis=-3)
        widths = [decoded[f"action/width_m/{gripper}"] for gripper in self.grippers]
        return poses, np.stack(widths, axis=-1) if widths else np.empty((*numbers.shape[:-1], 0))

    @property
    def _first_step(self) -> int | None:
        """Of a chunk: statistics that begin before the anchor cover more than it."""
        return 0 if self.action.first_step else None

    def _relative(
        self, anchor_poses: FloatArray, poses: FloatArray, widths_m: FloatArray
    ) -> FloatArray:
        values = _values("action", self.arms, self.grippers, poses, widths_m)
        anchor = _values("actual", self.arms, (), anchor_poses, np.empty(0))
        return self._action_layout.encode(values, anchor)

    def to_json(self) -> str:
        fields = {
            "format": NORMALIZATION_FORMAT,
            "arms": list(self.arms),
            "grippers": list(self.grippers),
            "chunk_length": self.chunk_length,
            "action": self.action.to_fields(),
            "proprioception": self.proprioception.to_fields(),
        }
        return json.dumps(fields, indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> RobotTransform:
        """Of this format or an earlier one. Raises NormalizationError for anything else."""
        try:
            fields = json.loads(text)
            found = fields.get("format")
            if found not in (NORMALIZATION_FORMAT, *_EARLIER_FORMATS):
                raise NormalizationError(
                    f"normalization: expected {NORMALIZATION_FORMAT!r}, got {found!r}"
                )
            return RobotTransform(
                arms=tuple(fields["arms"]),
                grippers=tuple(fields["grippers"]),
                chunk_length=int(fields["chunk_length"]),
                action=Normalizer.from_fields(fields["action"]),
                proprioception=Normalizer.from_fields(fields["proprioception"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, NormalizationError):
                raise
            raise NormalizationError(f"normalization: cannot be read: {error!r}") from error


def motion_statistics(
    *,
    arms: tuple[str, ...],
    grippers: tuple[str, ...],
    anchor_poses: FloatArray,
    anchor_widths_m: FloatArray,
    action_poses: FloatArray,
    action_widths_m: FloatArray,
    valid: npt.NDArray[np.bool_],
    past: int = 0,
) -> tuple[FieldStatistics, FieldStatistics]:
    """Of actions and of proprioception, in N windows; those of more windows are merged with them.

    Anchors (N, A, 4, 4) and (N, G); actions (N, T, A, 4, 4) and (N, T, G), of which those `valid`
    (N, T) count, and the first `past` are of steps before the anchor.
    """
    action_layout, state_layout = robot_layouts(arms, grippers)
    anchor = _values("actual", arms, grippers, anchor_poses, anchor_widths_m)
    chunks = action_layout.encode(
        _values("action", arms, grippers, action_poses, action_widths_m), anchor
    )
    steps = [Summary.of(chunks[valid[:, t], t]) for t in range(valid.shape[1])]
    states = [Summary.of(state_layout.encode(anchor, {}))]
    action, proprioception = (
        FieldStatistics(
            shape=(layout.size,),
            names=layout.names,
            overall=Summary.merged(summaries),
            per_step=tuple(summaries),
            past=place,
        )
        for layout, summaries, place in (
            (action_layout, steps, past),
            (state_layout, states, 0),
        )
    )
    return action, proprioception


def robot_layouts(
    arms: tuple[str, ...], grippers: tuple[str, ...]
) -> tuple[ResolvedLayout, ResolvedLayout]:
    """Of actions and of proprioception."""
    space = robot_action_space(arms, grippers)
    fields = {f"{role}/pose/{arm}": _POSE for role in ("actual", "action") for arm in arms}
    fields |= {f"{role}/width_m/{g}": _WIDTH for role in ("actual", "action") for g in grippers}
    return space.action.resolve(fields), space.proprioception.resolve(fields)


def _values(
    role: str,
    arms: tuple[str, ...],
    grippers: tuple[str, ...],
    poses: FloatArray,
    widths_m: FloatArray,
) -> Mapping[str, FloatArray]:
    """(..., A, 4, 4) and (..., G) by the names of the fields that hold them."""
    values = {f"{role}/pose/{arm}": poses[..., i, :, :] for i, arm in enumerate(arms)}
    return values | {f"{role}/width_m/{g}": widths_m[..., i] for i, g in enumerate(grippers)}

"""Between poses in the task frame and the numbers a network reads and writes.

One object does it for training, validation and serving alike, so the three cannot drift apart.

An action of the chunk is the pose that the teacher commanded at step t, relative to where the
end effector *was measured* at the anchor, in the end effector's own frame:

    X_EA = inverse(X_TE at the anchor) @ X_TA at t

A chunk is converted with one anchor, so that executed targets do not drift with what is observed
later. Proprioception is the measured pose in the task frame. Rotations are six numbers, the
first two rows of the matrix; gripper widths stay absolute, in metres.

Layout, for both: for each arm x, y, z (m), then six of the rotation; then a width a gripper.

Axes: T timestep of the chunk, A arm, G gripper, D = 9 A + G numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policy_interface.rotations import rotation_from_6d, rotation_to_6d
from policy_interface.types import FloatArray
from trainer.configuration import NormalizationConfig
from trainer.data.normalization import NormalizationError, Normalizer

NORMALIZATION_FORMAT = "assay.normalization/1"

_NUMBERS_PER_ARM = 9
_ARM_FIELDS = ("x_m", "y_m", "z_m", "r00", "r01", "r02", "r10", "r11", "r12")


def inverse_poses(poses: FloatArray) -> FloatArray:
    """X_BA from X_AB, (..., 4, 4) each."""
    rotation_transposed = poses[..., :3, :3].swapaxes(-1, -2)
    inverse = np.zeros_like(poses)
    inverse[..., :3, :3] = rotation_transposed
    inverse[..., :3, 3:] = -rotation_transposed @ poses[..., :3, 3:]
    inverse[..., 3, 3] = 1.0
    return inverse


def _pack(poses: FloatArray, widths_m: FloatArray) -> FloatArray:
    """(..., A, 4, 4) and (..., G) to (..., D)."""
    numbers = np.concatenate([poses[..., :3, 3], rotation_to_6d(poses[..., :3, :3])], axis=-1)
    flat = numbers.reshape(*numbers.shape[:-2], -1)
    return np.concatenate([flat, widths_m], axis=-1)


def _unpack(numbers: FloatArray, num_arms: int) -> tuple[FloatArray, FloatArray]:
    """(..., D) to (..., A, 4, 4) and (..., G). Raises InvalidValueError for no rotation."""
    split = _NUMBERS_PER_ARM * num_arms
    arms = numbers[..., :split].reshape(*numbers.shape[:-1], num_arms, _NUMBERS_PER_ARM)
    poses = np.zeros((*arms.shape[:-1], 4, 4))
    poses[..., :3, :3] = rotation_from_6d(arms[..., 3:])
    poses[..., :3, 3] = arms[..., :3]
    poses[..., 3, 3] = 1.0
    return poses, numbers[..., split:]


@dataclass(frozen=True, kw_only=True, eq=False)
class RobotTransform:
    """arms, grippers: in vector order. chunk_length: T. action, proprioception: scales."""

    arms: tuple[str, ...]
    grippers: tuple[str, ...]
    chunk_length: int
    action: Normalizer
    proprioception: Normalizer

    def __post_init__(self) -> None:
        names = _names(self.arms, self.grippers)
        for label in ("action", "proprioception"):
            normalizer: Normalizer = getattr(self, label)
            if normalizer.names != names:
                raise NormalizationError(
                    f"{label} statistics: expected {list(names)}, got {list(normalizer.names)}"
                )
        if self.action.center.ndim == 2 and len(self.action.center) != self.chunk_length:
            raise NormalizationError(
                f"action statistics: expected {self.chunk_length} timesteps, "
                f"got {len(self.action.center)}"
            )

    @property
    def num_numbers(self) -> int:
        """D."""
        return len(self.action.names)

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
        """Scales from N windows: anchors (N, A, 4, 4) and (N, G); actions (N, T, A, 4, 4) and
        (N, T, G), of which those `valid` (N, T) count."""
        names = _names(arms, grippers)
        floors = [config.translation_floor_m] * 3 + [config.rotation_floor] * 6
        scale_floors = floors * len(arms) + [config.width_floor_m] * len(grippers)
        quantiles = (config.lower_quantile, config.upper_quantile)
        relative = inverse_poses(anchor_poses)[:, None] @ action_poses
        chunks = _pack(relative, action_widths_m)
        per_timestep = config.scope == "per_timestep"
        return RobotTransform(
            arms=arms,
            grippers=grippers,
            chunk_length=valid.shape[1],
            action=Normalizer.fit(
                chunks if per_timestep else chunks[valid],
                names=names,
                scale_floors=scale_floors,
                quantiles=quantiles,
                valid=valid if per_timestep else None,
            ),
            proprioception=Normalizer.fit(
                _pack(anchor_poses, anchor_widths_m),
                names=names,
                scale_floors=scale_floors,
                quantiles=quantiles,
            ),
        )

    def encode_proprioception(self, poses: FloatArray, widths_m: FloatArray) -> FloatArray:
        """Measured X_TE (..., A, 4, 4) and widths (..., G) to (..., D)."""
        return self.proprioception.normalize(_pack(poses, widths_m))

    def encode_actions(
        self, anchor_poses: FloatArray, poses: FloatArray, widths_m: FloatArray
    ) -> FloatArray:
        """Anchor X_TE (..., A, 4, 4), actions (..., T, A, 4, 4) and (..., T, G) to (..., T, D)."""
        relative = inverse_poses(anchor_poses)[..., None, :, :, :] @ poses
        return self.action.normalize(_pack(relative, widths_m))

    def decode_actions(
        self, anchor_poses: FloatArray, chunk: npt.ArrayLike
    ) -> tuple[FloatArray, FloatArray]:
        """The inverse of encode_actions: absolute poses (..., T, A, 4, 4), widths (..., T, G).

        Raises NormalizationError for a chunk of another length or with NaN, and
        InvalidValueError where six numbers make no rotation.
        """
        relative, widths_m = _unpack(self.action.denormalize(chunk), len(self.arms))
        return anchor_poses[..., None, :, :, :] @ relative, widths_m

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
        """Raises NormalizationError for anything else."""
        try:
            fields = json.loads(text)
            found = fields.get("format")
            if found != NORMALIZATION_FORMAT:
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


def _names(arms: tuple[str, ...], grippers: tuple[str, ...]) -> tuple[str, ...]:
    return (
        *(f"{arm}/{number}" for arm in arms for number in _ARM_FIELDS),
        *(f"{gripper}/width_m" for gripper in grippers),
    )

"""What a policy plans where a teacher once was, beside what the teacher then did.

Axes: N window, T timestep, A arm, G gripper.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.windows import BoolArray, IntArray


@dataclass(frozen=True, kw_only=True)
class ActionError:
    """Means over held-out windows, some actions of a plan, and the arms."""

    position_mm: float
    rotation_deg: float
    gripper_mm: float


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenLoopPlans:
    """arms, grippers: in the order of their axes. rate_hz: of control.

    open_loop_steps: actions of a plan that are executed before the next one.
    episode, anchor: (N,), each window's episode, by its number in the data set, and control step.
    poses, widths_m: planned, (N, T, A, 4, 4) and (N, T, G); taught_poses, taught_widths_m: the
    teacher's. valid: (N, T), within the episode.
    """

    arms: tuple[str, ...]
    grippers: tuple[str, ...]
    rate_hz: float
    open_loop_steps: int
    episode: IntArray
    anchor: IntArray
    poses: FloatArray
    widths_m: FloatArray
    taught_poses: FloatArray
    taught_widths_m: FloatArray
    valid: BoolArray

    @cached_property
    def position_error_m(self) -> FloatArray:
        """(N, T, A)."""
        away = self.poses[..., :3, 3] - self.taught_poses[..., :3, 3]
        return np.linalg.norm(away, axis=-1)

    @cached_property
    def rotation_error_rad(self) -> FloatArray:
        """(N, T, A)."""
        return _angle_between(self.poses[..., :3, :3], self.taught_poses[..., :3, :3])

    @cached_property
    def width_error_m(self) -> FloatArray:
        """(N, T, G)."""
        return np.abs(self.widths_m - self.taught_widths_m)

    def only(self, windows: IntArray) -> OpenLoopPlans:
        """Of some of the windows."""
        names = ("episode", "anchor", "poses", "widths_m", "taught_poses", "taught_widths_m")
        return replace(self, **{name: getattr(self, name)[windows] for name in (*names, "valid")})

    def executed_error(self, episodes: Collection[int] | None = None) -> ActionError:
        """Of the actions executed before replanning. episodes: by their numbers; None for all."""
        executed = self.valid & (np.arange(self.valid.shape[1]) < self.open_loop_steps)
        if episodes is not None:
            executed &= np.isin(self.episode, list(episodes))[:, None]
        return self._mean_error(executed)

    def error_by_action(self) -> dict[int, ActionError]:
        """Of single actions, counted from 1, where windows have them: of those executed the first,
        the ones that end a quarter and half of them, and the last."""
        executed = self.open_loop_steps
        errors: dict[int, ActionError] = {}
        for number in sorted({1, -(-executed // 4), -(-executed // 2), executed}):
            counted = self.valid & (np.arange(self.valid.shape[1]) == number - 1)
            if counted.any():
                errors[number] = self._mean_error(counted)
        return errors

    def _mean_error(self, counted_NT: BoolArray) -> ActionError:
        def mean(error_NTX: npt.NDArray[np.float64]) -> float:
            return float(error_NTX[counted_NT].mean())

        return ActionError(
            position_mm=1e3 * mean(self.position_error_m),
            rotation_deg=float(np.rad2deg(mean(self.rotation_error_rad))),
            gripper_mm=1e3 * mean(self.width_error_m) if self.grippers else 0.0,
        )


def _angle_between(first: FloatArray, second: FloatArray) -> FloatArray:
    """(..., 3, 3) rotations to the angle from one to the other, in radians."""
    trace = np.einsum("...ij,...ij->...", first, second)
    return np.arccos(np.clip((trace - 1) / 2, -1, 1))

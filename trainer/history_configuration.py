"""What a policy sees and knows of the control steps before now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trainer.requirements import require

_MOST_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class HistoryConfig:
    """What a policy sees and knows. Before an episode's first step, that one stands for all others.

    Attributes:
        frames: Control steps from now whose pictures each camera gives, such as -5 0.
        past_steps: Control steps before now whose actions and states are given.
        proprioception: Whether measured states are read, those of the past steps and of now.
    """

    frames: tuple[int, ...] = (0,)
    past_steps: int = 0
    proprioception: bool = True

    def __post_init__(self) -> None:
        frames = self.frames
        require(
            frames[-1:] == (0,)
            and list(frames) == sorted(set(frames))
            and frames[0] >= -_MOST_STEPS,
            "history.frames",
            f"ascending steps from {-_MOST_STEPS} on, each once, the last one 0, which is now",
            frames,
        )
        require(
            0 <= self.past_steps <= _MOST_STEPS,
            "history.past_steps",
            f"0 to {_MOST_STEPS}",
            self.past_steps,
        )

    def pictures(self, cameras: Iterable[str]) -> Mapping[str, tuple[str, int]]:
        """By the names that a network has for them, each a camera and a step from now: the oldest
        first, those of one step side by side."""
        if self.frames == (0,):
            return {camera: (camera, 0) for camera in cameras}
        cameras = tuple(cameras)
        return {f"{camera}_t{step}": (camera, step) for step in self.frames for camera in cameras}

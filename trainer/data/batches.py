"""Training examples on the training's device, and the batch of each optimizer step.

Whatever is random in a step (which windows, which noise) is a function of the run's seed and of
the step's number. So a resumed run sees what an uninterrupted one sees, and no generator's
state needs to be saved.

Axes: N window, B sample, T timestep, A numbers an action, P proprioception, F frame, C H W image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.configuration import NormalizationConfig, TrainConfig
from trainer.data.augmentation import augmented_images, padded_frames
from trainer.data.demonstrations import DemonstrationSet
from trainer.data.robot_transform import RobotTransform
from trainer.data.windows import Windows, make_windows

# Independent streams of random numbers under one seed.
_ORDER_STREAM, _STEP_STREAM = 0, 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """What one optimizer step learns from.

    images: (B, 3, H, W) by camera, in about [-1, 1]. proprioception: (B, P), normalised.
    chunk: (B, T, A), normalised. valid: (B, T), 0 beyond an episode's end.
    """

    images: Mapping[str, Tensor]
    proprioception: Tensor
    chunk: Tensor
    valid: Tensor

    def rows(self, rows: slice) -> Batch:
        """Some of its samples."""
        return Batch(
            images={name: images[rows] for name, images in self.images.items()},
            proprioception=self.proprioception[rows],
            chunk=self.chunk[rows],
            valid=self.valid[rows],
        )


def fit_transform(
    demonstrations: DemonstrationSet, windows: Windows, config: NormalizationConfig
) -> RobotTransform:
    """The scales of these windows' actions and proprioception."""
    return RobotTransform.fit(
        arms=demonstrations.contract.arms,
        grippers=demonstrations.contract.grippers,
        anchor_poses=demonstrations.actual_poses[windows.anchors],
        anchor_widths_m=demonstrations.actual_widths_m[windows.anchors],
        action_poses=demonstrations.action_poses[windows.steps],
        action_widths_m=demonstrations.action_widths_m[windows.steps],
        valid=windows.valid,
        config=config,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingData:
    """Every window of the training episodes, encoded once.

    frames: padded, (F, H', W', 3) uint8 by camera. anchors: (N,) frames. proprioception: (N, P).
    chunks: (N, T, A). valid: (N, T), 0 beyond an episode's end.
    """

    config: TrainConfig
    transform: RobotTransform
    frames: Mapping[str, Tensor]
    anchors: Tensor
    proprioception: Tensor
    chunks: Tensor
    valid: Tensor

    @staticmethod
    def prepare(
        demonstrations: DemonstrationSet,
        episodes: Sequence[int],
        config: TrainConfig,
        device: torch.device,
    ) -> TrainingData:
        windows = make_windows(demonstrations.episode_starts, episodes, config.chunk_length)
        transform = fit_transform(demonstrations, windows, config.normalization)
        anchor_poses = demonstrations.actual_poses[windows.anchors]
        proprioception = transform.encode_proprioception(
            anchor_poses, demonstrations.actual_widths_m[windows.anchors]
        )
        chunks = transform.encode_actions(
            anchor_poses,
            demonstrations.action_poses[windows.steps],
            demonstrations.action_widths_m[windows.steps],
        )
        return TrainingData(
            config=config,
            transform=transform,
            frames={
                name: padded_frames(torch.from_numpy(images), config.augmentation).to(device)
                for name, images in demonstrations.images.items()
            },
            anchors=torch.from_numpy(windows.anchors).to(device),
            proprioception=torch.from_numpy(proprioception).float().to(device),
            chunks=torch.from_numpy(chunks).float().to(device),
            valid=torch.from_numpy(windows.valid).float().to(device),
        )

    @property
    def device(self) -> torch.device:
        return self.anchors.device

    def generator(self, step: int) -> torch.Generator:
        """The random numbers of optimizer step `step`, counted from 0."""
        sequence = np.random.SeedSequence([self.config.seed, _STEP_STREAM, step])
        generator = torch.Generator(self.device)
        return generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        """The batch of optimizer step `step`, augmented."""
        chosen = window_order(
            step, self.config.batch_size, num_windows=len(self.anchors), seed=self.config.seed
        )
        index_B = torch.from_numpy(chosen).to(self.device)
        augmentation = self.config.augmentation
        proprioception_BP = self.proprioception[index_B]
        noise_BP = torch.randn(proprioception_BP.shape, generator=generator, device=self.device)
        return Batch(
            images={
                name: augmented_images(frames, self.anchors[index_B], augmentation, generator)
                for name, frames in self.frames.items()
            },
            proprioception=proprioception_BP + augmentation.proprioception_noise * noise_BP,
            chunk=self.chunks[index_B],
            valid=self.valid[index_B],
        )


def window_order(
    step: int, batch_size: int, *, num_windows: int, seed: int
) -> npt.NDArray[np.int64]:
    """(batch_size,) windows of a step: every window once an epoch, in a new order each epoch."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, places = np.divmod(positions, num_windows)
    chosen = np.empty(batch_size, np.int64)
    for epoch in np.unique(epochs):
        order = np.random.default_rng([seed, _ORDER_STREAM, int(epoch)]).permutation(num_windows)
        here = epochs == epoch
        chosen[here] = order[places[here]]
    return chosen

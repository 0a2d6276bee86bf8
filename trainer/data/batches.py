"""What each optimizer step learns from: encoded, augmented, on the training's device.

Whatever is random in a step (which windows, how they are augmented, which noise) is a function of
the run's seed and of the step's number. So a resumed run sees what an uninterrupted one sees, and
no generator's state needs to be saved.

Axes: N window, B sample, T timestep, A numbers an action, P proprioception, C H W image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from policy_interface.types import FloatArray
from trainer.data.augmentation import augmented_images, proprioception_noise
from trainer.data.configuration import NormalizationConfig
from trainer.data.counter_random import uniform
from trainer.data.instruction_prompts import InstructionPrompts
from trainer.data.loader import LoaderSource, WindowBatch, WindowLoader
from trainer.data.robot_recordings import RobotRecordings
from trainer.data.robot_sources import RobotSource
from trainer.data.robot_transform import RobotTransform, motion_statistics
from trainer.data.statistics.field_statistics import FieldStatistics
from trainer.data.windows import IntArray, WindowIndex, WindowSpec
from trainer.distributed import current_world
from trainer.history_configuration import HistoryConfig
from trainer.policy_configuration import PolicyConfig

# A stream of its own under the run's seed, apart from those of sampling and augmentation.
_STEP_STREAM = 1
# Which phrasing of its instruction a window is told.
_PROMPT_STREAM = 5
# Windows whose actions are encoded at once for statistics.
_WINDOWS_AT_ONCE = 8192


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """What one optimizer step learns from, or a rank's rows of it.

    images: (B, 3, H, W) by the network's names for them, in about [-1, 1]. proprioception: (B, P),
    normalised, as `RobotTransform.encode_history` has it.
    chunk: (B, T, A), normalised. valid: (B, T), 0 beyond an episode's end. prompt: (B, S) tokens
    of a policy that is told what to do, or None. source: (B,) places of the data sets that they
    are of.
    """

    images: Mapping[str, Tensor]
    proprioception: Tensor
    chunk: Tensor
    valid: Tensor
    source: Tensor
    prompt: Tensor | None = None

    def rows(self, rows: slice) -> Batch:
        """Some of its samples."""
        return Batch(
            images={name: images[rows] for name, images in self.images.items()},
            proprioception=self.proprioception[rows],
            chunk=self.chunk[rows],
            valid=self.valid[rows],
            source=self.source[rows],
            prompt=None if self.prompt is None else self.prompt[rows],
        )


def chunk_window(chunk_length: int, history: HistoryConfig | None = None) -> WindowSpec:
    """The anchor's own action is the chunk's first; beyond its end an episode is padded."""
    frames = (0,) if history is None else history.frames
    return WindowSpec(future=chunk_length - 1, image_offsets=frames)


class KnownMotion(NamedTuple):
    """What is known of the body at N anchors, as `RobotTransform.encode_history` takes it."""

    poses: FloatArray
    widths_m: FloatArray
    commanded_poses: FloatArray
    commanded_widths_m: FloatArray

    @staticmethod
    def of(
        recordings: RobotRecordings, places_N: IntArray, anchors_N: IntArray, past_steps: int
    ) -> KnownMotion:
        """places: of episodes in recordings. Before an episode's first step there is that one,
        repeated, as when a policy is served."""
        steps_NH = np.maximum(anchors_N[:, None] + np.arange(-past_steps, 1), 0)
        places_N1 = places_N[:, None]
        rows_NH = recordings.episode_starts[places_N1] + steps_NH
        return KnownMotion(
            recordings.actual_poses[rows_NH],
            recordings.actual_widths_m[rows_NH],
            *recordings.desired(places_N1, steps_NH[:, 1:]),
        )


def fit_transform(
    recordings: RobotRecordings,
    episodes: Sequence[int],
    chunk_length: int,
    config: NormalizationConfig,
    past_steps: int = 0,
) -> RobotTransform:
    """The scales of all windows' actions and proprioception. episodes: places in recordings."""
    window = chunk_window(chunk_length)
    lengths = np.diff(recordings.episode_starts)[list(episodes)]
    index = WindowIndex(lengths, window)
    parts: list[tuple[FieldStatistics, FieldStatistics]] = []
    for start in range(0, len(index), _WINDOWS_AT_ONCE):
        places, anchors = index.locate(np.arange(start, min(start + _WINDOWS_AT_ONCE, len(index))))
        first_rows = recordings.episode_starts[np.asarray(episodes)[places]]
        steps, valid = window.steps(anchors, lengths[places])
        rows = first_rows[:, None] + steps
        known = KnownMotion.of(recordings, np.asarray(episodes)[places], anchors, past_steps)
        parts.append(
            motion_statistics(
                arms=recordings.contract.arms,
                grippers=recordings.contract.grippers,
                anchor_poses=recordings.actual_poses[first_rows + anchors],
                anchor_widths_m=recordings.actual_widths_m[first_rows + anchors],
                action_poses=np.concatenate(
                    [known.commanded_poses, recordings.action_poses[rows]], axis=1
                ),
                action_widths_m=np.concatenate(
                    [known.commanded_widths_m, recordings.action_widths_m[rows]], axis=1
                ),
                valid=np.pad(valid, ((0, 0), (past_steps, 0)), constant_values=True),
                past=past_steps,
            )
        )
    action, proprioception = (FieldStatistics.merged(each) for each in zip(*parts, strict=True))
    return RobotTransform.from_statistics(
        recordings.contract.arms, recordings.contract.grippers, action, proprioception, config
    )


def frames_by_name(frames: Mapping[str, Tensor], history: HistoryConfig) -> Mapping[str, Tensor]:
    """(B, F, ...) by camera to (B, ...) by the network's names for them."""
    return {
        name: frames[camera][:, history.frames.index(step)]
        for name, (camera, step) in history.pictures(frames).items()
    }


class TrainingData:
    """The training episodes' batches. A context manager, which ends the loader's processes.

    sources: their `training` episodes, each by its weight. Of all their windows, each counted once,
    is the one scale that normalises: a policy is served without knowing which data a station's
    observation is like, and a metre is as long in all of them. prompts: of a policy that is told
    what to do. history: what one sees and knows of past control steps; None for nothing. transform:
    scales to keep, of what the policy began with.
    """

    def __init__(
        self,
        recordings: RobotRecordings,
        sources: Sequence[RobotSource],
        config: PolicyConfig,
        device: torch.device,
        prompts: InstructionPrompts | None = None,
        history: HistoryConfig | None = None,
        transform: RobotTransform | None = None,
    ) -> None:
        self._prompts = prompts
        self.config, self.device = config, device
        self._history = HistoryConfig() if history is None else history
        places = [place for source in sources for place in source.training]
        self.transform = transform or fit_transform(
            recordings,
            places,
            config.chunk_length,
            config.normalization,
            self._history.past_steps,
        )
        self._recordings = recordings
        self._window = chunk_window(config.chunk_length, self._history)
        self._place_of = np.zeros(len(recordings.dataset), np.int64)
        self._place_of[[recordings.episodes[place] for place in places]] = places
        self._loader = WindowLoader(
            [
                LoaderSource(
                    dataset=recordings.dataset,
                    episodes=[recordings.episodes[place] for place in source.training],
                    weight=source.weight,
                )
                for source in sources
            ],
            self._window,
            cameras=tuple(recordings.contract.cameras),
            fields=(),
            batch_size=config.batch_size,
            seed=config.seed,
            config=config.loader,
            device=device,
            rank=current_world().rank,
            num_ranks=current_world().size,
        )

    def __enter__(self) -> TrainingData:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._loader.close()

    def generator(self, step: int) -> torch.Generator:
        """The random numbers of optimizer step `step`, counted from 0."""
        sequence = np.random.SeedSequence([self.config.seed, _STEP_STREAM, step])
        generator = torch.Generator(self.device)
        return generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Of optimizer steps `start` to `stop`, the last one left out."""
        for windows in self._loader.batches(start, stop):
            yield self._encoded(windows)

    def _encoded(self, windows: WindowBatch) -> Batch:
        anchor_rows, rows = self._rows(windows)
        recordings, augmentation = self._recordings, self.config.augmentation
        anchor_poses = recordings.actual_poses[anchor_rows]
        proprioception = self.transform.encode_history(
            *KnownMotion.of(
                recordings,
                self._place_of[windows.episode],
                windows.anchor,
                self._history.past_steps,
            )
        )
        numbers = windows.samples.number
        if augmentation.proprioception_noise:
            noise = proprioception_noise(numbers, proprioception.shape[1], self.config.seed)
            proprioception += augmentation.proprioception_noise * noise
        chunk = self.transform.encode_actions(
            anchor_poses, recordings.action_poses[rows], recordings.action_widths_m[rows]
        )
        frames = {
            name: augmented_images(images, name, numbers, augmentation, self.config.seed)
            for name, images in windows.images.items()
        }
        return Batch(
            images=frames_by_name(frames, self._history),
            proprioception=torch.from_numpy(proprioception).float().to(self.device),
            chunk=torch.from_numpy(chunk).float().to(self.device),
            valid=torch.from_numpy(windows.valid).float().to(self.device),
            source=torch.from_numpy(windows.samples.source).to(self.device),
            prompt=self._prompt(windows, anchor_rows),
        )

    def _prompt(self, windows: WindowBatch, anchor_rows: IntArray) -> Tensor | None:
        if self._prompts is None:
            return None
        places = self._place_of[windows.episode]
        draws = uniform(self.config.seed, _PROMPT_STREAM, windows.samples.number)
        return torch.from_numpy(self._prompts.of(places, anchor_rows, draws)).to(self.device)

    def _rows(self, windows: WindowBatch) -> tuple[IntArray, IntArray]:
        """(B,) of the anchors and (B, T) of the chunks in the recordings."""
        starts = self._recordings.episode_starts
        places = self._place_of[windows.episode]
        steps, _ = self._window.steps(windows.anchor, starts[places + 1] - starts[places])
        return starts[places] + windows.anchor, starts[places][:, None] + steps

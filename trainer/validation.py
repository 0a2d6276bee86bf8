"""What a network plans on episodes that were held out.

Axes: N window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from trainer.data.batches import KnownMotion, chunk_window, frames_by_name
from trainer.data.frame_workers import EpisodeFrames
from trainer.data.instruction_prompts import InstructionPrompts
from trainer.data.robot_recordings import RobotRecordings
from trainer.data.robot_transform import RobotTransform
from trainer.data.windows import IntArray, WindowIndex, WindowSpec
from trainer.history_configuration import HistoryConfig
from trainer.learner import TrainingDivergedError
from trainer.models.chunk_policy import ChunkPolicy
from trainer.models.policy_network import images_to_input
from trainer.open_loop import OpenLoopPlans
from trainer.policy_configuration import ServingConfig

# Enough for a stable mean, few enough to take about a second on a CPU.
_MAX_WINDOWS = 96
# Of each data set: a mean of fewer says little. Sixteen sets cost less than three times as much.
_LEAST_OF_EACH = 16
_NOISE_SEED = 0


class Validator:
    """Has a network plan on held-out episodes, always with the same windows and noise.

    Of each data set there are as many windows, or all where it has fewer, so that a mean over all
    of them is one over data sets too, and not over what they hold.
    """

    def __init__(
        self,
        recordings: RobotRecordings,
        held_out: Sequence[Sequence[int]],
        transform: RobotTransform,
        *,
        serving: ServingConfig,
        windows_at_once: int = _MAX_WINDOWS,
        prompts: InstructionPrompts | None = None,
        history: HistoryConfig | None = None,
    ) -> None:
        """held_out: of each data set the episodes, by their places in the recordings.
        windows_at_once: planned in one pass, at most. prompts: of a policy that is told what to do.
        history: see TrainingData."""
        episodes = [place for of_one in held_out for place in of_one]
        data_set = np.repeat(np.arange(len(held_out)), [len(of_one) for of_one in held_out])
        history = HistoryConfig() if history is None else history
        window = chunk_window(transform.chunk_length, history)
        lengths = np.diff(recordings.episode_starts)[episodes]
        numbers, anchors = _spread_windows(lengths, data_set, window)
        count = len(numbers)
        places = np.asarray(episodes)[numbers]
        steps, valid = window.steps(anchors, lengths[numbers])
        first_rows = recordings.episode_starts[places]
        rows = first_rows[:, None] + steps
        self._transform = transform
        self._serving, self._windows_at_once = serving, windows_at_once
        frames = _read_frames(recordings, places, window.image_steps(anchors, lengths[numbers]))
        self._images = frames_by_name(frames, history)
        self._other_rows = _half_way_round(data_set[numbers])
        self._anchor_poses = recordings.actual_poses[first_rows + anchors]
        known = KnownMotion.of(recordings, places, anchors, history.past_steps)
        self._proprioception = transform.encode_history(*known)
        self._prompt, self._other_words = None, None
        if prompts is not None:
            self._other_words = _of_another_task([recordings.episode_tasks[n] for n in places])
            firsts = np.zeros(count)
            self._prompt = torch.from_numpy(prompts.of(places, first_rows + anchors, firsts))
        contract = recordings.contract
        taught_poses, taught_widths_m = (
            recordings.action_poses[rows],
            recordings.action_widths_m[rows],
        )
        # As one who plans like the teacher; a network's own plans take their place.
        self._taught = OpenLoopPlans(
            arms=contract.arms,
            grippers=contract.grippers,
            rate_hz=contract.control_rate_hz,
            open_loop_steps=serving.open_loop_steps,
            episode=np.array(recordings.episodes)[places],
            anchor=anchors,
            poses=taught_poses,
            widths_m=taught_widths_m,
            taught_poses=taught_poses,
            taught_widths_m=taught_widths_m,
            valid=valid,
        )
        shape = (count, transform.chunk_length, transform.num_numbers)
        self._noise = np.random.default_rng(_NOISE_SEED).standard_normal(shape)

    def plan(self, network: ChunkPolicy) -> OpenLoopPlans:
        """In float32, as it will be served. Raises TrainingDivergedError."""
        return self._plan(network, self._windows(len(self._noise)))

    def plan_with_other_images(self, network: ChunkPolicy) -> OpenLoopPlans:
        """Each window with the images of another one of its data set, of another episode unless one
        has more than half of them; of another data set's where its own has one window alone. A
        network that looks plans worse so, and a blind one as with its own.

        Raises TrainingDivergedError.
        """
        rows_N = self._windows(len(self._noise))
        return self._plan(network, rows_N, images_of_N=self._other_rows)

    def plan_with_other_words(self, network: ChunkPolicy) -> OpenLoopPlans | None:
        """Up to 96 of the windows, spread over all, each told what to do in words of another task;
        None for a policy that is told nothing, or where there is one task, or not all are named.

        A network that listens plans worse so, unless pictures alone tell it the task. Raises
        TrainingDivergedError.
        """
        if self._other_words is None:
            return None
        return self._plan(network, self._windows(_MAX_WINDOWS), words_of_N=self._other_words)

    def _windows(self, at_most: int) -> Tensor:
        count = len(self._noise)
        return torch.linspace(0, count - 1, min(at_most, count)).round().long()

    def _plan(
        self,
        network: ChunkPolicy,
        rows_M: Tensor,
        *,
        images_of_N: Tensor | None = None,
        words_of_N: Tensor | None = None,
    ) -> OpenLoopPlans:
        """Of windows `rows`, each perhaps with another one's images or words."""
        num_parts = -(-len(rows_M) // self._windows_at_once)
        # As alike in size as can be: compiled blocks like one, and a last small one costs as much.
        edges = [len(rows_M) * part // num_parts for part in range(num_parts + 1)]
        chunks = []
        for start, stop in pairwise(edges):
            rows = rows_M[start:stop]
            seen = rows if images_of_N is None else images_of_N[rows]
            told = rows if words_of_N is None else words_of_N[rows]
            chunks.append(self._chunk(network, rows, seen, told))
        chunk = torch.cat(chunks)
        if not chunk.isfinite().all():
            raise TrainingDivergedError(
                "held-out action error: the network plans numbers that are not finite; a lower "
                "optimizer.learning_rate may help: with it the run goes on from its last save"
            )
        own_M = rows_M.numpy()
        poses, widths_m = self._transform.decode_actions(
            self._anchor_poses[own_M], chunk.double().numpy()
        )
        return replace(self._taught.only(own_M), poses=poses, widths_m=widths_m)

    def _chunk(
        self, network: ChunkPolicy, rows_M: Tensor, seen_M: Tensor, told_M: Tensor
    ) -> Tensor:
        """Of some of the windows, in the CPU's memory. seen, told: whose images, whose words."""
        device, own_M = next(network.parameters()).device, rows_M.numpy()
        images = {name: of_all[seen_M].to(device) for name, of_all in self._images.items()}
        with torch.no_grad():
            chunk = network(
                {name: images_to_input(of_camera) for name, of_camera in images.items()},
                torch.from_numpy(self._proprioception[own_M]).float().to(device),
                torch.from_numpy(self._noise[own_M]).float().to(device),
                self._serving.num_flow_steps,
                None if self._prompt is None else self._prompt[told_M].to(device),
                solver=self._serving.solver,
            )
        return chunk.cpu()


def _spread_windows(
    lengths_E: IntArray, data_set_E: IntArray, window: WindowSpec
) -> tuple[IntArray, IntArray]:
    """Episode and anchor of each window, spread evenly over all steps of a data set's episodes,
    from the first step of its first one to the last step of its last."""
    kinds = np.unique(data_set_E)
    most = max(_MAX_WINDOWS // len(kinds), _LEAST_OF_EACH)
    episodes, anchors = [], []
    for kind in kinds:
        (own,) = np.nonzero(data_set_E == kind)
        index = WindowIndex(lengths_E[own], window)
        count = min(most, len(index))
        at, anchors_N = index.locate(np.linspace(0, len(index) - 1, count).round().astype(int))
        episodes.append(own[at])
        anchors.append(anchors_N)
    return np.concatenate(episodes), np.concatenate(anchors)


def _half_way_round(group_N: IntArray) -> Tensor:
    """(N,), for each row the one half of its group's rows further on, past the last the first.

    Rows that are alone in their groups are one group.
    """
    _, kind_N, count = np.unique(group_N, return_inverse=True, return_counts=True)
    kind_N = np.where(count[kind_N] == 1, -1, kind_N)
    other_N = np.arange(len(group_N))
    for kind in np.unique(kind_N):
        rows = np.nonzero(kind_N == kind)[0]
        other_N[rows] = np.roll(rows, -(len(rows) // 2))
    return torch.from_numpy(other_N)


def _of_another_task(task_N: Sequence[str | None]) -> Tensor | None:
    """(N,), for each row one of another task, spread over all of those; None where there is none,
    or not all are named."""
    if None in task_N or len(set(task_N)) < 2:
        return None
    kind_N = np.unique(np.array(task_N), return_inverse=True)[1]
    other_N = np.empty_like(kind_N)
    for kind in np.unique(kind_N):
        (rows,), (others,) = np.nonzero(kind_N == kind), np.nonzero(kind_N != kind)
        other_N[rows] = others[np.arange(len(rows)) * len(others) // len(rows)]
    return torch.from_numpy(other_N)


def _read_frames(
    recordings: RobotRecordings, places_N: IntArray, steps_NF: IntArray
) -> dict[str, Tensor]:
    """(N, F, H, W, 3) by camera."""
    num_frames = steps_NF.shape[1]
    images = {
        name: np.empty((steps_NF.size, size.height, size.width, 3), np.uint8)
        for name, size in recordings.contract.cameras.items()
    }
    reader = EpisodeFrames([recordings.dataset])
    for place in np.unique(places_N):
        # Successive windows are of one episode.
        rows = np.nonzero(places_N == place)[0]
        here = slice(num_frames * int(rows[0]), num_frames * (int(rows[-1]) + 1))
        out = {name: array[here] for name, array in images.items()}
        reader.read(0, recordings.episodes[place], steps_NF[rows].ravel().tolist(), out)
    return {
        name: torch.from_numpy(array).unflatten(0, steps_NF.shape) for name, array in images.items()
    }

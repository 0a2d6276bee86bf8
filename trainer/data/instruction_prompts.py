"""Which prompt each window of a recording is told.

Axes: N window, S token.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.errors import DataError
from trainer.data.robot_recordings import RobotRecordings
from trainer.data.text.prompts import Prompts
from trainer.data.windows import IntArray


class InstructionPrompts:
    """All prompts of recordings, made once."""

    def __init__(self, recordings: RobotRecordings, prompts: Prompts) -> None:
        """Raises DataError for an instruction that is too long, naming the episode."""
        encoded: dict[str, npt.NDArray[np.int64]] = {}
        self._of_episode: list[npt.NDArray[np.int64]] = []
        for place, phrasings in enumerate(recordings.instructions):
            for each in phrasings:
                if each not in encoded:
                    try:
                        encoded[each] = prompts.encode(each)
                    except DataError as error:
                        episode = recordings.dataset.episode(recordings.episodes[place])
                        name = episode.description.episode_id
                        raise DataError(str(error), episode=name) from error
            self._of_episode.append(np.stack([encoded[each] for each in phrasings]))
        self._chosen = recordings.instruction_places

    def of(self, places_N: IntArray, rows_N: IntArray, draws_N: FloatArray) -> IntArray:
        """(N, S). places: of episodes in the recordings. rows: of control steps in them.

        draws: in [0, 1), of which a phrasing is chosen where any holds.
        """
        prompts = []
        for place, row, draw in zip(places_N, rows_N, draws_N, strict=True):
            phrasings, chosen = self._of_episode[place], self._chosen[row]
            prompts.append(phrasings[int(draw * len(phrasings)) if chosen < 0 else chosen])
        return np.stack(prompts)

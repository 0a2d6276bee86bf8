"""Which of an episode's instructions holds at a step, where an episode has several."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainer.data.episode import Episode
from trainer.data.errors import DataError

# A step's place in the episode's instructions of kind "original".
INSTRUCTION_FIELD = "instruction_index"


def instruction_places(episode: Episode, num_instructions: int) -> npt.NDArray[np.int64] | None:
    """(T,) of each step, or None where the episode does not tell.

    Raises DataError for a place that none of so many instructions has.
    """
    if INSTRUCTION_FIELD not in episode.description.fields or not num_instructions:
        return None
    places = episode.read(INSTRUCTION_FIELD).reshape(-1).astype(np.int64)
    if places.min() < 0 or places.max() >= num_instructions:
        raise DataError(
            f"expected places in {num_instructions} instructions, "
            f"got {places.min()} to {places.max()}",
            episode=episode.description.episode_id,
            field=INSTRUCTION_FIELD,
        )
    return places

"""Which of an episode's instructions are of its whole task, and which holds at a step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainer.data.episode import Episode, EpisodeDescription
from trainer.data.errors import DataError

# A step's place in the episode's instructions of kind "original".
INSTRUCTION_FIELD = "instruction_index"
# What is done of the task at a time: a kind of instructions, and a step's place in it, or -1.
SUBTASK_KIND, SUBTASK_FIELD = "subtask", "subtask_index"


def task_phrasings(description: EpisodeDescription) -> tuple[str, ...]:
    """What the robot was told to do: the instructions of all kinds but those of parts of it."""
    told = description.instructions
    return tuple(text for kind, texts in told.items() if kind != SUBTASK_KIND for text in texts)


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

"""LeRobot's annotations of language: which words hold from a time on, in `language_persistent`.

All rows of an episode have the same list of annotations: a text, its style, and the time from which
it holds, until another of its style does. The view shows the subtasks, and the task's other
phrasings; both are written where an episode tells which subtask holds at each step. Layout:
LeRobot's documentation, "Language columns and recipes".

Axes: T control step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trainer.data.episode import Episode, EpisodeDescription
from trainer.data.errors import DataError
from trainer.data.instructions import (
    INSTRUCTION_FIELD,
    SUBTASK_FIELD,
    SUBTASK_KIND,
    task_phrasings,
)

LANGUAGE_COLUMN, EVENTS_COLUMN = "language_persistent", "language_events"
LANGUAGE_DTYPE = "language"
# What the view has no place for, by column.
LEFT_OUT: Mapping[str, str] = {
    LANGUAGE_COLUMN: "its plans, memories and motions",
    EVENTS_COLUMN: "words about single moments",
}
_SUBTASK, _PHRASING = "subtask", "task_aug"
# Who says it, as LeRobot has it: the one that the robot listens to, and the robot.
_ROLES: Mapping[str, str] = {_PHRASING: "user", _SUBTASK: "assistant"}


@dataclass(frozen=True, kw_only=True)
class Language:
    """What is said of an episode beside its task.

    begins_s: when each subtask begins, ascending, by LeRobot's `timestamp`. subtasks: the text of
    each. phrasings: of the task, each once.
    """

    begins_s: tuple[float, ...] = ()
    subtasks: tuple[str, ...] = ()
    phrasings: tuple[str, ...] = ()

    @property
    def instructions(self) -> dict[str, tuple[str, ...]]:
        """By kind, each text once."""
        told = {"alternative": self.phrasings, SUBTASK_KIND: tuple(dict.fromkeys(self.subtasks))}
        return {kind: texts for kind, texts in told.items() if texts}

    def subtask_places(self, times_s: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """(T,) of each time's subtask in the instructions of that kind; -1 before the first."""
        texts = list(dict.fromkeys(self.subtasks))
        places = np.array([-1, *map(texts.index, self.subtasks)], np.int64)
        return places[np.searchsorted(self.begins_s, times_s, side="right")]


def language_of(annotations: Any) -> Language:
    """Of one row of the column. Raises DataError for what LeRobot does not write."""
    if annotations is None:
        return Language()
    if not isinstance(annotations, list):
        raise DataError(f"expected a list of annotations, got {type(annotations).__name__}")
    begins: dict[float, str] = {}
    phrasings: dict[str, None] = {}
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, Mapping):
            raise DataError(f"annotation {number}: expected style and content, got {annotation!r}")
        style = annotation.get("style")
        if style not in (_SUBTASK, _PHRASING):
            continue
        text = annotation.get("content")
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"annotation {number}: {style}: expected a text, got {text!r}")
        if style == _PHRASING:
            phrasings[text] = None
            continue
        begin_s = annotation.get("timestamp")
        if not isinstance(begin_s, float) or not math.isfinite(begin_s):
            raise DataError(f"annotation {number}: subtask: expected its time, got {begin_s!r}")
        if begin_s in begins:
            raise DataError(f"annotation {number}: a second subtask begins at {begin_s:g} s")
        begins[begin_s] = text
    ordered = sorted(begins)
    return Language(
        begins_s=tuple(ordered),
        subtasks=tuple(begins[begin_s] for begin_s in ordered),
        phrasings=tuple(phrasings),
    )


def language_features(description: EpisodeDescription) -> dict[str, dict[str, Any]]:
    """What `info.json` tells of the column, where an episode has subtasks."""
    if SUBTASK_FIELD not in description.fields:
        return {}
    return {LANGUAGE_COLUMN: {"dtype": LANGUAGE_DTYPE, "shape": [1], "names": None}}


def read_language(episode: Episode, times_s: npt.NDArray[np.float32]) -> Language:
    """What is written of an episode with subtasks. times_s (T,): LeRobot's `timestamp`.

    Raises DataError for a place that none of its subtasks has, and for a subtask that ends before
    another begins.
    """
    description = episode.description
    texts = description.instructions.get(SUBTASK_KIND, ())
    places = episode.read(SUBTASK_FIELD).reshape(-1)
    if places.min() < -1 or places.max() >= len(texts):
        raise DataError(
            f"expected places in {len(texts)} subtasks, got {places.min()} to {places.max()}",
            episode=description.episode_id,
            field=SUBTASK_FIELD,
        )
    begins = np.flatnonzero(np.diff(places, prepend=-1))
    ended = [step for step in begins if places[step] < 0]
    if ended:
        # LeRobot's holds until another does.
        raise DataError(
            f"a subtask ends at step {ended[0]} and none begins, which LeRobot cannot hold",
            episode=description.episode_id,
            field=SUBTASK_FIELD,
        )
    told = description.instructions.get("original", ())
    if INSTRUCTION_FIELD not in description.fields:
        # Its first is the task, by itself; the others say the same.
        told = told[:1]
    return Language(
        begins_s=tuple(float(times_s[step]) for step in begins),
        subtasks=tuple(texts[places[step]] for step in begins),
        phrasings=tuple(text for text in task_phrasings(description) if text not in told),
    )


def language_column(language: Language, num_steps: int) -> pa.Array:
    """(T,) lists of annotations, in the types that LeRobot has."""
    told = [(_PHRASING, text, 0.0) for text in language.phrasings]
    told += [(_SUBTASK, *one) for one in zip(language.subtasks, language.begins_s, strict=True)]
    styles = [style for style, _, _ in told]
    # Older versions of pyarrow have no JSON.
    json_type = pa.json_() if hasattr(pa, "json_") else pa.string()
    columns = {
        pa.field("role", pa.string(), nullable=False): [_ROLES[style] for style in styles],
        pa.field("content", pa.string()): [text for _, text, _ in told],
        pa.field("style", pa.string()): styles,
        pa.field("timestamp", pa.float32(), nullable=False): [begin_s for _, _, begin_s in told],
        pa.field("camera", pa.string()): [None] * len(told),
    }
    arrays = [pa.array(values, field.type) for field, values in columns.items()]
    fields = [*columns, pa.field("tool_calls", pa.list_(json_type))]
    arrays.append(pa.nulls(len(told), pa.list_(json_type)))
    annotations = pa.StructArray.from_arrays(arrays, fields=fields)
    offsets = pa.array(np.arange(num_steps + 1) * len(told), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.concat_arrays([annotations] * num_steps))

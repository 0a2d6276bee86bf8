"""What is done for one episode of a conversion, in whichever process it is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trainer.data.episode import Dataset, EpisodeDescription
from trainer.data.errors import DataError
from trainer.data.formats.writer import DatasetWriter, Receipt
from trainer.data.selection import Selection


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of the three, the one that came of it. left_out, bad: why."""

    index: int
    receipt: Receipt | None = None
    left_out: str | None = None
    bad: str | None = None


class ConversionJob:
    """open_source: opens the data set once in every process.

    first: the episode whose fields and cameras every other one must have.
    """

    def __init__(
        self,
        open_source: Callable[[], Dataset],
        writer: DatasetWriter,
        selection: Selection,
        first: EpisodeDescription,
    ) -> None:
        self._open_source = open_source
        self._writer, self._selection, self._first = writer, selection, first
        self._dataset: Dataset | None = None

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_dataset": None}

    def run(self, index: int) -> Outcome:
        """Raises OSError that names the episode, where the destination cannot be written; bad data
        is an outcome."""
        name = f"number {index}"
        try:
            if self._dataset is None:
                self._dataset = self._open_source()
            episode = self._dataset.episode(index)
            name = episode.description.episode_id
            reason = self._selection.leaves_out(episode.description)
            if reason is not None:
                return Outcome(index=index, left_out=reason)
            check_same_schema(self._first, episode.description)
            return Outcome(index=index, receipt=self._writer.write_episode(index, episode))
        except DataError as error:
            return Outcome(index=index, bad=str(error))
        except OSError as error:
            raise writing_failed(f"episode {name}", error) from error


def writing_failed(what: str, error: OSError) -> OSError:
    """The same error, saying what was being written."""
    if error.errno is None:
        return OSError(f"{what}: {error}")
    # In the system's own words: Arrow has others for a full disk.
    return OSError(error.errno, f"{what}: {os.strerror(error.errno)}")


def check_same_schema(first: EpisodeDescription, other: EpisodeDescription) -> None:
    """Raises DataError naming the first field or camera in which the two differ."""
    for kind, ours, theirs in (
        ("field", first.fields, other.fields),
        ("camera", first.cameras, other.cameras),
    ):
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            if ours.get(name) == theirs.get(name):
                continue
            if name not in theirs:
                message = f"missing here, but episode {first.episode_id} has it"
            elif name not in ours:
                message = f"not in episode {first.episode_id}, which began the data set"
            else:
                told, got = asdict(ours[name]), asdict(theirs[name])
                differing = [key for key in told if told[key] != got[key]]
                message = "; ".join(
                    f"{key} {got[key]!r}, but {told[key]!r} in episode {first.episode_id}"
                    for key in differing
                )
            raise DataError(
                f"{kind} {name!r}: {message}: a data set has one schema",
                episode=other.episode_id,
            )

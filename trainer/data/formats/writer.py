"""What a format must do to be written: the other half of `trainer.data.episode`.

A conversion calls `begin` once, then `write_episode` for every episode, in any order and in several
processes or machines at once, and `finish` once. It keeps the receipts of whole episodes on disk:
one that was killed goes on with the episodes that have none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.data.episode import Episode, EpisodeDescription

# In the destination, where a conversion keeps what it has done.
LEDGER_FOLDER = ".conversion"
GO_ON = "run the same `trainer data convert` again and it goes on from there"
UNFINISHED = f"the conversion stopped; {GO_ON}"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """An episode that was written whole.

    index: its place in the source; the destination's episodes are in the order of these numbers,
    which have gaps where an episode was left out. details: whatever the writer wants to be told
    again in `finish`, as JSON knows it.
    """

    index: int
    episode_id: str
    num_steps: int
    num_bytes: int
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a data set was converted from, noted in the destination.

    first: the source's first episode, whose fields and cameras all have. left_out: how many
    episodes were not asked for. skipped: those that could not be read, by their place in the
    source, and why.
    """

    place: str
    format_name: str
    first: EpisodeDescription
    left_out: int = 0
    skipped: Mapping[int, str] = field(default_factory=dict)


class DatasetWriter(ABC):
    """Writes one data set into one local folder. It is pickled and sent to worker processes, so it
    holds its settings and nothing that is open."""

    format_name: str
    destination: Path

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """What may not differ when a conversion goes on, as JSON knows it."""

    def begin(self, first: EpisodeDescription) -> None:
        """Called whenever a conversion begins or goes on, in an existing folder.

        first: of the source's first episode; every other one has its fields and cameras. Raises
        DataError for what the format cannot hold.
        """
        del first

    @abstractmethod
    def write_episode(self, index: int, episode: Episode) -> Receipt:
        """Write an episode aside and rename it, replacing what an earlier attempt left.

        When this returns, the episode must survive a loss of power. Raises DataError for what
        cannot be read, and OSError for what cannot be written, such as on a full disk.
        """

    def is_whole(self, receipt: Receipt) -> bool:
        """Whether what a receipt tells of is still there; a cheap look, not a checksum."""
        del receipt
        return True

    def checkpoint(self, receipts: Sequence[Receipt], origin: Origin) -> None:
        """Called from time to time and when a conversion stops early: make what is there usable,
        if the format can. The receipts are ordered by index."""
        del receipts, origin

    @abstractmethod
    def finish(self, receipts: Sequence[Receipt], origin: Origin) -> None:
        """Complete the data set; ordered by index. May be called again after it was killed."""

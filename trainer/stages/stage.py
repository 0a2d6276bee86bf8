"""What a kind of training brings to the loop: its data, its loss, its measure, its checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from trainer.learner import Learner, StepResult
from trainer.prefetching import Prefetched

_Learner = TypeVar("_Learner", bound=Learner[Any, Any])
_Batch = TypeVar("_Batch")

# One that is ready, and one more where the next takes longer than a step.
_BATCHES_AHEAD = 2


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """counts: what went through, such as samples and tokens, shown by second.

    flops: of the model's own products, forward and backward; 0 where nobody counted.
    """

    result: StepResult
    counts: Mapping[str, int]
    flops: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """On what was held out. scalars: by name. told: in words. texts: by name, what was said."""

    scalars: Mapping[str, float]
    told: str
    texts: Mapping[str, str] = field(default_factory=dict)


class Stage(ABC, Generic[_Learner, _Batch]):
    """A batch is a function of the seed and the optimizer step; so a resume needs no other place.

    learner: what is trained. data_digest: of all that is learnt from, and of the order that mixes
    several data sets. knows_ranks: whether each of several ranks is given its own rows of a batch,
    as `World.rows` says, and its loss their share.
    """

    knows_ranks: ClassVar[bool] = False

    learner: _Learner
    data_digest: str

    @abstractmethod
    def describe(self) -> str:
        """The data and the network, for the first line of a run."""

    @property
    def tasks(self) -> Sequence[str]:
        """What it learns to do, as the data name it; none of what does not act."""
        return ()

    @abstractmethod
    def batches(self, start: int, stop: int) -> Iterator[_Batch]:
        """Of optimizer steps `start` to `stop`, a rank's rows of each.

        A thread may make them beside the steps: nothing here is exchanged with another rank, and
        what a measurement reads too, two threads can read at once.
        """

    def batches_ahead(self, start: int, stop: int) -> Prefetched[_Batch]:
        """The same batches, made beside the steps: a context manager."""
        # A thread begins with the first GPU, whichever the one that began it has taken.
        gpu = torch.cuda.current_device() if self.learner.device.type == "cuda" else None

        def begin() -> None:
            torch.set_num_threads(1)
            if gpu is not None:
                torch.cuda.set_device(gpu)

        return Prefetched(self.batches(start, stop), _BATCHES_AHEAD, begin=begin)

    @abstractmethod
    def step(self, batch: _Batch, step: int) -> StepReport:
        """Raises TrainingDivergedError, nothing changed."""

    @abstractmethod
    def measure(self) -> Measurement | None:
        """Of the averaged weights; None where nothing was held out."""

    def pictures(self) -> Mapping[str, npt.NDArray[np.uint8]]:
        """Of the last measurement, (H, W, 3) by name: what a number does not tell."""
        return {}

    @abstractmethod
    def write_checkpoint(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """Of the averaged weights, with what is known of the data added to `provenance`."""

    def close(self) -> None:
        """Let go of workers and files."""
        return

    def __enter__(self) -> Stage[_Learner, _Batch]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

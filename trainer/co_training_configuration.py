"""What a policy learns beside demonstrations: pictures with words, and text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from trainer.requirements import ConfigurationError, require, require_positive

# What the demonstrations' own loss is called.
ACTIONS = "actions"


@dataclass(frozen=True, kw_only=True)
class AlsoSource:
    """weight: of its loss, beside 1 for the actions'. batch_size: sequences an optimizer step."""

    path: str
    weight: float
    batch_size: int

    @property
    def name(self) -> str:
        """`scenes` of data/scenes, and of data/scenes.jsonl."""
        return re.sub(r"[^\w-]", "_", PurePosixPath(self.path).name.partition(".")[0])

    @staticmethod
    def of(text: str, batch_size: int) -> AlsoSource:
        """Of PATH=WEIGHT or PATH=WEIGHT:SEQUENCES. Raises ConfigurationError."""
        path, _, numbers = text.rpartition("=")
        weight, _, sequences = numbers.partition(":")
        try:
            source = AlsoSource(
                path=path, weight=float(weight), batch_size=int(sequences or batch_size)
            )
        except ValueError:
            source = None
        is_whole = source is not None and source.name and source.batch_size > 0
        if source is None or not (is_whole and 0 < source.weight < float("inf")):
            raise ConfigurationError(
                "also.data: expected PATH=WEIGHT or PATH=WEIGHT:SEQUENCES, both more than 0, "
                f"got {text!r}"
            )
        return source


@dataclass(frozen=True, kw_only=True)
class AlsoConfig:
    """Data that are learnt in the same steps as demonstrations are, each by its own batch.

    Attributes:
        data: PATH=WEIGHT of each: pictures with words, or text. Weight times its loss is added to
            that of the actions. PATH=WEIGHT:SEQUENCES for a batch of another size.
        batch_size: Sequences an optimizer step, of each.
        micro_batch_size: Sequences of each that are computed at once; None for all of them.
        validation_documents: Of each, held out of training.
        validation_sequences: Sequences of them that are measured, at most.
        num_answers: Held-out pictures of each that the policy is asked about at a measurement.
    """

    data: tuple[str, ...] = ()
    batch_size: int = 4
    micro_batch_size: int | None = None
    validation_documents: int = 32
    validation_sequences: int = 64
    num_answers: int = 2

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "validation_sequences")
        for name in ("validation_documents", "num_answers"):
            require(getattr(self, name) >= 0, f"also.{name}", "0 or more", getattr(self, name))
        sizes = [source.batch_size for source in self.sources] or [self.batch_size]
        micro = self.micro_batch_size
        require(
            micro is None or (micro > 0 and all(size % micro == 0 for size in sizes)),
            "also.micro_batch_size",
            f"a divisor of the sequences an optimizer step ({', '.join(map(str, sizes))})",
            micro,
        )
        names = [source.name for source in self.sources]
        for name in names:
            require(
                names.count(name) == 1 and name != ACTIONS,
                "also.data",
                f"places of different names, none called {ACTIONS!r}, after which losses are named",
                name,
            )

    @property
    def sources(self) -> tuple[AlsoSource, ...]:
        return tuple(AlsoSource.of(text, self.batch_size) for text in self.data)

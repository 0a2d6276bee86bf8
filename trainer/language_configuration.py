"""What the training of models on text is made of, beside what all trainings have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from trainer.data.text.chat_format import ChatFormat
from trainer.data.text.encoding import Learnt
from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.requirements import require, require_one_budget, require_positive
from trainer.training_configuration import (
    MAY_CHANGE,
    EmaConfig,
    OptimizerConfig,
    Precision,
    ShardingConfig,
    WeightsFormat,
    kept_steps,
    require_run_fields,
)


class TextShape(Protocol):
    """What is known of the language model of any kind."""

    @property
    def context_length(self) -> int: ...
    @property
    def vocabulary_size(self) -> int: ...
    @property
    def transformer(self) -> TransformerConfig: ...


@dataclass(frozen=True, kw_only=True)
class TextTrainConfig(ABC):
    """One training run of a model that learns to say what follows.

    The budget is num_steps, num_samples or num_tokens, whichever is given; a sample is a sequence
    of as many tokens as the language model's context has.

    Attributes:
        data: Documents: a folder of text files, JSON lines, parquet or tars, or one such file.
        name: The model's name, in reports.
        tokenizer: A tokenizer.json; without one a byte-level BPE of as many tokens as the
            vocabulary has is trained on the data.
        batch_size: Sequences an optimizer step.
        micro_batch_size: Sequences that are computed at once; None for the whole batch.
        num_steps: Budget in optimizer steps.
        num_samples: Budget in sequences.
        num_tokens: Budget in tokens, those of padding included.
        checkpoint_steps: Optimizer steps whose checkpoints are kept; the last one always is.
        validation_documents: Held out of training, picked evenly by chance.
        validation_sequences: Sequences of them that are measured, at most.
        validation_every: Optimizer steps between measurements on them.
        sample_tokens: Tokens that the model says then, at most.
        save_state_every: Optimizer steps between saves of what a resume needs.
        weights_format: Numbers of a checkpoint's weights; training itself keeps float32.
        seed: Of initial weights and order.
        device: auto, cpu, cuda or cuda:N.
        precision: Of activations; auto takes bfloat16 where the hardware multiplies in it.
        num_threads: CPU threads; None takes two where there are two.
        compile: Whether blocks go through torch.compile, which takes a minute and then pays.
        checkpoint_activations: Whether blocks are computed twice to save memory.
        optimizer: AdamW and its learning rate.
        ema: The average of the weights, if one is wanted.
        sharding: How several ranks hold the network.
    """

    kind: ClassVar[str]
    # Its content is compared.
    may_differ: ClassVar[tuple[str, ...]] = ("tokenizer", "sharding")
    may_change: ClassVar[tuple[str, ...]] = (*MAY_CHANGE, "num_tokens")
    # Of dialogues.
    learnt: ClassVar[Learnt]

    data: str = ""
    name: str = "model"
    tokenizer: str = ""
    batch_size: int = 16
    micro_batch_size: int | None = None
    num_steps: int | None = None
    num_samples: int | None = None
    num_tokens: int | None = None
    checkpoint_steps: tuple[int, ...] = ()
    validation_documents: int = 8
    validation_sequences: int = 64
    validation_every: int = 200
    sample_tokens: int = 48
    save_state_every: int = 200
    weights_format: WeightsFormat = "float32"
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    num_threads: int | None = None
    compile: bool = False
    checkpoint_activations: bool = False
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: EmaConfig = field(default_factory=lambda: EmaConfig(max_decay=0.0))
    sharding: ShardingConfig = field(default_factory=ShardingConfig)

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "validation_sequences", "sample_tokens")
        budgets = {
            "num_steps": self.num_steps,
            "num_samples": self.num_samples,
            "num_tokens": self.num_tokens,
        }
        require_one_budget(budgets)
        unit, budget = next((name, n) for name, n in budgets.items() if n is not None)
        a_step = {"num_steps": 1, "num_samples": self.batch_size, "num_tokens": self.step_tokens}
        require(self.total_steps > 0, unit, f"at least {a_step[unit]}, one step's", budget)
        require_run_fields(self)
        require(
            self.validation_documents >= 0,
            "validation_documents",
            "0 or more",
            self.validation_documents,
        )
        require(
            self.language.context_length >= 2,
            f"{self.language_field}.context_length",
            "at least 2: a token and what follows it",
            self.language.context_length,
        )
        if isinstance(self.language, LanguageConfig):
            causal = self.language.transformer.causal
            require(causal, f"{self.language_field}.transformer.causal", "true", causal)

    @property
    @abstractmethod
    def language(self) -> TextShape:
        """The language model's shape."""

    @property
    @abstractmethod
    def language_field(self) -> str:
        """Where in the configuration that is."""

    @property
    def chat(self) -> ChatFormat | None:
        """How dialogues are written; None for our own way."""
        return None

    @property
    def tokens_per_image(self) -> int:
        """Of the language model; 0 for one that sees nothing."""
        return 0

    @property
    def step_tokens(self) -> int:
        """Tokens of an optimizer step."""
        return self.batch_size * self.language.context_length

    @property
    def total_steps(self) -> int:
        """The budget in optimizer steps."""
        if self.num_steps is not None:
            return self.num_steps
        if self.num_samples is not None:
            return self.num_samples // self.batch_size
        return (self.num_tokens or 0) // self.step_tokens

    @property
    def kept_steps(self) -> tuple[int, ...]:
        return kept_steps(self)


def _smallest_model() -> LanguageConfig:
    return LanguageConfig(
        transformer=TransformerConfig(width=64, depth=2, num_heads=2),
        vocabulary_size=512,
        context_length=128,
    )


@dataclass(frozen=True, kw_only=True)
class LanguageTrainConfig(TextTrainConfig):
    """One training run of a language model, from scratch.

    Attributes:
        name: The model's name, in reports.
        sample_prompts: What the model goes on from at each measurement.
        portions_above_mib: Data whose files are larger become tokens beside the steps, a portion
            at a time, and are shuffled within some portions; smaller ones before, and as a whole.
        model: The network.
    """

    kind: ClassVar[str] = "language"
    learnt: ClassVar[Learnt] = "text"

    name: str = "language_model"
    sample_prompts: tuple[str, ...] = ("The ",)
    portions_above_mib: float = 256.0
    model: LanguageConfig = field(default_factory=_smallest_model)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(all(self.sample_prompts), "sample_prompts", "no empty one", self.sample_prompts)
        require(
            self.portions_above_mib >= 0, "portions_above_mib", "0 or more", self.portions_above_mib
        )

    @property
    def language(self) -> LanguageConfig:
        return self.model

    @property
    def language_field(self) -> str:
        return "model"

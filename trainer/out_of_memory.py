"""Memory that runs out in a training: recognised, and told with what lowers the need of it."""

from __future__ import annotations

import math
from types import TracebackType

from trainer.language_configuration import TextTrainConfig
from trainer.run_configuration import RunConfig
from trainer.run_directory import RunDirectory
from trainer.scarce_memory import exhausted_device, is_out_of_memory, size_asked_for
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig


class TrainingOutOfMemoryError(RuntimeError):
    """In one line: of what, when, what is saved, and which options need less."""


class MemoryWatch:
    """A context manager that raises TrainingOutOfMemoryError for whatever ran out of memory.

    at: what goes on, as that line has it. is_stepping: whether there is a batch to be smaller.
    """

    def __init__(self, config: RunConfig, run: RunDirectory) -> None:
        self._config, self._run = config, run
        self.num_ranks = 1
        self.at, self.is_stepping = "before the first optimizer step", False

    def in_step(self, step: int) -> None:
        """Optimizer step `step`, counted from 1."""
        self.at, self.is_stepping = f"in optimizer step {step}", True

    def after_step(self, step: int) -> None:
        """What was learnt is measured and saved."""
        self.at = f"after optimizer step {step}, as it was measured and saved"

    def __enter__(self) -> MemoryWatch:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if error is not None and is_out_of_memory(error):
            raise TrainingOutOfMemoryError(self._told(error)) from error

    def _told(self, error: BaseException) -> str:
        device = exhausted_device(error, self._config.device)
        saved = self._run.saved_step()
        kept = "nothing was saved yet"
        if saved is not None:
            kept = f"what was saved is whole, in {self._run.root} up to step {saved}"
        going_on, anew = self._remedies(device)
        less = "less is needed"
        if going_on:
            less += f", and the run goes on, with {', '.join(going_on)}"
        if anew:
            less += f"{'; or' if going_on else ''}, in another --output, with {', '.join(anew)}"
        return f"{device}: out of memory {self.at}{size_asked_for(error)}; {kept}; {less}"

    def _remedies(self, device: str) -> tuple[list[str], list[str]]:
        """Those with which this run goes on, and those with which it has to begin anew."""
        config, going_on, anew = self._config, list[str](), list[str]()
        if device == config.device and self.is_stepping:
            going_on += _of_a_step(config, self.num_ranks)
        if device == config.device and self.num_ranks > 1 and config.sharding.kind == "none":
            going_on.append("--sharding.kind full")
        if device == "cpu" and not isinstance(config, TextTrainConfig) and config.loader.cache_gib:
            going_on.append("--loader.cache-gib 0")
        if not (self.is_stepping and going_on):
            anew.append("a smaller model")
        return going_on, anew


def _of_a_step(config: RunConfig, num_ranks: int) -> list[str]:
    remedies: list[str] = []
    share = config.batch_size // num_ranks
    smaller = _largest_divisor(share, below=min(share, config.micro_batch_size or share))
    if smaller:
        remedies.append(f"--micro-batch-size {smaller}")
    if isinstance(config, VisionLanguageActionTrainConfig) and config.also.data:
        # One number for all of the other data, whose batches ranks share unevenly if need be.
        sizes = [source.batch_size for source in config.also.sources]
        share, rest = divmod(math.gcd(*sizes), num_ranks)
        at_once = config.also.micro_batch_size or max(sizes) // num_ranks
        smaller = None if rest else _largest_divisor(share, below=at_once)
        if smaller:
            remedies.append(f"--also.micro-batch-size {smaller}")
    if not config.checkpoint_activations:
        remedies.append("--checkpoint-activations")
    if config.precision == "float32":
        remedies.append("--precision bfloat16")
    return remedies


def _largest_divisor(number: int, *, below: int) -> int | None:
    return next((n for n in range(below - 1, 0, -1) if number % n == 0), None)

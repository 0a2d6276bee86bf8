"""How a run goes, told as it goes: in a progress bar, in lines above it, and to metric sinks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from trainer.metric_sinks import MetricSinks
from trainer.run_configuration import RunConfig
from trainer.stages.stage import Measurement, Stage, StepReport
from trainer.stragglers import Straggler
from trainer.throughput import Pace, memory_gib, peak_flops

# Steps between scalars in TensorBoard, and between plain lines where no progress bar is shown.
SCALARS_EVERY = 10
_LINES_EVERY = 200
# Losses of several data; of more a line would be a page, and TensorBoard has them.
_MOST_PARTS_TOLD = 6


def write_line(text: str) -> None:
    """Above the bar."""
    tqdm.write(text, file=sys.stderr)


class Telling:
    """Of the first rank. num_ranks: whose hardware the run has."""

    def __init__(
        self,
        config: RunConfig,
        stage: Stage[Any, Any],
        bar: tqdm,
        scalars: MetricSinks,
        *,
        num_ranks: int,
    ) -> None:
        self._config, self._stage, self._bar, self._scalars = config, stage, bar, scalars
        self._num_ranks = num_ranks
        self._parts: set[str] = set()
        peak = peak_flops(stage.learner.device, config.precision)
        self._pace = Pace(None if peak is None else peak * num_ranks)

    def begin(self, step: int) -> None:
        """step: optimizer steps taken before."""
        learner = self._stage.learner
        ranks = f"{self._num_ranks} ranks, " if self._num_ranks > 1 else ""
        parameters = sum(p.numel() for p in learner.network.parameters())
        resumed = f", resumed at {step}" if step else ""
        write_line(
            f"training on {self._stage.describe()}, {parameters / 1e6:.1f} M parameters, "
            f"{self._config.device} {self._config.precision}, {ranks}{learner.num_threads} "
            f"threads, {self._config.total_steps} steps{resumed}"
        )

    def add(self, report: StepReport, elapsed_s: float) -> None:
        """An optimizer step that was taken."""
        self._pace.add(report.counts, report.flops, elapsed_s)
        self._bar.update()

    def tell(
        self,
        report: StepReport,
        step: int,
        training_s: float,
        straggler: Straggler | None,
        *,
        measured: bool,
    ) -> None:
        """Of optimizer step `step`, counted from 1, what it is time for.

        training_s: of all steps so far. measured: whether to measure on what was held out.
        """
        if report.result.skipped:
            write_line(
                f"step {step}: left out, its gradient norm {report.result.gradient_norm:.3g} "
                f"is over {self._config.optimizer.spike_factor} times the usual"
            )
        told = measured or step % _LINES_EVERY == 0
        if not (told or step % SCALARS_EVERY == 0):
            return
        facts = self._facts(report)
        # Not every batch has all of them.
        self._parts |= {name for name in facts if name.startswith("loss_")}
        words = _in_words(facts, with_parts=len(self._parts) <= _MOST_PARTS_TOLD)
        if straggler is not None:
            facts |= straggler.numbers
            words += f", {straggler}"
        numbers = {f"train/{name}": value for name, value in facts.items()}
        self._bar.set_postfix_str(words, refresh=False)
        measurement = None
        try:
            if measured and (measurement := self._stage.measure()):
                numbers |= {f"validation/{name}": x for name, x in measurement.scalars.items()}
        finally:
            # Of a network that is found to have diverged, what led there is worth having.
            self._scalars.add_scalars(numbers, step)
        if not told:
            return
        total = self._config.total_steps
        line = f"step {step}/{total}: {words}"
        if measurement is not None:
            line += f", {measurement.told}"
            self._show(measurement, step)
        left_s = training_s / step * (total - step)
        write_line(f"{line}, {training_s:.0f} s, {left_s:.0f} s left")
        for text in measurement.texts.values() if measurement else ():
            write_line(f"  {text!r}")

    def _facts(self, report: StepReport) -> dict[str, float]:
        result, guard = report.result, self._stage.learner.guard
        return {
            "loss": result.loss,
            **{f"loss_{name}": loss for name, loss in result.losses.items()},
            "gradient_norm": result.gradient_norm,
            "learning_rate": result.learning_rate,
            **self._pace.take(),
            **({} if guard is None else {"skipped_steps": guard.num_skipped}),
            "memory_gib": memory_gib(self._stage.learner.device),
        }

    def _show(self, measurement: Measurement, step: int) -> None:
        """What it has besides numbers."""
        for name, text in measurement.texts.items():
            self._scalars.add_text(f"samples/{name}", text, step)
        # They take much more room than numbers do.
        if step == self._config.total_steps:
            for name, picture in self._stage.pictures().items():
                self._scalars.add_image(f"samples/{name}", picture, step)


def _in_words(facts: Mapping[str, float], *, with_parts: bool) -> str:
    """`loss 2.345, |g| 0.81, 12,300 tokens/s, mfu 41%, 1.2 GiB`; after the loss its parts."""
    words = [
        f"{name.removeprefix('loss_')} {value:.3f}"
        for name, value in facts.items()
        if name == "loss" or (with_parts and name.startswith("loss_"))
    ]
    words.append(f"|g| {facts['gradient_norm']:.2f}")
    words += [
        f"{value:,.0f} {name.removesuffix('_per_s').replace('_', ' ')}/s"
        for name, value in facts.items()
        if name.endswith("_per_s")
    ]
    if "mfu" in facts:
        words.append(f"mfu {facts['mfu']:.0%}")
    return ", ".join([*words, f"{facts['memory_gib']:.1f} GiB"])

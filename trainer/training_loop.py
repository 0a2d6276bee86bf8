"""One training run, from data to a final checkpoint, resumable at any step, whatever the stage."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event, current_thread, main_thread
from types import FrameType
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from trainer.closed_loop.evaluations import Evaluations, evaluated_steps, owed_steps
from trainer.configuration_changes import plain_changes
from trainer.distributed import World, joined_world
from trainer.going_on import begun_config, change_configuration, require_goes_on
from trainer.language_configuration import TextTrainConfig
from trainer.metric_sinks import MetricSinks, TrackerName, require_tracker
from trainer.out_of_memory import MemoryWatch
from trainer.provenance import describe_code, now
from trainer.requirements import ConfigurationError
from trainer.run_configuration import RunConfig
from trainer.run_directory import RunDirectory, RunError, TrainingState
from trainer.stages.beginnings import differing_fields, shaped_like_its_beginning
from trainer.stages.catalog import open_stage
from trainer.stages.stage import Measurement, Stage, StepReport
from trainer.state_saver import StateSaver
from trainer.stragglers import OwnWork, Straggler
from trainer.throughput import Pace, memory_gib, peak_flops

_Config = TypeVar("_Config", bound=RunConfig)

# Steps between scalars in TensorBoard, and between plain lines where no progress bar is shown.
_SCALARS_EVERY = 10
_LINES_EVERY = 200

# Between looks whether an evaluation has ended, or whether to stop, at the end of a run.
_LOOK_AGAIN_S = 1.0


class TrainingInterruptedError(RuntimeError):
    """Stopped on request; the state was saved and the same command goes on from it."""


def resolve(config: _Config, begun: RunConfig | None = None) -> _Config:
    """With what the machine decides settled: device and precision.

    bfloat16 is taken where the hardware multiplies in it, which more than pays for itself. begun:
    of a run that goes on, which keeps its own unless others are asked for.
    """
    device, precision = config.device, config.precision
    if begun is not None:
        device = begun.device if device == "auto" else device
        precision = begun.precision if precision == "auto" else precision
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        whose = "asked for" if config.device == device else "is the run's; --device cpu goes on"
        raise ConfigurationError(f"device: {device!r} {whose}, but torch finds no CUDA device")
    if precision == "auto":
        if device == "cpu":
            fast = torch.cpu._is_avx512_bf16_supported()
        else:
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bfloat16" if fast else "float32"
    return replace(config, device=device, precision=precision)


def train(
    config: RunConfig,
    output: Path,
    asked: Collection[str] = (),
    *,
    tracker: TrackerName = "none",
) -> Path:
    """Run to the end, resuming what `output` holds, and return the final checkpoint's folder.

    A finished run returns at once. Under torchrun its processes share every batch, and see the same
    `output`. asked: names of fields that were asked for, which --init may not replace by its own.
    tracker: is told the numbers, too.
    Raises ConfigurationError, DataError, RunError, TrainingDivergedError,
    TrainingOutOfMemoryError, RankLostError, OSError; TrainingInterruptedError after Ctrl-C or
    SIGTERM.
    """
    require_tracker(tracker)
    run = RunDirectory(root=output)
    resolved = resolve(config, begun_config(run))
    memory = MemoryWatch(resolved, run)
    with memory:
        config = shaped_like_its_beginning(resolved, run, asked)
    with joined_world(config.device) as world, memory:
        memory.num_ranks = world.size
        if world.is_first:
            _tell_replaced(resolved, config, run)
        _require_shareable(config, world)
        return _train(config, run, world, tracker, memory)


def _tell_replaced(resolved: RunConfig, config: RunConfig, run: RunDirectory) -> None:
    """In one line, what the recipe says and --init has otherwise."""
    init = getattr(config, "init", "")
    replaced = differing_fields(resolved, config) if init and not run.has_state() else []
    if replaced:
        print(f"as {init} has it: {', '.join(replaced)}", file=sys.stderr)


def _train(
    config: RunConfig,
    run: RunDirectory,
    world: World,
    tracker: TrackerName,
    memory: MemoryWatch,
) -> Path:
    run.check(config)
    total = config.total_steps
    finished = run.is_finished(total) and not owed_steps(config, run, total)
    # Before one of them writes, all have looked; and all do the same.
    if world.any(finished):
        return run.final_checkpoint
    # The learner has threads of its own.
    torch.set_num_threads(1)
    make_stage = open_stage(config, run)
    world.wait()
    claimed = run.claimed(config) if world.is_first else nullcontext()
    with claimed, _made_in_turn(make_stage, world) as stage:
        _require_knows_ranks(stage, world)
        evaluations = world.of_first(lambda: Evaluations(config, run, stage.tasks))
        session = _Session.prepare(config, run, stage, world, memory)
        world.wait()
        # From this step on, what was told before is void; of the step itself it stands.
        told = session.step + 1
        sinks = MetricSinks(config, run, told, tracker) if world.is_first else nullcontext()
        with sinks as scalars, evaluations or nullcontext() as beside:
            session.run_to_end(scalars, beside)
        world.wait()
    return run.final_checkpoint


def _require_shareable(config: RunConfig, world: World) -> None:
    if world.size == 1:
        return
    sharding, optimizer = config.sharding.kind, config.optimizer.kind
    if sharding != "none" and optimizer != "adamw":
        # No rank that holds parts of a matrix could make it orthogonal.
        raise ConfigurationError(
            f"optimizer.kind: expected 'adamw' with sharding.kind {sharding!r}, which cuts "
            f"matrices apart, got {optimizer!r}"
        )
    micro = config.micro_batch_size if isinstance(config, TextTrainConfig) else None
    divisor, of_what = world.size, f"{world.size} ranks"
    if micro is not None:
        divisor, of_what = divisor * micro, f"{of_what} of {micro} sequences at once"
    if config.batch_size % divisor:
        raise ConfigurationError(
            f"batch_size: expected a multiple of {divisor} for {of_what}, got {config.batch_size}"
        )


def _require_knows_ranks(stage: Stage[Any, Any], world: World) -> None:
    """Otherwise every rank would learn the whole batch, and their sum take too long a step."""
    if world.size > 1 and not stage.knows_ranks:
        raise ConfigurationError(
            f"kind: {stage.learner.config.kind!r} does not share batches among ranks, expected one "
            f"process, got {world.size}; start it without torchrun"
        )


def _made_in_turn(make_stage: Callable[[], Stage[Any, Any]], world: World) -> Stage[Any, Any]:
    """The first rank makes what the run's folder lacks, such as tokens; then the others read it."""
    if world.is_first:
        stage = make_stage()
        world.wait()
        return stage
    world.wait()
    return make_stage()


@dataclass(kw_only=True, eq=False)
class _Session:
    """A run while it is being trained. step: optimizer steps taken so far."""

    config: RunConfig
    run: RunDirectory
    stage: Stage[Any, Any]
    world: World
    memory: MemoryWatch
    step: int
    training_s: float
    pace: Pace
    saver: StateSaver
    own_work: OwnWork
    # Taken at the start: what is committed meanwhile is not what runs here.
    code: dict[str, Any] = field(default_factory=describe_code)

    @staticmethod
    def prepare(
        config: RunConfig,
        run: RunDirectory,
        stage: Stage[Any, Any],
        world: World,
        memory: MemoryWatch,
    ) -> _Session:
        state = run.load_state(stage.learner.layout())
        if state is not None:
            if state.data_digest != stage.data_digest:
                raise RunError(
                    f"{run.root}: the data in {config.data} are not those that the run began "
                    "with; put them back, or choose another --output"
                )
            stage.learner.load_state(state.tensors)
        step = 0 if state is None else state.step
        require_goes_on(config, run, step)
        if world.is_first:
            change_configuration(config, run, step)
        peak = peak_flops(stage.learner.device, config.precision)
        return _Session(
            config=config,
            run=run,
            stage=stage,
            world=world,
            memory=memory,
            step=step,
            training_s=0.0 if state is None else state.training_s,
            pace=Pace(None if peak is None else peak * world.size),
            saver=StateSaver(run, world, is_sharded=stage.learner.is_sharded),
            own_work=OwnWork(world),
        )

    def run_to_end(self, scalars: MetricSinks | None, beside: Evaluations | None) -> None:
        """scalars, beside: None where another rank tells how the run goes, and evaluates."""
        total = self.config.total_steps
        evaluated = evaluated_steps(self.config)
        if beside:
            for step in owed_steps(self.config, self.run, self.step):
                beside.begin(step)
        hidden = None if scalars else True
        with (
            _stop_on_signals() as stop,
            self.saver.finishing(),
            tqdm(total=total, initial=self.step, unit="step", disable=hidden) as progress,
            self.stage.batches_ahead(self.step, total) as batches,
        ):
            if scalars:
                self._announce(progress)
            while self.step < total:
                self.memory.in_step(self.step + 1)
                started, exchanged_s = time.perf_counter(), self.world.exchanged_s
                report = self.stage.step(next(batches), self.step)
                self.step += 1
                elapsed_s = time.perf_counter() - started
                self.training_s += elapsed_s
                self.pace.add(report.counts, report.flops, elapsed_s)
                self.own_work.add(elapsed_s, self.world.exchanged_s - exchanged_s)
                progress.update()
                self.memory.after_step(self.step)
                kept = self.step in self.config.kept_steps
                measured = kept or self.step % self.config.validation_every == 0
                # All ranks ask, though the first alone tells.
                noted = measured or self.step % _SCALARS_EVERY == 0
                straggler = self.own_work.straggler() if noted else None
                with self.stage.learner.gathered() if measured else nullcontext():
                    if scalars:
                        self._report(scalars, progress, report, straggler, measured=measured)
                    if kept:
                        self._write_checkpoint()
                # Whichever rank was told, all stop after the same step, and leave together.
                if self.world.any(stop.is_set()) and self.step < total:
                    self._save_state()
                    self.saver.wait()
                    self.world.wait()
                    raise TrainingInterruptedError(
                        f"stopped after optimizer step {self.step} of {total}; the same command "
                        "goes on from here"
                    )
                # A resume goes back to no step before one that is evaluated.
                saved = self.step % self.config.save_state_every == 0 or self.step == total
                if saved or self.step in evaluated:
                    self._save_state()
                if scalars and beside:
                    if self.step in evaluated:
                        beside.begin(self.step)
                    beside.tell(scalars, self.step, _written(progress))
        # A run that was killed between its last save and its last checkpoint lacks the latter.
        if self.world.any(self.world.is_first and not self.run.checkpoint(total).exists()):
            with self.stage.learner.gathered():
                self._write_checkpoint()
            if beside and total in evaluated:
                beside.begin(total)
        if self.world.is_first:
            self.run.link_final(total)
        self._await_evaluations(scalars, beside)

    def _await_evaluations(self, scalars: MetricSinks | None, beside: Evaluations | None) -> None:
        """Those that are under way at the end; the other ranks meet the first one all the while."""
        with _stop_on_signals() as stop:
            while self.world.any(beside is not None and beside.is_busy):
                if self.world.any(stop.is_set()):
                    raise TrainingInterruptedError(
                        f"all {self.step} optimizer steps are done, an evaluation is not; the same "
                        "command goes on with it"
                    )
                if scalars and beside:
                    beside.wait(_LOOK_AGAIN_S)
                    beside.tell(scalars, self.step, _written(tqdm))

    def _announce(self, progress: tqdm) -> None:
        learner = self.stage.learner
        ranks = f"{self.world.size} ranks, " if self.world.size > 1 else ""
        parameters = sum(p.numel() for p in learner.network.parameters())
        resumed = f", resumed at {self.step}" if self.step else ""
        progress.write(
            f"training on {self.stage.describe()}, {parameters / 1e6:.1f} M parameters, "
            f"{self.config.device} {self.config.precision}, {ranks}{learner.num_threads} threads, "
            f"{self.config.total_steps} steps{resumed}",
            file=sys.stderr,
        )

    def _report(
        self,
        scalars: MetricSinks,
        progress: tqdm,
        report: StepReport,
        straggler: Straggler | None,
        *,
        measured: bool,
    ) -> None:
        if report.result.skipped:
            progress.write(
                f"step {self.step}: left out, its gradient norm {report.result.gradient_norm:.3g} "
                f"is over {self.config.optimizer.spike_factor} times the usual",
                file=sys.stderr,
            )
        told = measured or self.step % _LINES_EVERY == 0
        if not (told or self.step % _SCALARS_EVERY == 0):
            return
        facts = self._facts(report)
        words = _in_words(facts)
        if straggler is not None:
            facts |= straggler.numbers
            words += f", {straggler}"
        scalars.add_scalars({f"train/{name}": value for name, value in facts.items()}, self.step)
        progress.set_postfix_str(words, refresh=False)
        if not told:
            return
        measurement = self.stage.measure() if measured else None
        line = f"step {self.step}/{self.config.total_steps}: {words}"
        if measurement is not None:
            line += f", {measurement.told}"
            self._add(scalars, measurement)
        left_s = self.training_s / self.step * (self.config.total_steps - self.step)
        progress.write(f"{line}, {self.training_s:.0f} s, {left_s:.0f} s left", file=sys.stderr)
        for text in measurement.texts.values() if measurement else ():
            progress.write(f"  {text!r}", file=sys.stderr)

    def _facts(self, report: StepReport) -> dict[str, float]:
        result, guard = report.result, self.stage.learner.guard
        return {
            "loss": result.loss,
            **{f"loss_{name}": loss for name, loss in result.losses.items()},
            "gradient_norm": result.gradient_norm,
            "learning_rate": result.learning_rate,
            **self.pace.take(),
            **({} if guard is None else {"skipped_steps": guard.num_skipped}),
            "memory_gib": memory_gib(self.stage.learner.device),
        }

    def _add(self, scalars: MetricSinks, measurement: Measurement) -> None:
        numbers = {f"validation/{name}": value for name, value in measurement.scalars.items()}
        scalars.add_scalars(numbers, self.step)
        for name, text in measurement.texts.items():
            scalars.add_text(f"samples/{name}", text, self.step)
        # They take much more room than numbers do.
        if self.step == self.config.total_steps:
            for name, picture in self.stage.pictures().items():
                scalars.add_image(f"samples/{name}", picture, self.step)

    def _save_state(self) -> None:
        learner = self.stage.learner
        if not learner.is_sharded:
            self.world.require_same(dict(learner.network.named_parameters()))
        self.saver.save(
            TrainingState(
                step=self.step,
                data_digest=self.stage.data_digest,
                training_s=self.training_s,
                tensors=learner.state(),
            )
        )

    def _write_checkpoint(self) -> None:
        if not self.world.is_first:
            return
        path = self.run.checkpoint(self.step)
        changes = plain_changes(self.run.changes())
        # Written before the state that a resume began from was saved: the same, once more.
        for made_of_it in (path, self.run.evaluation(self.step)):
            shutil.rmtree(made_of_it, ignore_errors=True)
        self.stage.write_checkpoint(
            path,
            {
                "optimizer_step": self.step,
                "total_steps": self.config.total_steps,
                "created": now(),
                "training_s": round(self.training_s, 1),
                "seed": self.config.seed,
                **({"configuration_changes": changes} if changes else {}),
                **self.code,
            },
        )


def _written(progress: tqdm | type[tqdm]) -> Callable[[str], object]:
    """Lines above the bar."""
    return partial(progress.write, file=sys.stderr)


def _in_words(facts: Mapping[str, float]) -> str:
    """`loss 2.345, |g| 0.81, 12,300 tokens/s, mfu 41%, 1.2 GiB`; after the loss, its parts."""
    words = [
        f"{name.removeprefix('loss_')} {value:.3f}"
        for name, value in facts.items()
        if name.startswith("loss")
    ]
    words.append(f"|g| {facts['gradient_norm']:.2f}")
    words += [
        f"{value:,.0f} {name.removesuffix('_per_s')}/s"
        for name, value in facts.items()
        if name.endswith("_per_s")
    ]
    if "mfu" in facts:
        words.append(f"mfu {facts['mfu']:.0%}")
    return ", ".join([*words, f"{facts['memory_gib']:.1f} GiB"])


@contextmanager
def _stop_on_signals() -> Iterator[Event]:
    """An event that the first Ctrl-C or SIGTERM sets; a second Ctrl-C interrupts at once."""
    stop = Event()
    if current_thread() is not main_thread():
        yield stop
        return

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    previous = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

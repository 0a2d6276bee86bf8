"""One training run, from data to a final checkpoint, resumable at any step, whatever the stage."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
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
from trainer.policy_configuration import PolicyConfig
from trainer.provenance import describe_code, now
from trainer.requirements import ConfigurationError
from trainer.run_configuration import RunConfig
from trainer.run_directory import RunDirectory, RunError, TrainingState
from trainer.stages.beginnings import differing_fields, shaped_like_its_beginning
from trainer.stages.catalog import open_stage
from trainer.stages.stage import Stage
from trainer.state_saver import StateSaver
from trainer.stop_signals import stop_on_signals
from trainer.stragglers import OwnWork
from trainer.telling import SCALARS_EVERY, Telling, write_line

_Config = TypeVar("_Config", bound=RunConfig)

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


def _other_data(config: RunConfig) -> str:
    """Of several data sets the digest tells the order that mixes them, too."""
    if isinstance(config, PolicyConfig) and config.more_data:
        return (
            f"the data in {config.data} or more_data are not those that the run began with, or an "
            "earlier version began it, which mixed them in another order"
        )
    return f"the data in {config.data} are not those that the run began with"


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
    micro = config.micro_batch_size
    divisor, of_what = world.size, f"{world.size} ranks"
    if micro is not None:
        unit = "sequences" if isinstance(config, TextTrainConfig) else "windows"
        divisor, of_what = divisor * micro, f"{of_what} of {micro} {unit} at once"
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
                    f"{run.root}: {_other_data(config)}; put them back, or choose another --output"
                )
            stage.learner.load_state(state.tensors)
        step = 0 if state is None else state.step
        require_goes_on(config, run, step)
        if world.is_first:
            change_configuration(config, run, step)
        return _Session(
            config=config,
            run=run,
            stage=stage,
            world=world,
            memory=memory,
            step=step,
            training_s=0.0 if state is None else state.training_s,
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
            stop_on_signals() as stop,
            self.saver.finishing(),
            tqdm(total=total, initial=self.step, unit="step", disable=hidden) as bar,
            self.stage.batches_ahead(self.step, total) as batches,
        ):
            telling = None
            if scalars:
                telling = Telling(self.config, self.stage, bar, scalars, num_ranks=self.world.size)
                telling.begin(self.step)
            while self.step < total:
                self.memory.in_step(self.step + 1)
                started, exchanged_s = time.perf_counter(), self.world.exchanged_s
                report = self.stage.step(next(batches), self.step)
                self.step += 1
                elapsed_s = time.perf_counter() - started
                self.training_s += elapsed_s
                self.own_work.add(elapsed_s, self.world.exchanged_s - exchanged_s)
                if telling:
                    telling.add(report, elapsed_s)
                self.memory.after_step(self.step)
                kept = self.step in self.config.kept_steps
                measured = kept or self.step % self.config.validation_every == 0
                # All ranks ask, though the first alone tells.
                noted = measured or self.step % SCALARS_EVERY == 0
                straggler = self.own_work.straggler() if noted else None
                with self.stage.learner.gathered() if measured else nullcontext():
                    if telling:
                        telling.tell(
                            report, self.step, self.training_s, straggler, measured=measured
                        )
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
                    beside.tell(scalars, self.step, write_line)
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
        with stop_on_signals() as stop:
            while self.world.any(beside is not None and beside.is_busy):
                if self.world.any(stop.is_set()):
                    raise TrainingInterruptedError(
                        f"all {self.step} optimizer steps are done, an evaluation is not; the same "
                        "command goes on with it"
                    )
                if scalars and beside:
                    beside.wait(_LOOK_AGAIN_S)
                    beside.tell(scalars, self.step, write_line)

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

"""One training run, from recorded episodes to a final checkpoint, resumable at any step."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Event, current_thread, main_thread
from types import FrameType
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from trainer.checkpoint import Checkpoint, build_network, write_checkpoint
from trainer.configuration import ConfigurationError, TrainConfig
from trainer.data.batches import Batch, TrainingData
from trainer.data.formats.catalog import open_dataset
from trainer.data.robot_recordings import RobotRecordings, read_recordings
from trainer.data.windows import split_episodes
from trainer.learner import Learner, StepResult
from trainer.provenance import describe_code, describe_data, now
from trainer.run_directory import RunDirectory, RunError, TrainingState
from trainer.validation import ActionError, Validator

# Steps between scalars in TensorBoard, and between plain lines where no progress bar is shown.
_SCALARS_EVERY = 10
_LINES_EVERY = 200

_MAX_DEFAULT_THREADS = 2


class TrainingInterruptedError(RuntimeError):
    """Stopped on request; the state was saved and the same command goes on from it."""


def resolve(config: TrainConfig) -> TrainConfig:
    """With what the machine decides settled: device and precision.

    bfloat16 is taken where the hardware multiplies in it, which more than pays for itself.
    """
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigurationError(f"device: {device!r} asked for, but torch finds no CUDA device")
    precision = config.precision
    if precision == "auto":
        if device == "cpu":
            fast = torch.cpu._is_avx512_bf16_supported()
        else:
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bfloat16" if fast else "float32"
    return replace(config, device=device, precision=precision)


def train(config: TrainConfig, output: Path) -> Path:
    """Run to the end, resuming what `output` holds, and return the final checkpoint's folder.

    A finished run returns at once. Raises ConfigurationError, DataError, RunError,
    TrainingDivergedError, OSError; TrainingInterruptedError after Ctrl-C or SIGTERM.
    """
    config = resolve(config)
    run = RunDirectory(root=output)
    run.check(config)
    if run.is_finished():
        return run.final_checkpoint
    # The learner has threads of its own.
    torch.set_num_threads(1)
    recordings = read_recordings(open_dataset(config.data), config.cameras)
    run.claim(config)
    session = _Session.prepare(config, run, recordings)
    with (
        session.data,
        SummaryWriter(str(run.tensorboard), purge_step=session.step) as scalars,
    ):
        session.run_to_end(scalars)
    return run.final_checkpoint


@dataclass(kw_only=True, eq=False)
class _Session:
    """A run while it is being trained. step: optimizer steps taken so far."""

    config: TrainConfig
    run: RunDirectory
    recordings: RobotRecordings
    num_training_episodes: int
    data: TrainingData
    learner: Learner
    validator: Validator | None
    step: int
    training_s: float
    # Taken at the start: what is committed meanwhile is not what runs here.
    code: dict[str, Any] = field(default_factory=describe_code)
    action_error: ActionError | None = None

    @staticmethod
    def prepare(config: TrainConfig, run: RunDirectory, recordings: RobotRecordings) -> _Session:
        device = torch.device(config.device)
        training, held_out = split_episodes(recordings.num_episodes, config.validation_episodes)
        data = TrainingData(recordings, training, config, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = build_network(config, recordings.contract, data.transform)
        num_threads = config.num_threads or min(_available_cores(), _MAX_DEFAULT_THREADS)
        learner = Learner(network, config, device, num_threads=num_threads)
        validator = (
            Validator(
                recordings,
                held_out,
                data.transform,
                open_loop_steps=config.serving.open_loop_steps,
                num_flow_steps=config.serving.num_flow_steps,
            )
            if held_out
            else None
        )
        state = run.load_state()
        if state is not None:
            if state.data_digest != recordings.digest:
                raise RunError(
                    f"{run.root}: the demonstrations in {config.data} are not those that the run "
                    "began with; put them back, or choose another --output"
                )
            learner.load_state(state.tensors)
        return _Session(
            config=config,
            run=run,
            recordings=recordings,
            num_training_episodes=len(training),
            data=data,
            learner=learner,
            validator=validator,
            step=0 if state is None else state.step,
            training_s=0.0 if state is None else state.training_s,
        )

    def run_to_end(self, scalars: SummaryWriter) -> None:
        total = self.config.total_steps
        with (
            _stop_on_signals() as stop,
            tqdm(total=total, initial=self.step, unit="step", disable=None) as progress,
        ):
            self._announce(progress)
            batches = self.data.batches(self.step, total)
            while self.step < total:
                started = time.perf_counter()
                result = self._take_step(next(batches))
                elapsed_s = time.perf_counter() - started
                self.training_s += elapsed_s
                progress.update()
                self._report(scalars, progress, result, elapsed_s)
                if self.step in self.config.kept_steps:
                    self._write_checkpoint()
                if stop.is_set() and self.step < total:
                    self._save_state()
                    raise TrainingInterruptedError(
                        f"stopped after optimizer step {self.step} of {total}; the same command "
                        "goes on from here"
                    )
                if self.step % self.config.save_state_every == 0 or self.step == total:
                    self._save_state()
        # A run that was killed between its last save and its last checkpoint lacks the latter.
        if not self.run.checkpoint(total).exists():
            self._write_checkpoint()
        self.run.link_final(total)

    def _take_step(self, batch: Batch) -> StepResult:
        result = self.learner.step(batch, self.step, self.data.generator(self.step))
        self.step += 1
        return result

    def _announce(self, progress: tqdm) -> None:
        parameters = sum(p.numel() for p in self.learner.network.parameters())
        resumed = f", resumed at {self.step}" if self.step else ""
        progress.write(
            f"training on {self.num_training_episodes} of {self.recordings.num_episodes} "
            f"episodes ({self.recordings.num_steps} frames, "
            f"{len(self.recordings.contract.cameras)} cameras), "
            f"{parameters / 1e6:.1f} M parameters, "
            f"{self.config.device} {self.config.precision}, {self.learner.num_threads} threads, "
            f"{self.config.total_steps} steps{resumed}",
            file=sys.stderr,
        )

    def _report(
        self, scalars: SummaryWriter, progress: tqdm, result: StepResult, elapsed_s: float
    ) -> None:
        if self.step % _SCALARS_EVERY == 0:
            scalars.add_scalar("train/loss", result.loss, self.step)
            scalars.add_scalar("train/gradient_norm", result.gradient_norm, self.step)
            scalars.add_scalar("train/learning_rate", result.learning_rate, self.step)
            scalars.add_scalar("train/samples_per_s", self.config.batch_size / elapsed_s, self.step)
            progress.set_postfix_str(f"loss {result.loss:.3f}", refresh=False)
        measured = self.step % self.config.validation_every == 0
        measured |= self.step in self.config.kept_steps
        if measured and self.validator is not None:
            self.action_error = self.validator.measure(self.learner.network, self.learner.ema)
            for name, value in asdict(self.action_error).items():
                scalars.add_scalar(f"validation/{name}", value, self.step)
        if measured or self.step % _LINES_EVERY == 0:
            line = f"step {self.step}/{self.config.total_steps}: loss {result.loss:.3f}"
            if measured and (error := self.action_error) is not None:
                line += (
                    f", held-out action error {error.position_mm:.1f} mm, "
                    f"{error.rotation_deg:.1f} deg, gripper {error.gripper_mm:.1f} mm"
                )
            progress.write(f"{line}, {self.training_s:.0f} s", file=sys.stderr)

    def _save_state(self) -> None:
        self.run.save_state(
            TrainingState(
                step=self.step,
                data_digest=self.recordings.digest,
                training_s=self.training_s,
                tensors=self.learner.state(),
            )
        )

    def _write_checkpoint(self) -> None:
        path = self.run.checkpoint(self.step)
        # Written before the state that a resume began from was saved: the same, once more.
        shutil.rmtree(path, ignore_errors=True)
        error = None if self.action_error is None else asdict(self.action_error)
        write_checkpoint(
            Checkpoint(
                weights=self.learner.ema,
                config=self.config,
                transform=self.data.transform,
                contract=self.recordings.contract,
                provenance={
                    "optimizer_step": self.step,
                    "total_steps": self.config.total_steps,
                    "created": now(),
                    "training_s": round(self.training_s, 1),
                    "seed": self.config.seed,
                    "held_out_action_error": error,
                    **describe_data(self.recordings, self.num_training_episodes),
                    **self.code,
                },
            ),
            path,
        )


def _available_cores() -> int:
    """Cores that this process may use, which in a container may be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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

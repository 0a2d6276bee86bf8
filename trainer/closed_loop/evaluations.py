"""The evaluations of a run, one after the other, beside the training.

Beside and not between its steps: a simulation needs a processor, a training on a GPU hardly does,
and minutes of standing still would cost more than what both take from each other. Nothing that is
learnt depends on it. A result comes some steps late, and is told at the step that it is of.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from types import TracebackType

import torch

from trainer.closed_loop.evaluation import ClosedLoopResult, evaluate, is_told
from trainer.closed_loop.processes import Processes
from trainer.closed_loop.programs import Programs
from trainer.metric_sinks import MetricSinks
from trainer.policy_configuration import PolicyConfig
from trainer.requirements import ConfigurationError
from trainer.run_configuration import RunConfig
from trainer.run_directory import RunDirectory


def evaluated_steps(config: RunConfig) -> tuple[int, ...]:
    """Optimizer steps whose checkpoints are evaluated; what does not act has none."""
    return config.evaluated_steps if isinstance(config, PolicyConfig) else ()


def owed_steps(config: RunConfig, run: RunDirectory, step: int) -> list[int]:
    """Of those up to `step`, which have a checkpoint and no evaluation that was told."""
    return [
        each
        for each in evaluated_steps(config)
        if each <= step and run.checkpoint(each).is_dir() and not is_told(run.evaluation(each))
    ]


class Evaluations:
    """A context manager, of the first rank; what still runs when it ends, ends with it.

    An evaluation that fails is told of in a line, and costs no training; a run that goes on tries
    it again.
    """

    def __init__(self, config: RunConfig, run: RunDirectory, tasks: Sequence[str]) -> None:
        """tasks: of the data, for a configuration that names none.

        Raises ConfigurationError for programs, tasks or a device that are not there.
        """
        self._run = run
        self._processes = Processes()
        # One by one: two would take the processor from each other.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evaluation")
        self._running: deque[tuple[int, Future[ClosedLoopResult]]] = deque()
        self._evaluate: Callable[[int], ClosedLoopResult] | None = None
        if evaluated_steps(config):
            assert isinstance(config, PolicyConfig)
            self._evaluate = self._prepared(config, tasks)

    def _prepared(
        self, config: PolicyConfig, tasks: Sequence[str]
    ) -> Callable[[int], ClosedLoopResult]:
        asked = config.evaluate
        if asked.device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigurationError(
                f"evaluate.device: {asked.device!r} asked for, but torch finds no CUDA device"
            )
        chosen = asked.tasks or tuple(tasks)
        if not chosen:
            raise ConfigurationError(
                "evaluate.tasks: expected tasks of the simulation, got none, and the "
                "demonstrations name none; `sim-client tasks` lists them"
            )
        programs = Programs.find()
        programs.require_tasks(chosen)
        programs.require_server()

        def run_one(step: int) -> ClosedLoopResult:
            return evaluate(
                self._run.checkpoint(step),
                self._run.evaluation(step),
                step=step,
                tasks=chosen,
                config=asked,
                programs=programs,
                processes=self._processes,
            )

        return run_one

    def begin(self, step: int) -> None:
        """With the checkpoint of that optimizer step, when those before it are done."""
        assert self._evaluate is not None
        self._running.append((step, self._thread.submit(partial(self._evaluate, step))))

    @property
    def is_busy(self) -> bool:
        return bool(self._running)

    def wait(self, timeout_s: float) -> None:
        """Until one has ended, but no longer than that."""
        wait([future for _, future in self._running][:1], timeout=timeout_s)

    def tell(self, scalars: MetricSinks, now: int, say: Callable[[str], object]) -> None:
        """What has ended since. now: optimizer steps taken."""
        while self._running and self._running[0][1].done():
            step, future = self._running.popleft()
            error = future.exception()
            if error is not None:
                reason = str(error).partition("\n")[0]
                say(f"step {step}: no evaluation in simulation: {reason}")
                continue
            result = future.result()
            scalars.add_late_scalars(result.scalars, step, now)
            try:
                result.store_told(self._run.evaluation(step))
            except OSError as error:
                say(f"step {step}: its evaluation will be told again: {error}")
            say(result.told)

    def __enter__(self) -> Evaluations:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._running:
            print("an evaluation in simulation ends too; a resume goes on", file=sys.stderr)
        for _, future in self._running:
            future.cancel()
        self._processes.end()
        self._thread.shutdown()

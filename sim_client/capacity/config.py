"""What `sim-client plan` is asked, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from policy_interface.usage import UsageError

PLOT_SUFFIXES = (".svg", ".png", ".pdf")

_AT_LEAST_ONE = ("open_loop_steps", "max_batch_size", "replicas", "episodes")
_POSITIVE = (
    "episode_s",
    "control_steps",
    "cores",
    "cores_per_simulator",
    "within_h",
)
_NOT_NEGATIVE = ("think_cv", "step_ms", "max_wait_ms", "server_cores", "cpu_hour", "gpu_hour")


@dataclass(frozen=True, kw_only=True)
class CapacityConfig:
    """Say how many simulators a policy server feeds, and what an episode costs.

    From measured times: of an episode (--measured, or --episode-s, --control-steps and
    --open-loop-steps) and of a forward pass by batch size (--server-metrics, --pass-file or
    --pass-ms). How many episodes it takes in all, step-analysis plan says.
    """

    measured: Path | None = None
    """Results of an evaluation with this policy: its ledger says how long episodes take."""
    episode_s: float | None = None
    """Real seconds of an episode, those apart in which it waits for plans."""
    control_steps: float | None = None
    """Control steps of an episode, on average."""
    open_loop_steps: int | None = None
    """Control steps of one plan; --measured knows it by itself where our server served."""
    think_cv: float = 0.25
    """Spread of a simulator's time between plans: its standard deviation over its mean."""
    server_metrics: str | None = None
    """HOST:PORT of a running server's metrics, which tell its passes by batch size."""
    pass_file: Path | None = None
    """What benchmarks/policy_inference.py printed."""
    variant: str = "plain"
    """Which of the variants in --pass-file: plain on a GPU, invariant on a CPU."""
    pass_ms: str | None = None
    """Batch sizes and milliseconds of a forward pass: 1:14,4:30,16:90."""
    step_ms: float | None = None
    """The server's own work on a control step, plan or not, 1000 over the steps/s of policy-server
    bench --null; --server-metrics measures it."""
    max_batch_size: int | None = None
    """The largest batch to consider; by default the largest that was measured."""
    replicas: int = 1
    """Of the policy on a server."""
    max_wait_ms: float = 50.0
    """The server's --max-wait-ms."""
    cores: float | None = None
    """CPU cores for the simulators of one server; as many as it takes by default."""
    cores_per_simulator: float = 1.0
    """CPU cores that a simulator keeps busy."""
    server_cores: float = 1.0
    """CPU cores of a server, for its cost."""
    cpu_hour: float | None = None
    """Price of a CPU core for an hour."""
    gpu_hour: float | None = None
    """Price of a server's GPU for an hour."""
    episodes: int | None = None
    """Episodes to run: how long, how many servers, what it costs."""
    within_h: float | None = None
    """Hours in which to run them."""
    plot: Path | None = None
    """File for a plot of throughput against simulators: .svg, .png or .pdf."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        given = (self.episode_s, self.control_steps)
        if self.measured is None and None in given:
            raise UsageError(
                "expected --measured, or --episode-s with --control-steps and --open-loop-steps"
            )
        if self.measured is not None and given != (None, None):
            raise UsageError("--measured: not with --episode-s or --control-steps")
        if self.measured is None and self.open_loop_steps is None:
            raise UsageError("--open-loop-steps: expected with --episode-s and --control-steps")
        sources = (self.server_metrics, self.pass_file, self.pass_ms)
        if sum(source is not None for source in sources) != 1:
            raise UsageError("expected one of --server-metrics, --pass-file and --pass-ms")
        for name in _AT_LEAST_ONE:
            self._check(name, lambda value: value >= 1, "at least 1")
        for name in _POSITIVE:
            self._check(name, lambda value: 0 < value < math.inf, "more than 0")
        for name in _NOT_NEGATIVE:
            self._check(name, lambda value: 0 <= value < math.inf, "0 or more")
        if self.think_cv > 3:
            raise UsageError(f"--think-cv: expected at most 3, got {self.think_cv:g}")
        if self.within_h is not None and self.episodes is None:
            raise UsageError("--within-h: expected with --episodes")
        if self.cores is not None and self.cores < self.cores_per_simulator:
            raise UsageError(
                f"--cores {self.cores:g}: expected at least the {self.cores_per_simulator:g} of "
                "one simulator (--cores-per-simulator)"
            )
        if self.plot is not None and self.plot.suffix.lower() not in PLOT_SUFFIXES:
            raise UsageError(f"--plot {self.plot}: expected {', '.join(PLOT_SUFFIXES)}")

    def _check(self, name: str, is_sound: Callable[[float], bool], expected: str) -> None:
        value = getattr(self, name)
        if value is not None and not is_sound(value):
            raise UsageError(f"--{name.replace('_', '-')}: expected {expected}, got {value:g}")

"""What a league is asked to do, checked before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sim_client.compare.config import CompareConfig
from sim_client.evaluation.errors import UsageError
from sim_client.league.arrivals import Checkpoint

STUDY_FOLDER = "study"


@dataclass(frozen=True, kw_only=True)
class LeagueConfig:
    """Rank the checkpoints in a folder, and those that will still come.

    Each is compared with all before it, as by sim-client compare, on the same seeds and until a
    valid test has decided. Alpha is spent in order of arrival, so that it bounds any wrong verdict
    of the whole league, however many checkpoints come and however often one looks.
    """

    folder: tyro.conf.Positional[Path]
    """Where checkpoints arrive; those in folders below count, too."""
    tasks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TASK[,TASK]")]
    """Names, separated by commas, or one of the sets all, one-arm, two-arms, seen, unseen."""
    simulator: Literal["drake", "lbm-eval"] = "drake"
    """The project's own station in Drake, or the LBM Eval that you have installed."""
    lbm_eval_python: Path | None = None
    """Python of the environment that has LBM Eval's wheels; by default the one that runs this."""
    max_episodes: int = 200
    """Budget of episodes of each policy and task; no more are ever run."""
    alpha: float = 0.05
    """Largest chance of any wrong verdict of the whole league, in either direction."""
    test: Literal["paired", "step", "lai", "savi", "betting"] = "paired"
    """The sequential test, as of sim-client compare."""
    measure: Literal["success", "progress"] = "success"
    """What is compared: success rates, or mean progress (with --test betting)."""
    verdicts: Literal["tasks", "overall", "both"] = "overall"
    """Verdicts on each task, on all tasks together, or both."""
    output: Path = Path("league")
    """Folder of the league: the study, standing.txt, standing.json and the report."""
    like: Path | None = None
    """provenance.json of an earlier evaluation, to which every checkpoint is held: refuse where
    something differs that outcomes may depend on."""
    allow_different: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME[,NAME]")] = ()
    """What may differ from --like all the same, such as policy, simulator.gl_renderer or server."""
    once: bool = False
    """Rank what is there and end, for a CI, instead of watching the folder."""
    interval_s: Annotated[float, tyro.conf.arg(name="interval")] = 30.0
    """Seconds between looks into the folder."""
    workers: int = 2
    """Simulator processes, for all policies together."""
    server_options: str = ""
    """More options for the policy-server, such as '--device cuda'."""
    shift: str = ""
    """Levels of distribution shift, such as lighting=high,camera=medium; nominal by default."""
    latency_ms: float = 0.0
    """How long the simulated world goes on until an action takes effect."""
    max_attempts: int = 3
    """Attempts at an episode in a round while it ends in infrastructure errors."""
    step_timeout_s: float = 30.0
    """Deadline of each call to the policy server."""
    time_limit_s: float | None = None
    """Simulated seconds an episode may take, instead of each task's own limit."""

    def __post_init__(self) -> None:
        if not 0.1 <= self.interval_s <= 86_400.0:
            raise UsageError(f"--interval: expected 0.1 s to a day, got {self.interval_s:g}")
        # The rest is what a comparison asks for, and is checked there.
        _ = self.any_comparison

    @property
    def any_comparison(self) -> CompareConfig:
        """A round among anybody."""
        return self._comparison(("127.0.0.1:1", "127.0.0.1:2"), ())

    def comparison(self, checkpoints: Sequence[Checkpoint]) -> CompareConfig:
        """A round among these, two or more."""
        return self._comparison(
            tuple(str(each.path) for each in checkpoints), tuple(each.name for each in checkpoints)
        )

    def _comparison(self, policies: tuple[str, ...], names: tuple[str, ...]) -> CompareConfig:
        return CompareConfig(
            policies=policies,
            names=names,
            tasks=self.tasks,
            simulator=self.simulator,
            lbm_eval_python=self.lbm_eval_python,
            max_episodes=self.max_episodes,
            alpha=self.alpha,
            test=self.test,
            measure=self.measure,
            verdicts=self.verdicts,
            correction="arrival",
            output=self.output / STUDY_FOLDER,
            like=self.like,
            allow_different=self.allow_different,
            workers=self.workers,
            server_options=self.server_options,
            shift=self.shift,
            latency_ms=self.latency_ms,
            max_attempts=self.max_attempts,
            step_timeout_s=self.step_timeout_s,
            time_limit_s=self.time_limit_s,
        )

"""What a comparison is asked to do, checked before anything starts."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sim_client.evaluation.config import EpisodeRange, EvaluationConfig
from sim_client.evaluation.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compare policies on the same seeds, and stop as soon as a valid test has decided.

    The design is locked in OUTPUT/study.json before the first episode. The same command goes on
    where an interrupted one stopped; a changed design is a new study.
    """

    policies: tyro.conf.Positional[tuple[str, ...]]
    """Two or more: a checkpoint's folder, for which a policy-server is started and stopped at the
    end, or HOST:PORT of one that runs, HOST:PORT/NAME for one of several policies there."""
    tasks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TASK[,TASK]")]
    """Names, separated by commas, or one of the sets all, one-arm, two-arms, seen, unseen."""
    simulator: Literal["drake", "lbm-eval"] = "drake"
    """The project's own station in Drake, or the LBM Eval that you have installed."""
    lbm_eval_python: Path | None = None
    """Python of the environment that has LBM Eval's wheels; by default the one that runs this."""
    max_episodes: int = 200
    """Budget of episodes of each policy and task; no more are ever run."""
    alpha: float = 0.05
    """Largest chance of any wrong verdict of the whole study, in either direction."""
    test: Literal["paired", "step", "lai", "savi", "betting"] = "paired"
    """The sequential test: paired (McNemar) gains from the shared seeds, STEP and Lai take policies
    as independent, SAVI and betting need no budget; progress scores are tested by betting."""
    measure: Literal["success", "progress"] = "success"
    """What is compared: success rates, or mean progress (with --test betting)."""
    question: Literal["ranking", "best"] = "ranking"
    """Of three policies and more: whether every pair is to be decided, or who is the best; then
    who is beaten gets no more rollouts."""
    verdicts: Literal["tasks", "overall", "both"] = "both"
    """Verdicts on each task, on all tasks together, or both."""
    correction: Literal["bonferroni", "holm", "benjamini-hochberg", "arrival"] = "bonferroni"
    """How the comparisons, over pairs and tasks, share alpha; Benjamini-Hochberg bounds the
    expected share of wrong verdicts instead. With arrival the same study may be asked again with
    more policies: each gets a share of alpha that leaves some for all that may come."""
    fail_if_worse: bool = False
    """For a CI: exit with 3 where the policy named last, the new one, is shown to be worse than
    another in any comparison."""
    names: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME[,NAME]")] = ()
    """Names of the policies in the results, in their order; by default the folder's, or the one
    that the server states."""
    output: Path = Path("study")
    """Folder of the study."""
    like: Path | None = None
    """An earlier study's folder, whose policies these are, or one provenance.json, to which every
    policy is held: refuse where something differs that outcomes may depend on."""
    allow_different: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME[,NAME]")] = ()
    """What may differ from --like all the same, such as simulator.gl_renderer, server or policy."""
    workers: int = 2
    """Simulator processes, for all policies together."""
    server_options: str = ""
    """More options for the policy-server of checkpoints, such as '--device cuda'."""
    tls_ca: Path | None = None
    """PEM file of the authority to trust for the servers; connections are then encrypted."""
    token_file: Path | None = None
    """File of the token that the servers ask for."""
    shift: str = ""
    """Levels of distribution shift, such as lighting=high,camera=medium; nominal by default."""
    latency_ms: float = 0.0
    """How long the simulated world goes on until an action takes effect."""
    video: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CAMERA[,CAMERA]")] = ()
    """Film each episode with these cameras: cameras.mp4."""
    max_attempts: int = 3
    """Attempts at an episode in this run while it ends in infrastructure errors."""
    wait_for_server_s: Annotated[float, tyro.conf.arg(name="wait-for-server")] = 60.0
    """Seconds to wait for a server, at the start and whenever it is gone."""
    step_timeout_s: float = 30.0
    """Deadline of each call to a policy server."""
    stall_timeout_s: float = 180.0
    """A worker without a control step for so long is replaced."""
    time_limit_s: float | None = None
    """Simulated seconds an episode may take, instead of each task's own limit."""

    def __post_init__(self) -> None:
        names = [word.strip() for item in self.names for word in item.split(",")]
        object.__setattr__(self, "names", tuple(name for name in names if name))
        if len(self.policies) < 2:
            raise UsageError(
                f"expected two policies or more to compare, got {len(self.policies)}; one alone is "
                "for sim-client evaluate"
            )
        repeated = next((p for p in self.policies if self.policies.count(p) > 1), None)
        if repeated is not None:
            raise UsageError(f"{repeated!r} is named twice: there is nothing to compare")
        if self.names and len(self.names) != len(self.policies):
            raise UsageError(
                f"--names: expected {len(self.policies)} names, one a policy, got {len(self.names)}"
            )
        if self.max_episodes < 1:
            raise UsageError(f"--max-episodes: expected at least 1, got {self.max_episodes}")
        if not 0.0 < self.alpha < 0.5:
            raise UsageError(
                f"--alpha: expected a number strictly between 0 and 0.5, got {self.alpha:g}"
            )
        if self.measure == "progress" and self.test != "betting":
            raise UsageError(
                f"--test {self.test}: it is for success alone; --measure progress needs "
                "--test betting"
            )
        if self.measure == "progress" and self.simulator == "lbm-eval":
            raise UsageError("--measure progress: not with --simulator lbm-eval, which scores none")
        if self.question == "best" and self.correction != "bonferroni":
            raise UsageError(
                f"--correction {self.correction}: not with --question best, where the verdict "
                "would then depend on the order in which episodes are run; use bonferroni"
            )
        try:
            shlex.split(self.server_options)
        except ValueError as error:
            raise UsageError(f"--server-options: {error}") from error
        # The rest is what an evaluation of one policy asks for, and is checked there.
        self.evaluation("127.0.0.1:1", None, None)

    def evaluation(
        self, address: str, served_policy: str | None, name: str | None
    ) -> EvaluationConfig:
        """One policy's part of the study."""
        return EvaluationConfig(
            tasks=self.tasks,
            simulator=self.simulator,
            lbm_eval_python=self.lbm_eval_python,
            episodes=EpisodeRange(0, self.max_episodes),
            address=address,
            served_policy=served_policy,
            tls_ca=self.tls_ca,
            token_file=self.token_file,
            workers=self.workers,
            output=self.output,
            like=self.like,
            allow_different=self.allow_different,
            policy_name=name,
            max_sample_size=self.max_episodes,
            shift=self.shift,
            latency_ms=self.latency_ms,
            video=self.video,
            max_attempts=self.max_attempts,
            wait_for_server_s=self.wait_for_server_s,
            step_timeout_s=self.step_timeout_s,
            stall_timeout_s=self.stall_timeout_s,
            time_limit_s=self.time_limit_s,
        )

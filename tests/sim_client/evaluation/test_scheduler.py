"""An interruption that comes with the last verdict."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sim_client.compare.progress import Progress as StudyProgress
from sim_client.compare.scheduler import run_study
from sim_client.evaluation.config import evaluation_seed
from sim_client.evaluation.episode import EpisodeReport, EpisodeRequest
from sim_client.evaluation.executor import Executor
from sim_client.evaluation.interruption import Interruption
from sim_client.evaluation.output_folder import OutputFolder
from sim_client.evaluation.progress import Progress
from sim_client.evaluation.provenance_file import ProvenanceFile
from sim_client.evaluation.scheduler import run_episodes
from step_analysis.provenance import Provenance
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutKey
from step_analysis.study.design import StudyDesign, StudyPolicy
from step_analysis.study.study import Study

TASK = "PickAndPlaceBox"
KEYS = [RolloutKey("hold", "PickAndPlaceBox", index) for index in range(2)]


class NoRoom(Executor):
    """Its workers never get to an episode."""

    is_busy = has_room = False

    def wait(self, interruption: Interruption) -> list[Any]:
        return []


def shared_folder(root: Path) -> OutputFolder:
    design = EvaluationDesign(
        policy="hold",
        policy_digest="one",
        tasks=("PickAndPlaceBox",),
        first_episode=0,
        num_episodes=len(KEYS),
        max_sample_size=10,
        station={},
        software={},
    )
    return OutputFolder(root, design, budget_is_given=True, num_workers=1, shared=True)


@pytest.mark.parametrize("num_decided", [0, 1, 2])
def test_an_interruption_cuts_off_only_what_is_left(tmp_path: Path, num_decided: int) -> None:
    with shared_folder(tmp_path) as ours, shared_folder(tmp_path) as theirs:

        class DecidesThenInterrupts(Interruption):
            """Another process has its verdicts just before we are told to stop."""

            def wait(self, timeout_s: float) -> None:
                for key in KEYS[:num_decided]:
                    assert theirs.claim(key)
                    request = theirs.request(key, max_control_steps=10, record=False)
                    theirs.record(
                        request,
                        EpisodeReport(
                            outcome=Outcome.SUCCESS,
                            started_at="2026-11-23T12:00:00.000+00:00",
                            wall_s=1.0,
                        ),
                    )
                self.requested = True

        def run() -> None:
            with (
                DecidesThenInterrupts() as interruption,
                Progress(ours.design, ours.records) as progress,
            ):
                run_episodes(
                    [ours.request(key, max_control_steps=10, record=False) for key in KEYS],
                    executor=NoRoom(),
                    folder=ours,
                    provenance=ProvenanceFile(ours.path, Provenance(policy={}), executor="local"),
                    progress=progress,
                    interruption=interruption,
                    max_attempts=1,
                )

        if num_decided == len(KEYS):
            run()
        else:
            with pytest.raises(KeyboardInterrupt):
                run()
        assert len(ours.unfinished()) == len(KEYS) - num_decided


class OneAtATime(Executor):
    """One in which 'hold' always succeeds and others never do.

    Ctrl-C comes with the report of this number, counted from 1; 0 is never.
    """

    is_busy = False

    def __init__(self, interrupted_at: int) -> None:
        self.num_reports = 0
        self._interrupted_at = interrupted_at
        self._running: list[EpisodeRequest] = []

    @property
    def has_room(self) -> bool:
        return not self._running

    def submit(self, request: EpisodeRequest) -> None:
        self._running.append(request)

    def wait(self, interruption: Interruption) -> list[tuple[EpisodeRequest, EpisodeReport]]:
        request = self._running.pop()
        self.num_reports += 1
        interruption.requested = self.num_reports == self._interrupted_at
        report = EpisodeReport(
            outcome=Outcome.SUCCESS if request.policy == "hold" else Outcome.FAILURE,
            started_at="2026-11-23T12:00:00.000+00:00",
            wall_s=1.0,
        )
        return [(request, report)]


def play(root: Path, interrupted_at: int) -> tuple[Study, int]:
    """A study of two policies, and how many rollouts were run."""
    design = StudyDesign(
        policies=tuple(StudyPolicy(name=name, digest=name) for name in ("hold", "other")),
        tasks=(TASK,),
        max_episodes=20,
        first_seed=evaluation_seed(0),
        alpha=0.2,
    )
    study, executor = Study(design), OneAtATime(interrupted_at)
    with ExitStack() as stack:
        folders = {
            policy.name: stack.enter_context(
                OutputFolder(
                    root,
                    EvaluationDesign(
                        policy=policy.name,
                        policy_digest=policy.digest,
                        tasks=design.tasks,
                        num_episodes=design.max_episodes,
                        max_sample_size=design.max_episodes,
                    ),
                    budget_is_given=True,
                    num_workers=1,
                )
            )
            for policy in design.policies
        }
        provenance = Provenance(policy={})
        run_study(
            study,
            executor=executor,
            folders=folders,
            origins={
                name: ProvenanceFile(own.path, provenance, executor="local")
                for name, own in folders.items()
            },
            request_of=lambda key: replace(
                folders[key.policy].request(key, max_control_steps=10, record=False),
                policy=key.policy,
            ),
            progress=stack.enter_context(StudyProgress(study, 0)),
            interruption=stack.enter_context(Interruption()),
            max_attempts=1,
        )
    return study, executor.num_reports


def test_an_interruption_with_the_deciding_rollout_cuts_nothing_off(tmp_path: Path) -> None:
    study, num_rollouts = play(tmp_path / "calm", interrupted_at=0)
    assert study.standing().is_finished
    late, _ = play(tmp_path / "late", interrupted_at=num_rollouts)
    assert late.standing() == study.standing()
    with pytest.raises(KeyboardInterrupt):
        play(tmp_path / "early", interrupted_at=num_rollouts - 1)

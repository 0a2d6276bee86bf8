"""An interruption that comes with the last verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sim_client.evaluation.episode import EpisodeReport
from sim_client.evaluation.interruption import Interruption
from sim_client.evaluation.output_folder import OutputFolder
from sim_client.evaluation.progress import Progress
from sim_client.evaluation.provenance_file import ProvenanceFile
from sim_client.evaluation.scheduler import run_episodes
from step_analysis.provenance import Provenance
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutKey

KEYS = [RolloutKey("hold", "PickAndPlaceBox", index) for index in range(2)]


class NoRoom:
    """An executor whose workers never get to an episode."""

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
                    executor=NoRoom(),  # type: ignore[arg-type]
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

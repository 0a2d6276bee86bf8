"""A policy's name as a folder's, and several processes in one folder."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_client.evaluation.episode import EpisodeReport
from sim_client.evaluation.errors import UsageError
from sim_client.evaluation.output_folder import OutputFolder, folder_name
from step_analysis.rollouts import EvaluationDesign, Outcome, RolloutKey


@given(st.text(max_size=300))
def test_any_name_is_one_harmless_component(name: str) -> None:
    folder = folder_name(name)
    assert PurePosixPath(folder).parts == (folder,)
    assert folder.isascii()
    assert folder.isprintable()
    assert not folder.startswith((".", "-"))
    assert len(folder) <= 100


@given(st.text(max_size=20), st.text(max_size=20))
def test_two_names_never_share_a_folder(first: str, second: str) -> None:
    assert (folder_name(first) == folder_name(second)) == (first == second)


@given(st.from_regex(r"[a-z][a-z0-9_.-]{0,40}", fullmatch=True))
def test_a_plain_name_is_kept(name: str) -> None:
    assert folder_name(name) == name


def shared_folder(root: Path, num_episodes: int = 2) -> OutputFolder:
    """As another process would open it: what locks is the open file, not the process."""
    design = EvaluationDesign(
        policy="hold",
        policy_digest="one",
        tasks=("PickAndPlaceBox",),
        first_episode=0,
        num_episodes=num_episodes,
        max_sample_size=10,
        station={},
        software={},
    )
    return OutputFolder(root, design, budget_is_given=True, num_workers=1, shared=True)


def ended(outcome: Outcome) -> EpisodeReport:
    return EpisodeReport(outcome=outcome, started_at="2026-11-23T12:00:00.000+00:00", wall_s=1.0)


def test_an_episode_is_claimed_by_one_until_it_is_recorded_or_given_up(tmp_path: Path) -> None:
    first_key, second_key = (RolloutKey("hold", "PickAndPlaceBox", i) for i in range(2))
    with shared_folder(tmp_path) as second:
        with shared_folder(tmp_path) as first:
            assert first.claim(first_key)
            assert not second.claim(first_key)
            request = first.request(first_key, max_control_steps=10, record=False)
            first.record(request, ended(Outcome.ERROR))
            # An error leaves it to whoever comes first.
            assert second.claim(first_key)
            assert not first.claim(first_key)
            record = second.record(request, ended(Outcome.SUCCESS))
            assert record.attempt == 2
            assert [each.attempt for each in second.news()] == [1]
            assert not first.claim(first_key)
            assert first.is_finished(first_key)
            assert [each.attempt for each in first.news()] == [2]
            assert first.claim(second_key)
            assert not second.claim(second_key)
        # It is gone, and what it ran is anybody's.
        assert second.claim(second_key)


def test_an_evaluation_is_not_extended_while_others_run_it(tmp_path: Path) -> None:
    with (
        shared_folder(tmp_path),
        pytest.raises(UsageError, match="another process runs the 2 episodes"),
        shared_folder(tmp_path, num_episodes=4),
    ):
        pass
    with shared_folder(tmp_path, num_episodes=4) as folder:
        assert len(folder.unfinished()) == 4

"""Training on two processes: the same learning as on one, stopped, resumed and killed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.trainer import ranks
from tests.trainer.steps import losses_alone
from trainer.co_training_configuration import AlsoConfig
from trainer.configuration_json import config_to_json
from trainer.distributed import joined_world
from trainer.language_configuration import LanguageTrainConfig
from trainer.policy_configuration import TrainConfig
from trainer.requirements import ConfigurationError
from trainer.run_configuration import RunConfig
from trainer.training_configuration import EmaConfig, OptimizerConfig, ShardingConfig
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig
from trainer.vision_language_configuration import VisionLanguageTrainConfig

language, policy = ranks.language, ranks.policy
instructed, seeing = ranks.instructed, ranks.seeing
run, torchrun, weights, require_same_averages = (
    ranks.run,
    ranks.torchrun,
    ranks.weights,
    ranks.require_same_averages,
)


@dataclass(frozen=True, kw_only=True)
class Together:
    """What two ranks made of a plan of runs. folder: their outputs."""

    folder: Path
    notes: Any
    names: Sequence[str]

    def of(self, name: str) -> list[dict[str, Any]]:
        """How each rank fared that lived to tell."""
        number = self.names.index(name)
        return [each[number] for each in self.notes.by_rank if number < len(each)]


@pytest.fixture(scope="module")
def sharded(language: LanguageTrainConfig) -> LanguageTrainConfig:
    return replace(
        language, ema=EmaConfig(max_decay=0.9), sharding=ShardingConfig(kind="full"), seed=1
    )


@pytest.fixture(scope="module")
def together(
    language: LanguageTrainConfig,
    sharded: LanguageTrainConfig,
    policy: TrainConfig,
    instructed: VisionLanguageActionTrainConfig,
    seeing: VisionLanguageTrainConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Together:
    """One torchrun for all of them, for it takes seconds to start."""
    folder = tmp_path_factory.mktemp("together")
    losses_alone(sharded, folder / "sharded_joined", stop_after=6)
    plan = {
        "language": run(language, folder / "language"),
        "again": run(language, folder / "again"),
        "stopped": run(language, folder / "stopped", "SIGTERM", step=6),
        "resumed": run(language, folder / "stopped"),
        "moved": run(language, folder / "moved", "SIGTERM", step=6),
        "policy": run(policy, folder / "policy"),
        "instructed": run(instructed, folder / "instructed"),
        "seeing": run(seeing, folder / "seeing"),
        "unshared": run(policy, folder / "unshared", "unshared"),
        "indivisible": run(replace(policy, batch_size=11), folder / "indivisible"),
        "parts": run(replace(language, micro_batch_size=8), folder / "parts"),
        "windows": run(replace(policy, micro_batch_size=4), folder / "windows"),
        "also_parts": run(
            replace(instructed, also=AlsoConfig(data=("words=1:3",), micro_batch_size=1)),
            folder / "also_parts",
        ),
        "cut_apart": run(
            replace(sharded, optimizer=OptimizerConfig(kind="muon")), folder / "cut_apart"
        ),
        "diverged": run(language, folder / "diverged", "spoil", step=6),
        "drifting": run(language, folder / "drifting", "drift", step=6),
        "sharded": run(sharded, folder / "sharded"),
        "sharded_stopped": run(sharded, folder / "sharded_stopped", "SIGTERM", step=6),
        "sharded_resumed": run(sharded, folder / "sharded_stopped"),
        "sharded_left": run(sharded, folder / "sharded_left", "SIGTERM", step=6),
        "sharded_joined": run(sharded, folder / "sharded_joined"),
        # The last one, for it ends them both.
        "killed": run(language, folder / "killed", "SIGKILL", step=5),
    }
    notes = torchrun(list(plan.values()), folder)
    assert [len(each) for each in notes.by_rank] == [len(plan), len(plan) - 1], notes.stderr
    return Together(folder=folder, notes=notes, names=list(plan))


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_world("cpu") as world:
        assert (world.rank, world.size, world.is_first) == (0, 1, True)
        assert not torch.distributed.is_initialized()
        assert not world.any(False)
        assert world.total([3, 4], torch.device("cpu")) == [3, 4]


def test_what_torchrun_sets_is_read_strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ConfigurationError, match="WORLD_SIZE: expected a whole number, got 'two'"):
        joined_world("cpu").__enter__()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError, match="each on a GPU of its own, got 'cuda:1'"):
        joined_world("cuda:1").__enter__()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["language", "policy", "seeing", "instructed"])
def test_two_ranks_learn_what_one_learns(
    together: Together, name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    config = request.getfixturevalue(name)
    alone = losses_alone(config, tmp_path / "alone")
    assert len(alone) == config.num_steps
    for rank in together.of(name):
        assert rank["exit_code"] == 0
        assert rank["losses"] == pytest.approx(alone, abs=1e-5, rel=0)
    assert together.of(name)[0] == together.of(name)[1]


@pytest.mark.slow
def test_two_ranks_learn_of_other_data_what_one_learns(
    instructed: VisionLanguageActionTrainConfig, seeing: VisionLanguageTrainConfig, tmp_path: Path
) -> None:
    """Three sequences a step beside the demonstrations, of which one rank has two."""
    also = AlsoConfig(data=(f"{seeing.data}=0.5:3",), validation_documents=2)
    config = replace(instructed, also=also)
    alone = losses_alone(config, tmp_path / "alone")
    few = replace(config, also=replace(also, data=(f"{seeing.data}=0.5:1",)))
    cut = replace(config, sharding=ShardingConfig(kind="full"))
    plan = [run(config, tmp_path / "together"), run(few, tmp_path / "few")]
    notes = torchrun([*plan, run(cut, tmp_path / "cut")], tmp_path)
    for whole, refused, in_parts in notes.by_rank:
        for one in (whole, in_parts):
            assert one["exit_code"] == 0
            assert one["losses"] == pytest.approx(alone, abs=1e-5, rel=0)
        assert refused == {"exit_code": 2, "losses": []}
    assert notes.stderr.count("also.data: expected at least 2 sequences") == 1


@pytest.mark.slow
def test_two_ranks_give_the_same_bits_again(together: Together) -> None:
    assert together.of("again") == together.of("language")
    assert weights(together.folder / "again") == weights(together.folder / "language")


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_both_and_a_resume_gives_the_same_bits(
    together: Together,
) -> None:
    stopped, resumed = together.of("stopped"), together.of("resumed")
    assert [rank["exit_code"] for rank in stopped] == [130, 130]
    # Of four runs that are stopped so.
    assert together.notes.stderr.count("stopped after optimizer step 6 of 10") == 4
    whole = together.of("language")[0]["losses"]
    for before, after in zip(stopped, resumed, strict=True):
        assert before["losses"] + after["losses"] == whole
    assert weights(together.folder / "stopped") == weights(together.folder / "language")


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_ranks(
    together: Together, language: LanguageTrainConfig
) -> None:
    rest = losses_alone(language, together.folder / "moved")
    whole = together.of("language")[0]["losses"]
    assert together.of("moved")[0]["losses"] + rest == pytest.approx(whole, abs=1e-5, rel=0)


@pytest.fixture(scope="module")
def unsharded(
    sharded: LanguageTrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[float], Path]:
    """Losses and folder of a run that one process has made, which holds the whole network."""
    output = tmp_path_factory.mktemp("unsharded") / "run"
    return losses_alone(sharded, output), output


@pytest.mark.slow
def test_ranks_that_hold_a_part_each_learn_what_one_learns(
    together: Together, unsharded: tuple[list[float], Path]
) -> None:
    losses, output = unsharded
    for rank in together.of("sharded"):
        assert rank["exit_code"] == 0
        assert rank["losses"] == pytest.approx(losses, abs=1e-5, rel=0)
    require_same_averages(together.folder / "sharded", output)


@pytest.mark.slow
def test_parts_saved_and_read_again_give_the_same_bits(together: Together) -> None:
    stopped, resumed = together.of("sharded_stopped"), together.of("sharded_resumed")
    assert [rank["exit_code"] for rank in (*stopped, *resumed)] == [130, 130, 0, 0]
    assert stopped[0]["losses"] + resumed[0]["losses"] == together.of("sharded")[0]["losses"]
    assert weights(together.folder / "sharded_stopped") == weights(together.folder / "sharded")


@pytest.mark.slow
def test_a_state_in_parts_goes_on_in_one_process(
    together: Together, sharded: LanguageTrainConfig, unsharded: tuple[list[float], Path]
) -> None:
    losses, output = unsharded
    state = together.folder / "sharded_left" / "training_state" / "step_000006"
    assert len(list(state.glob("shard-*.safetensors"))) == 2
    rest = losses_alone(sharded, together.folder / "sharded_left")
    whole = together.of("sharded_left")[0]["losses"] + rest
    assert whole == pytest.approx(losses, abs=1e-5, rel=0)
    require_same_averages(together.folder / "sharded_left", output)


@pytest.mark.slow
def test_a_state_of_one_process_goes_on_in_parts(
    together: Together, unsharded: tuple[list[float], Path]
) -> None:
    losses, output = unsharded
    joined = together.of("sharded_joined")
    assert [rank["exit_code"] for rank in joined] == [0, 0]
    assert joined[0]["losses"] == pytest.approx(losses[6:], abs=1e-5, rel=0)
    require_same_averages(together.folder / "sharded_joined", output)


@pytest.mark.slow
def test_ranks_whose_weights_differ_do_not_save(together: Together) -> None:
    assert [rank["exit_code"] for rank in together.of("drifting")] == [1, 1]
    assert together.notes.stderr.count("the weights of the 2 ranks differ") == 1
    saved = [path.name for path in (together.folder / "drifting" / "training_state").iterdir()]
    assert saved == ["step_000004"]


@pytest.mark.slow
def test_what_ranks_cannot_share_is_refused_before_anything_is_written(
    together: Together,
) -> None:
    for name in ("indivisible", "parts", "windows", "also_parts", "cut_apart"):
        assert [rank["exit_code"] for rank in together.of(name)] == [2, 2]
        assert not (together.folder / name).exists()
    # Once, though both ranks are ended by it.
    told = together.notes.stderr.count
    assert told("batch_size: expected a multiple of 2 for 2 ranks, got 11") == 1
    assert told("a multiple of 16 for 2 ranks of 8 sequences at once, got 8") == 1
    assert told("a multiple of 8 for 2 ranks of 4 windows at once, got 12") == 1
    assert told("expected a multiple of 2 sequences of words an optimizer step for 2 ranks") == 1
    assert told("optimizer.kind: expected 'adamw' with sharding.kind 'full', which cuts") == 1


@pytest.mark.slow
def test_a_stage_that_knows_no_ranks_is_refused_on_several(together: Together) -> None:
    assert together.of("unshared") == [{"exit_code": 2, "losses": []}] * 2
    told = "trainer: kind: 'policy' does not share batches among ranks, expected one process, got 2"
    assert together.notes.stderr.count(told) == 1


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_all_ranks(together: Together) -> None:
    assert [rank["exit_code"] for rank in together.of("diverged")] == [1, 1]
    assert together.notes.stderr.count("optimizer step 6: loss nan") == 1
    assert [len(rank["losses"]) for rank in together.of("diverged")] == [5, 5]


@pytest.mark.slow
def test_a_killed_rank_ends_the_other_with_its_name(together: Together) -> None:
    assert together.notes.returncode == 1
    assert "trainer: rank 0 of 2: rank 1 is dead or hangs" in together.notes.stderr
    assert [rank["exit_code"] for rank in together.of("killed")] == [1]
    assert len(together.of("killed")[0]["losses"]) == 5


@pytest.mark.slow
def test_torchrun_that_is_told_to_end_has_its_ranks_save(
    language: LanguageTrainConfig, tmp_path: Path
) -> None:
    """As by a cluster that takes its node away; a resume has the bits of a run never stopped."""
    torchrun([run(language, tmp_path / "run", "end_torchrun", step=6)], tmp_path)
    states = tmp_path / "run" / "training_state"
    assert [path.name for path in states.iterdir()] == ["step_000006"]
    plan = [run(language, tmp_path / "run"), run(language, tmp_path / "whole")]
    for stopped, resumed, whole in torchrun(plan, tmp_path).by_rank:
        assert [each["exit_code"] for each in (stopped, resumed, whole)] == [130, 0, 0]
        assert stopped["losses"] + resumed["losses"] == whole["losses"]
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def begin_two(config: RunConfig, output: Path) -> subprocess.Popen[str]:
    """`trainer train --num-processes 2`, whose progress is read from its stderr."""
    file = output.with_suffix(".json")
    file.write_text(config_to_json(config))
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "trainer.command_line", "train", str(file)),
            *("--output", str(output), "--num-processes", "2"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(stream: IO[str], words: str) -> None:
    assert any(words in line for line in stream), f"it ended without {words!r}"


@pytest.mark.slow
def test_processes_that_the_trainer_begins_learn_what_torchruns_do(
    together: Together, language: LanguageTrainConfig, tmp_path: Path
) -> None:
    with begin_two(language, tmp_path / "run") as process:
        told, said = process.communicate()
    assert process.returncode == 0, said
    assert told.splitlines() == [str(tmp_path / "run" / "checkpoints" / "final")]
    assert "2 ranks, 1 threads" in said
    assert weights(tmp_path / "run") == weights(together.folder / "language")


@pytest.fixture
def endless(language: LanguageTrainConfig) -> LanguageTrainConfig:
    """With a line to be read at each step."""
    return replace(language, num_steps=1_000_000, validation_every=1)


@pytest.mark.slow
def test_processes_that_are_interrupted_save(endless: LanguageTrainConfig, tmp_path: Path) -> None:
    with begin_two(endless, tmp_path / "run") as process:
        assert process.stderr is not None
        read_until(process.stderr, "step 3/1000000")
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert rest.count("trainer: ") == 1
    (state,) = (tmp_path / "run" / "training_state").iterdir()
    (step,) = re.findall(r"stopped after optimizer step (\d+) of", rest)
    assert state.name == f"step_{int(step):06d}"


@pytest.mark.slow
def test_ranks_end_with_the_trainer_that_began_them(
    endless: LanguageTrainConfig, tmp_path: Path
) -> None:
    with begin_two(endless, tmp_path / "run") as process:
        assert process.stderr is not None
        read_until(process.stderr, "step 3/1000000")
        process.kill()
        # Its end comes when both ranks, who write to it too, have ended.
        rest = process.stderr.read()
    assert "trainer: rank " in rest


@pytest.mark.slow
def test_a_slow_rank_is_named(language: LanguageTrainConfig, tmp_path: Path) -> None:
    """It prepares its batches beside the others' steps, and they wait for it all the same."""
    plan = [run(language, tmp_path / "run", "dawdle", step=1)]
    notes = torchrun(plan, tmp_path)
    assert [rank[0]["exit_code"] for rank in notes.by_rank] == [0, 0]
    told = re.findall(r"step (\d+)/10: .*rank 1 slow: .* s a step by itself, ", notes.stderr)
    assert told == ["5", "10"]
    assert "rank 0 slow" not in notes.stderr
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    named = [(each.step, each.value) for each in events.Scalars("train/slowest_rank")]
    assert named == [(5, 1), (10, 1)]
    slower = events.Scalars("train/slowest_rank_times_the_median")
    assert all(each.value > 1.5 for each in slower)


@pytest.mark.slow
def test_a_hung_rank_ends_the_other_within_the_timeout(
    language: LanguageTrainConfig, tmp_path: Path
) -> None:
    # torchrun waits half a minute for the one that is stopped. On a busy machine ranks begin
    # seconds apart, and that must not count as hanging.
    plan = [run(language, tmp_path / "run", "SIGSTOP", step=5)]
    hung = torchrun(plan, tmp_path, ASSAY_STEP_TIMEOUT_S="25", ASSAY_WAIT_TIMEOUT_S="25")
    assert "trainer: rank 0 of 2: rank 1 is dead or hangs" in hung.stderr

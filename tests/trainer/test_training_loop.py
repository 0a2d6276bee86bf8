"""Training: it learns, it resumes bit by bit, and it says no in time."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from policy_interface.contract import RIGHT_ARM
from policy_interface.demonstration import (
    Demonstration,
    MotionTrack,
    demonstration_path,
    save_demonstration,
)
from policy_interface.types import CameraView, Observation, Pose, RobotState
from tests.trainer.steps import call_after_step
from trainer import run_directory
from trainer.checkpoint import read_checkpoint
from trainer.configuration_json import config_from_json
from trainer.data.configuration import AugmentationConfig, LoaderConfig
from trainer.data.errors import DataError
from trainer.data.verbs.convert import main as convert
from trainer.learner import TrainingDivergedError, ema_decay_at, learning_rate_at
from trainer.models.configuration import VisionConfig
from trainer.policy_configuration import ServingConfig, TrainConfig
from trainer.policy_loading import load_policy
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunDirectory, RunError, TrainingState
from trainer.training_configuration import EmaConfig, OptimizerConfig
from trainer.training_loop import TrainingInterruptedError, train


@pytest.fixture(scope="module")
def finished(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run of 12 steps."""
    output = tmp_path_factory.mktemp("finished") / "run"
    train(tiny_config, output)
    return output


def assert_same_weights(first: Path, second: Path) -> None:
    one, other = read_checkpoint(first).weights, read_checkpoint(second).weights
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_a_run_leaves_what_it_promises(finished: Path, tiny_config: TrainConfig) -> None:
    checkpoints = finished / "checkpoints"
    assert sorted(p.name for p in checkpoints.iterdir()) == ["final", "step_000004", "step_000012"]
    assert (checkpoints / "final").readlink() == Path("step_000012")
    assert config_from_json((finished / "config.json").read_text()) == tiny_config
    assert [p.name for p in (finished / "training_state").iterdir()] == ["step_000012"]
    scalars = EventAccumulator(str(finished / "tensorboard")).Reload()
    assert set(scalars.Tags()["scalars"]) >= {
        "train/loss",
        "train/gradient_norm",
        "train/learning_rate",
        "train/samples_per_s",
        "validation/position_mm",
        "validation/rotation_deg",
        "validation/gripper_mm",
    }


def test_ctrl_c_and_a_resume_give_the_same_bits(
    finished: Path, tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    with monkeypatch.context() as patched:
        call_after_step(patched, 7, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(TrainingInterruptedError, match="step 7 of 12"):
            train(tiny_config, output)
    assert not (output / "checkpoints" / "final").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    train(tiny_config, output)
    assert_same_weights(output / "checkpoints" / "final", finished / "checkpoints" / "final")
    assert_same_weights(
        output / "checkpoints" / "step_000004", finished / "checkpoints" / "step_000004"
    )


def test_a_killed_run_goes_on_from_its_last_save_with_the_same_bits(
    finished: Path, tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    output = tmp_path / "run"
    # Beyond the checkpoint of step 4, which will be written again, and before the save of step 8.
    config = replace(tiny_config, checkpoint_steps=(4, 6), save_state_every=5)
    with monkeypatch.context() as patched:
        call_after_step(patched, 7, die)
        with pytest.raises(Killed):
            train(config, output)
    leftover = output / "training_state" / ".step_000007.x.partial"
    leftover.mkdir()
    train(config, output)
    assert not leftover.exists()
    assert_same_weights(output / "checkpoints" / "final", finished / "checkpoints" / "final")


def test_a_save_that_fails_costs_what_was_done_since_the_one_before(
    finished: Path, tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(tiny_config, save_state_every=4)
    write_whole = run_directory.write_whole

    def write_half(tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
        if "step_000008" in folder.name:
            (folder / "state.safetensors").write_bytes(b"half")
            raise OSError("no space left on device")
        write_whole(tensors, folder)

    with monkeypatch.context() as patched:
        patched.setattr(run_directory, "write_whole", write_half)
        # At the save after it, when it has been copied and is being written.
        with pytest.raises(OSError, match="no space left"):
            train(config, tmp_path)
    states = tmp_path / "training_state"
    assert [path.name for path in states.iterdir()] == ["step_000004"]
    train(config, tmp_path)
    assert_same_weights(tmp_path / "checkpoints" / "final", finished / "checkpoints" / "final")


def test_a_state_of_which_a_file_is_lost_is_an_error(tmp_path: Path) -> None:
    run = RunDirectory(root=tmp_path)
    tensors = {"step": torch.tensor(3)}
    run.save_state(TrainingState(step=3, data_digest="", training_s=0.0, tensors=tensors))
    state = run.load_state()
    assert state is not None
    assert state.tensors == tensors
    facts = tmp_path / "training_state/step_000003/state.json"
    facts.write_text(facts.read_text().replace('"state.safetensors"', '"part_of_another_rank"'))
    with pytest.raises(RunError, match="part_of_another_rank: expected .* bytes, got 0"):
        run.load_state()


def test_the_stored_configuration_gives_the_same_run(finished: Path, tmp_path: Path) -> None:
    train(config_from_json((finished / "config.json").read_text()), tmp_path / "run")
    assert_same_weights(
        tmp_path / "run" / "checkpoints" / "final", finished / "checkpoints" / "final"
    )


@pytest.mark.slow
def test_decoding_as_one_goes_changes_no_bit(
    finished: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    streamed = replace(tiny_config, loader=LoaderConfig(cache_gib=0, num_workers=2))
    final = train(streamed, tmp_path / "run")
    assert_same_weights(final, finished / "checkpoints" / "final")


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_workers(
    finished: Path, tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        call_after_step(patched, 7, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(TrainingInterruptedError, match="step 7 of 12"):
            train(
                replace(tiny_config, loader=LoaderConfig(cache_gib=0, num_workers=3)),
                tmp_path / "run",
            )
    final = train(
        replace(tiny_config, loader=LoaderConfig(cache_gib=0, num_workers=1)), tmp_path / "run"
    )
    assert_same_weights(final, finished / "checkpoints" / "final")


def test_a_data_set_of_the_training_format_gives_the_same_policy(
    finished: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    assert convert([tiny_config.data, str(tmp_path / "native")]) == 0
    final = train(replace(tiny_config, data=str(tmp_path / "native")), tmp_path / "run")
    one = read_checkpoint(final)
    other = read_checkpoint(finished / "checkpoints" / "final")
    assert one.contract == other.contract
    assert one.transform.to_json() == other.transform.to_json()
    assert one.provenance["demonstration_seeds"] == other.provenance["demonstration_seeds"]


@pytest.mark.slow
def test_threads_change_rounding_and_nothing_else(tiny_config: TrainConfig, tmp_path: Path) -> None:
    # Eleven windows are cut unevenly in three, and so are their valid steps.
    config = replace(tiny_config, num_threads=3, batch_size=11, num_steps=4, checkpoint_steps=())
    first, again = train(config, tmp_path / "first"), train(config, tmp_path / "again")
    assert_same_weights(first, again)
    alone = read_checkpoint(train(replace(config, num_threads=1), tmp_path / "alone")).weights
    for name, tensor in read_checkpoint(first).weights.items():
        torch.testing.assert_close(tensor, alone[name], atol=2e-4, rtol=1e-3)


def test_another_seed_gives_another_run(
    finished: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    train(replace(tiny_config, seed=1), tmp_path / "run")
    other = read_checkpoint(tmp_path / "run" / "checkpoints" / "final").weights
    for name, tensor in read_checkpoint(finished / "checkpoints" / "final").weights.items():
        if tensor.ndim >= 2:
            assert not torch.equal(tensor, other[name]), name


def test_a_finished_run_returns_at_once(
    finished: Path, tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("a finished run has no need of its data")

    monkeypatch.setattr("trainer.stages.policy.read_recordings", load)
    assert train(tiny_config, finished) == finished / "checkpoints" / "final"


def test_another_configuration_is_refused_with_the_differences(
    finished: Path, tiny_config: TrainConfig
) -> None:
    other = replace(tiny_config, seed=5, optimizer=replace(tiny_config.optimizer, beta1=0.5))
    with pytest.raises(RunError, match=r"seed: 0, now 5 \(.*\); optimizer\.beta1: 0\.9, now 0\.5"):
        train(other, finished)


def test_a_folder_that_is_no_run_is_left_alone(tiny_config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="neither empty nor a run"):
        train(tiny_config, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_processes_do_not_train_in_one_folder(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    def begin_another() -> None:
        with pytest.raises(RunError, match="another process trains in it") as caught:
            train(tiny_config, tmp_path / "run")
        refused.append(str(caught.value))

    call_after_step(monkeypatch, 3, begin_another)
    train(tiny_config, tmp_path / "run")
    assert len(refused) == 1


def test_a_run_that_was_killed_as_it_began_begins_again(
    tiny_config: TrainConfig, tmp_path: Path
) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.json.0123.partial").write_text("{")
    train(tiny_config, tmp_path)
    assert not list(tmp_path.glob("*.partial"))


def test_the_newest_state_is_the_one_of_most_steps(tmp_path: Path) -> None:
    run = RunDirectory(root=tmp_path)
    for step in (999_999, 1_000_000):
        tensors = {"step": torch.tensor(step)}
        state = TrainingState(step=step, data_digest="", training_s=0.0, tensors=tensors)
        other = RunDirectory(root=tmp_path / str(step))
        other.save_state(state)
        # As a process leaves it that is killed before it removes the older one.
        shutil.copytree(
            other.root / "training_state", tmp_path / "training_state", dirs_exist_ok=True
        )
    newest = run.load_state()
    assert newest is not None
    assert newest.step == 1_000_000


def test_other_data_under_the_same_name_is_refused(
    tiny_config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_demonstration: Callable[..., Demonstration],
) -> None:
    data = shutil.copytree(tiny_config.data, tmp_path / "data")
    config = replace(tiny_config, data=str(data))
    with monkeypatch.context() as patched:
        call_after_step(patched, 3, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(TrainingInterruptedError):
            train(config, tmp_path / "run")
    save_demonstration(make_demonstration(50), demonstration_path(data, 3))
    with pytest.raises(RunError, match="not those that the run began with"):
        train(config, tmp_path / "run")
    # Moved, however, they are the same.
    final = train(tiny_config, tmp_path / "run")
    assert read_checkpoint(final).provenance["optimizer_step"] == 12


def test_it_says_where_fewer_episodes_are_held_out_than_asked_for(
    tiny_config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = replace(tiny_config, num_steps=1, checkpoint_steps=())
    train(replace(short, validation_episodes=6), tmp_path / "six")
    assert (
        "training on 8 of 10 episodes (140 frames, 2 cameras; 2 held out, not the 6 of "
        "--validation-episodes: at most a fifth), " in capsys.readouterr().err
    )
    train(short, tmp_path / "two")
    assert "training on 8 of 10 episodes (140 frames, 2 cameras), " in capsys.readouterr().err


def test_bad_data_leaves_no_run_behind(tiny_config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        train(replace(tiny_config, data=str(tmp_path / "nowhere")), tmp_path / "run")
    with pytest.raises(ConfigurationError, match="camera 'x' missing"):
        train(replace(tiny_config, cameras=("x",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_damaged_state_is_an_error_and_no_fresh_start(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        call_after_step(patched, 3, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(TrainingInterruptedError):
            train(tiny_config, tmp_path / "run")
    tensors = tmp_path / "run" / "training_state" / "step_000003" / "state.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:1000])
    with pytest.raises(RunError, match="damaged training state"):
        train(tiny_config, tmp_path / "run")


def test_divergence_stops_the_run_and_names_the_step(
    tiny_config: TrainConfig, tmp_path: Path
) -> None:
    wild = replace(
        tiny_config,
        num_steps=200,
        optimizer=OptimizerConfig(learning_rate=1e30, warmup_steps=0, max_gradient_norm=1e30),
    )
    with pytest.raises(TrainingDivergedError, match=r"optimizer step \d+: loss"):
        train(wild, tmp_path / "run")


@pytest.mark.slow
def test_a_policy_learns_where_to_go(
    tiny_config: TrainConfig, tmp_path: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for index in range(80):
        save_demonstration(make_demonstration(index, num_steps=4), demonstration_path(data, index))
    config = replace(
        tiny_config,
        data=str(data),
        cameras=("wrist",),
        chunk_length=4,
        num_steps=200,
        checkpoint_steps=(),
        batch_size=32,
        save_state_every=200,
        validation_every=200,
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=10),
        serving=ServingConfig(open_loop_steps=4),
        # A shift of these few pixels would hide where the square is.
        augmentation=AugmentationConfig(shift_pixels=0),
        model=replace(
            tiny_config.model, vision=VisionConfig(stem_channels=16, channels=32, pooled_size=2)
        ),
    )
    policy = load_policy(train(config, tmp_path / "run"))
    # Never seen in training, and the first image alone tells where the episode will end.
    unseen = [make_demonstration(index, num_steps=4) for index in range(100, 140)]
    requests = [[first_observation(demonstration)] for demonstration in unseen]
    plans = policy.plan(requests, list(range(len(unseen))))
    reached = np.array([plan[-1].poses[RIGHT_ARM].translation_m[:2] for plan in plans])
    goals = np.array([d.action.poses[RIGHT_ARM][-1, :2, 3] for d in unseen])
    blind_error_m = np.linalg.norm(goals - goals.mean(0), axis=1).mean()
    error_m = np.linalg.norm(reached - goals, axis=1).mean()
    assert error_m < 0.5 * blind_error_m


def first_observation(demonstration: Demonstration) -> Observation:
    def state(track: MotionTrack) -> RobotState:
        return RobotState(
            poses={arm: Pose.from_matrix(poses[0]) for arm, poses in track.poses.items()},
            gripper_widths_m={name: widths[0] for name, widths in track.gripper_widths_m.items()},
        )

    return Observation(
        actual=state(demonstration.actual),
        desired=state(demonstration.desired),
        cameras={
            name: CameraView(
                rgb=track.rgb[0],
                intrinsics=track.intrinsics,
                X_TC=Pose.from_matrix(track.X_TC[0]),
            )
            for name, track in demonstration.cameras.items()
        },
    )


def test_bfloat16_trains_float32_weights(tiny_config: TrainConfig, tmp_path: Path) -> None:
    final = train(
        replace(tiny_config, precision="bfloat16", num_steps=3, checkpoint_steps=()),
        tmp_path / "run",
    )
    state = tmp_path / "run" / "training_state" / "step_000003" / "state.safetensors"
    tensors = safetensors.torch.load_file(state)
    assert any(name.startswith("optimizer/") for name in tensors)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert all(t.dtype == torch.float32 for t in read_checkpoint(final).weights.values())


def test_the_learning_rate_rises_then_falls() -> None:
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=10, final_learning_rate_fraction=0.1)
    rates = [learning_rate_at(step, 100, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.55)
    assert 0.1 <= rates[-1] < 0.101


def test_early_averages_forget_the_first_weights() -> None:
    # The weight of the random initial weights in the average after 30 steps.
    remaining = 1.0
    for step in range(1, 31):
        remaining *= ema_decay_at(step, EmaConfig())
    assert remaining < 1e-3
    assert ema_decay_at(10**6, EmaConfig(max_decay=0.998)) == 0.998

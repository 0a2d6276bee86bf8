"""Training on two processes: the same learning as on one, stopped, resumed and killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.configuration import ConfigurationError, OptimizerConfig, TrainConfig
from trainer.configuration_json import config_to_json
from trainer.distributed import joined_world
from trainer.language_configuration import LanguageTrainConfig
from trainer.learner import Learner
from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.models.vision.configuration import VisionTransformerConfig
from trainer.recipes import tiny_vla
from trainer.run_configuration import RunConfig
from trainer.training_loop import train
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig
from trainer.vision_language_configuration import VisionLanguageShape, VisionLanguageTrainConfig

_WORKER = Path(__file__).with_name("rank_at_work.py")


def run(config: RunConfig, output: Path, act: str = "", step: int = 0) -> dict[str, Any]:
    """A line of a plan. act: what becomes of rank 1 in a step."""
    file = output.with_suffix(".json")
    file.write_text(config_to_json(config))
    arguments = [str(file), "--output", str(output)]
    return {"arguments": arguments, "act": act, "rank": 1, "step": step}


@dataclass(frozen=True, kw_only=True)
class Notes:
    """returncode: torchrun's. by_rank: of each rank, how each run went."""

    returncode: int
    stderr: str
    by_rank: list[list[dict[str, Any]]]


def torchrun(plan: Sequence[dict[str, Any]], folder: Path, **environment: str) -> Notes:
    path = folder / "plan.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in plan))
    # By c10d a free port is taken; the machine's name need not be known to anyone.
    options = ["--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    options += ["--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    own = {
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "ASSAY_STEP_TIMEOUT_S": "40",
    }
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, str(_WORKER), str(path)],
        env={**os.environ, **own, **environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    notes = [folder / f"notes_{rank}.jsonl" for rank in range(2)]
    return Notes(
        returncode=done.returncode,
        stderr=done.stderr,
        by_rank=[
            [json.loads(line) for line in each.read_text().splitlines()] if each.exists() else []
            for each in notes
        ],
    )


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> LanguageTrainConfig:
    """Documents of unequal length, so that ranks have unequally many labels to learn."""
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    words = ("the mug stands", "a bowl falls on the shelf", "the lid", "turns beside the robot.")
    texts = [" ".join(words[k % 4] for k in range(n, n * (n + 5) // 2)) for n in range(1, 20)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return LanguageTrainConfig(
        data=str(path),
        batch_size=8,
        micro_batch_size=2,
        num_steps=10,
        validation_documents=2,
        validation_every=5,
        sample_tokens=2,
        save_state_every=4,
        device="cpu",
        precision="float32",
        num_threads=1,
        model=LanguageConfig(
            transformer=TransformerConfig(width=32, depth=1, num_heads=2),
            vocabulary_size=300,
            context_length=24,
        ),
        optimizer=OptimizerConfig(warmup_steps=2, learning_rate=5e-3),
    )


@pytest.fixture(scope="module")
def policy(tiny_config: TrainConfig) -> TrainConfig:
    return replace(tiny_config, num_steps=6)


@pytest.fixture(scope="module")
def instructed(tiny_config: TrainConfig) -> VisionLanguageActionTrainConfig:
    return replace(
        tiny_vla(),
        data=tiny_config.data,
        cameras=None,
        chunk_length=8,
        batch_size=4,
        num_steps=3,
        validation_episodes=0,
        device="cpu",
        precision="float32",
        num_threads=1,
    )


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> VisionLanguageTrainConfig:
    """Every third document shows nothing, so that ranks have unequally many pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    lines = []
    for number in range(24):
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        shown = {"image": f"{number}.png", "question": "How bright?", "answer": "grey " * number}
        lines.append(shown if number % 3 else {"text": "A page of words alone. " * number})
    lines = [line for line in lines if line.get("text") != ""]
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return VisionLanguageTrainConfig(
        data=str(folder),
        batch_size=4,
        micro_batch_size=1,
        num_steps=4,
        validation_documents=2,
        validation_every=2,
        sample_tokens=2,
        device="cpu",
        precision="float32",
        num_threads=1,
        model=VisionLanguageShape(
            language=LanguageConfig(
                transformer=TransformerConfig(width=32, depth=1, num_heads=2),
                vocabulary_size=300,
                context_length=48,
            ),
            vision=VisionTransformerConfig(
                width=32,
                depth=1,
                num_heads=2,
                feed_forward_width=64,
                patch_size=8,
                image_size=32,
                shuffle_factor=2,
            ),
            image_size=32,
        ),
        optimizer=OptimizerConfig(warmup_steps=2, learning_rate=5e-3),
    )


def losses_alone(config: RunConfig, output: Path) -> list[float]:
    seen: list[float] = []
    take_step = Learner.step

    def step_and_note(self: Learner, batch, step, generator):
        result = take_step(self, batch, step, generator)
        seen.append(result.loss)
        return result

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Learner, "step", step_and_note)
        train(config, output)
    return seen


@dataclass(frozen=True, kw_only=True)
class Together:
    """What two ranks made of a plan of runs. folder: their outputs."""

    folder: Path
    notes: Notes
    names: Sequence[str]

    def of(self, name: str) -> list[dict[str, Any]]:
        """How each rank fared that lived to tell."""
        number = self.names.index(name)
        return [each[number] for each in self.notes.by_rank if number < len(each)]


@pytest.fixture(scope="module")
def together(
    language: LanguageTrainConfig,
    policy: TrainConfig,
    instructed: VisionLanguageActionTrainConfig,
    seeing: VisionLanguageTrainConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Together:
    """One torchrun for all of them, for it takes seconds to start."""
    folder = tmp_path_factory.mktemp("together")
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
        "diverged": run(language, folder / "diverged", "spoil", step=6),
        "drifting": run(language, folder / "drifting", "drift", step=6),
        # The last one, for it ends them both.
        "killed": run(language, folder / "killed", "SIGKILL", step=5),
    }
    notes = torchrun(list(plan.values()), folder)
    assert [len(each) for each in notes.by_rank] == [len(plan), len(plan) - 1], notes.stderr
    return Together(folder=folder, notes=notes, names=list(plan))


def weights(output: Path) -> bytes:
    return (output / "checkpoints" / "final" / "model.safetensors").read_bytes()


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


def test_two_ranks_give_the_same_bits_again(together: Together) -> None:
    assert together.of("again") == together.of("language")
    assert weights(together.folder / "again") == weights(together.folder / "language")


def test_a_signal_to_one_rank_stops_both_and_a_resume_gives_the_same_bits(
    together: Together,
) -> None:
    stopped, resumed = together.of("stopped"), together.of("resumed")
    assert [rank["exit_code"] for rank in stopped] == [130, 130]
    # Of two runs that are stopped so.
    assert together.notes.stderr.count("stopped after optimizer step 6 of 10") == 2
    whole = together.of("language")[0]["losses"]
    for before, after in zip(stopped, resumed, strict=True):
        assert before["losses"] + after["losses"] == whole
    assert weights(together.folder / "stopped") == weights(together.folder / "language")


def test_a_run_goes_on_with_another_number_of_ranks(
    together: Together, language: LanguageTrainConfig
) -> None:
    rest = losses_alone(language, together.folder / "moved")
    whole = together.of("language")[0]["losses"]
    assert together.of("moved")[0]["losses"] + rest == pytest.approx(whole, abs=1e-5, rel=0)


def test_ranks_whose_weights_differ_do_not_save(together: Together) -> None:
    assert [rank["exit_code"] for rank in together.of("drifting")] == [1, 1]
    assert together.notes.stderr.count("the weights of the 2 ranks differ") == 1
    saved = [path.name for path in (together.folder / "drifting" / "training_state").iterdir()]
    assert saved == ["step_000004"]


def test_a_batch_that_ranks_cannot_share_is_refused_before_anything_is_written(
    together: Together,
) -> None:
    for name in ("indivisible", "parts"):
        assert [rank["exit_code"] for rank in together.of(name)] == [2, 2]
        assert not (together.folder / name).exists()
    # Once, though both ranks are ended by it.
    told = together.notes.stderr.count
    assert told("batch_size: expected a multiple of 2 for 2 ranks, got 11") == 1
    assert told("a multiple of 16 for 2 ranks of 8 sequences at once, got 8") == 1


def test_a_stage_that_knows_no_ranks_is_refused_on_several(together: Together) -> None:
    assert together.of("unshared") == [{"exit_code": 2, "losses": []}] * 2
    told = "trainer: kind: 'policy' does not share batches among ranks, expected one process, got 2"
    assert together.notes.stderr.count(told) == 1


def test_a_loss_that_is_no_number_stops_all_ranks(together: Together) -> None:
    assert [rank["exit_code"] for rank in together.of("diverged")] == [1, 1]
    assert together.notes.stderr.count("optimizer step 6: loss nan") == 1
    assert [len(rank["losses"]) for rank in together.of("diverged")] == [5, 5]


def test_a_killed_rank_ends_the_other_with_its_name(together: Together) -> None:
    assert together.notes.returncode == 1
    assert "trainer: rank 0 of 2: rank 1 is dead or hangs" in together.notes.stderr
    assert [rank["exit_code"] for rank in together.of("killed")] == [1]
    assert len(together.of("killed")[0]["losses"]) == 5


@pytest.mark.slow
def test_a_hung_rank_ends_the_other_within_the_timeout(
    language: LanguageTrainConfig, tmp_path: Path
) -> None:
    # torchrun waits half a minute for the one that is stopped.
    plan = [run(language, tmp_path / "run", "SIGSTOP", step=5)]
    hung = torchrun(plan, tmp_path, ASSAY_STEP_TIMEOUT_S="5", ASSAY_WAIT_TIMEOUT_S="5")
    assert "trainer: rank 0 of 2: rank 1 is dead or hangs" in hung.stderr

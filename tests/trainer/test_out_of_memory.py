"""Memory that runs out is told in a line that names the remedy, and costs nothing saved."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trainer.co_training_configuration import AlsoConfig
from trainer.command_line import main
from trainer.out_of_memory import MemoryWatch, TrainingOutOfMemoryError
from trainer.policy_configuration import TrainConfig
from trainer.run_directory import RunDirectory, TrainingState
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig

# As a GPU's allocator says it.
_SAID_BY_A_GPU = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79 GiB"
)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Of a language model of which a step takes some megabytes."""
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": "the lid turns " * 99}) + "\n" for _ in range(9)))
    options = {
        "data": path,
        "output": tmp_path / "run",
        "num-steps": 6,
        "batch-size": 64,
        "micro-batch-size": 32,
        "save-state-every": 3,
        "validation-documents": 0,
        "device": "cpu",
        "precision": "float32",
        "num-threads": 1,
        "sample-tokens": 1,
        "model.vocabulary-size": 270,
        "model.context-length": 128,
        "model.transformer.width": 64,
        "model.transformer.depth": 1,
    }
    return [
        *("train", "tiny_lm"),
        *(word for name, value in options.items() for word in (f"--{name}", str(value))),
    ]


@pytest.mark.slow
def test_a_step_without_memory_says_what_needs_less_and_the_run_goes_on_from_its_save(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    program = [sys.executable, "-m", "tests.trainer.exhausted", str(run), "4", "3", *words]
    ended = subprocess.run(program, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    told = ended.stderr.splitlines()[-1]
    assert told.startswith("trainer: cpu: out of memory in optimizer step 5 (")
    assert (
        f"what was saved is whole, in {run} up to step 3; less is needed, and the run goes on, "
        in told
    )
    assert told.endswith(
        "with --micro-batch-size 16, --checkpoint-activations, --precision bfloat16"
    )
    assert "Traceback" not in ended.stderr
    assert main([*words, "--micro-batch-size", "16", "--checkpoint-activations"]) == 0
    told = capsys.readouterr().err
    assert "from optimizer step 4 on: micro_batch_size 16 in place of 32, checkpoint_" in told
    assert "6 steps, resumed at 3" in told


def test_a_model_for_which_there_is_no_memory_at_all_says_so(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--model.transformer.feed-forward-width", str(2**42)]) == 1
    told = capsys.readouterr().err
    assert "trainer: cpu: out of memory before the first optimizer step (2,048 TiB asked" in told
    assert (
        "; nothing was saved yet; less is needed, in another --output, with a smaller model\n"
        in told
    )
    assert "Traceback" not in told


def test_what_a_model_cannot_remember_of_what_it_says(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main([*words, "--num-steps", "1"]) == 0
    asked = ["sample", str(tmp_path / "run" / "checkpoints" / "final"), "the lid"]
    capsys.readouterr()
    assert main([*asked, "--max-new-tokens", str(2**44)]) == 1
    assert capsys.readouterr().err == (
        "trainer: cpu: out of memory (16 TiB asked for); less is needed with a shorter prompt, "
        "fewer --max-new-tokens\n"
    )

    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError(_SAID_BY_A_GPU)

    # Not that there is no such device.
    monkeypatch.setattr(torch.nn.Module, "to", refuse)
    assert main([*asked, "--device", "cuda:0"]) == 1
    assert capsys.readouterr().err == (
        "trainer: cuda:0: out of memory (2.50 GiB asked for); less is needed with a shorter "
        "prompt, fewer --max-new-tokens, --device cpu\n"
    )


def test_a_batch_of_a_policy_for_which_there_is_no_memory(
    tiny_config: TrainConfig, tmp_path: Path
) -> None:
    watch = MemoryWatch(tiny_config, RunDirectory(root=tmp_path))
    watch.in_step(1)
    with (
        pytest.raises(
            TrainingOutOfMemoryError,
            match=r"goes on, with --micro-batch-size 6, --checkpoint-activations, "
            r"--precision bfloat16, --loader\.cache-gib 0$",
        ),
        watch,
    ):
        torch.empty(2**50)


def test_what_a_gpu_lacks_no_loader_can_give_it(tiny_config: TrainConfig, tmp_path: Path) -> None:
    config = replace(tiny_config, device="cuda:0", precision="bfloat16", micro_batch_size=4)
    watch = MemoryWatch(config, RunDirectory(root=tmp_path))
    watch.in_step(1)
    with (
        pytest.raises(
            TrainingOutOfMemoryError,
            match=r"^cuda:0: out of memory in optimizer step 1 \(2\.50 GiB asked for\); nothing "
            r"was saved yet; less is needed, and the run goes on, with --micro-batch-size 3, "
            r"--checkpoint-activations$",
        ),
        watch,
    ):
        raise torch.OutOfMemoryError(_SAID_BY_A_GPU)


@pytest.mark.parametrize(
    ("sizes", "at_once", "num_ranks", "remedy"),
    [
        ((8, 4), None, 1, "--also.micro-batch-size 4, "),
        ((4, 4), None, 1, "--also.micro-batch-size 2, "),
        ((8, 4), 2, 1, "--also.micro-batch-size 1, "),
        ((8, 4), None, 2, "--also.micro-batch-size 2, "),
        ((8, 4), 1, 1, ""),
        # One rank has two sequences of three, the other one.
        ((3, 4), None, 2, ""),
    ],
)
def test_of_what_is_also_learnt_fewer_at_once_are_a_remedy(
    sizes: tuple[int, int], at_once: int | None, num_ranks: int, remedy: str, tmp_path: Path
) -> None:
    data = tuple(f"{name}=1:{size}" for name, size in zip("ab", sizes, strict=True))
    config = VisionLanguageActionTrainConfig(
        num_steps=1,
        batch_size=num_ranks,
        device="cpu",
        precision="bfloat16",
        also=AlsoConfig(data=data, micro_batch_size=at_once),
    )
    watch = MemoryWatch(config, RunDirectory(root=tmp_path))
    watch.in_step(1)
    watch.num_ranks = num_ranks
    with pytest.raises(TrainingOutOfMemoryError, match=f"with {remedy}--checkpoint-act"), watch:
        raise MemoryError


def test_a_state_that_does_not_fit_in_memory_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(root=tmp_path)
    tensors = {"step": torch.tensor(3)}
    run.save_state(TrainingState(step=3, data_digest="", training_s=0.0, tensors=tensors))

    def read(*_: object) -> dict[str, torch.Tensor]:
        return {"step": torch.empty(2**50)}

    monkeypatch.setattr("trainer.run_directory.read_tensors", read)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        run.load_state()

"""A disk that has no room for a training is told in a line, and the training goes on later.

A limit on the size of files stands for the disk: it needs no root, and libraries meet it alike.
"""

from __future__ import annotations

import errno
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from trainer.command_line import main
from trainer.metric_sinks import MetricSinks
from trainer.policy_configuration import TrainConfig
from trainer.run_directory import RunDirectory
from trainer.tensor_file import write_tensors


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_tensors_without_room_are_an_error_of_the_system(tmp_path: Path) -> None:
    with (
        largest_file(1000),
        pytest.raises(OSError, match=r"File too large: .*tensors") as raised,
    ):
        write_tensors({"a": torch.zeros(1000)}, tmp_path / "tensors")
    assert raised.value.errno == errno.EFBIG


def test_numbers_without_room_are_an_error_and_a_line(
    tiny_config: TrainConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hook = threading.excepthook
    with (
        pytest.raises(OSError, match="File too large"),
        MetricSinks(tiny_config, RunDirectory(root=tmp_path), 1) as sinks,
        largest_file(500),
    ):
        sinks.add_late_scalars({1000 * "a": 1.0}, 1, 1)
    assert capfd.readouterr().err == "TensorBoard's file: [Errno 27] File too large\n"
    assert threading.excepthook is hook


@pytest.mark.parametrize(
    ("most_bytes", "written"),
    [
        # A checkpoint's weights; the state of the training.
        (300_000, []),
        (1_500_000, ["step_000002"]),
    ],
)
def test_a_training_without_room_says_so_in_a_line_and_goes_on_later(
    demonstration_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    most_bytes: int,
    written: list[str],
) -> None:
    run = tmp_path / "run"
    words = ["train", "smoke", "--data", str(demonstration_folder), "--output", str(run)]
    words += ["--num-steps", "2", "--checkpoint-steps", "2", "--save-state-every", "2"]
    words += ["--batch-size", "4"]
    with largest_file(most_bytes):
        assert main(words) == 1
    told = capsys.readouterr().err
    assert f"trainer: {run}: File too large; what was saved before is whole" in told
    assert "Traceback" not in told
    folders = [*(run / "checkpoints").glob("*"), *(run / "training_state").glob("*")]
    assert [folder.name for folder in folders] == written
    assert main(words) == 0

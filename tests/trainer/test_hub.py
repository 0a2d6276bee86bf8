"""What lies on the hub is read from there by its name: the command itself, through Hugging Face's
own client, against a hub on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.trainer.hub import hub
from tests.trainer.importing.test_foundry import release
from trainer.importing.verb import run_import

LEROBOT = Path(__file__).parent / "data" / "fixtures" / "lerobot" / "v3.0-video"

Trainer = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    """Runs `trainer` with a hub that has lab/policy and datasets/lab/box."""
    release("policy_own_older", tmp_path / "hub" / "models" / "lab" / "policy")
    shutil.copytree(LEROBOT, tmp_path / "hub" / "datasets" / "lab" / "box")
    with hub(tmp_path / "hub") as address:
        # The hub's address is read once, when its client is imported.
        environment = os.environ | {
            "HF_ENDPOINT": address,
            "HF_HOME": str(tmp_path / "hf_home"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        }
        yield lambda *words: subprocess.run(
            [sys.executable, "-m", "trainer.command_line", *map(str, words)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.mark.slow
def test_a_model_is_imported_as_from_its_folder(trainer: Trainer, tmp_path: Path) -> None:
    folder, there, here = tmp_path / "hub/models/lab/policy", tmp_path / "there", tmp_path / "here"
    done = trainer("import", "foundry", "hf://lab/policy", "--output", there)
    assert (done.returncode, done.stderr) == (0, "")
    run_import(["foundry", str(folder), "--output", str(here)])
    for file in ("model.safetensors", "statistics.json"):
        assert (there / file).read_bytes() == (here / file).read_bytes()
    # It notes where it is from.
    config = (there / "config.json").read_text()
    assert config.count("hf://lab/policy") == 1
    assert config.replace("hf://lab/policy", str(folder)) == (here / "config.json").read_text()


def test_a_data_set_is_read_as_from_its_folder(trainer: Trainer) -> None:
    there = trainer("data", "inspect", "hf://datasets/lab/box")
    here = trainer("data", "inspect", LEROBOT)
    assert (there.returncode, there.stderr) == (0, "")
    assert there.stdout.replace("hf://datasets/lab/box", str(LEROBOT)) == here.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("import", "foundry", "hf://lab/nothing", "--output", "ours"),
        ("data", "inspect", "hf://datasets/lab/nothing"),
    ],
)
def test_what_the_hub_lacks_is_one_line(trainer: Trainer, words: tuple[str, ...]) -> None:
    done = trainer(*words)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert "lab/nothing" in line

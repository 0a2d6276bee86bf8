"""A checkpoint is whole or refused; nothing of it is ever half there."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.atomic_directory import atomic_directory, remove_partial_directories
from trainer.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from trainer.policy_configuration import TrainConfig

FILES = (
    "model.safetensors",
    "config.json",
    "normalization.json",
    "contract.json",
    "provenance.json",
    "MANIFEST.json",
)


@pytest.fixture
def copied(trained_checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained_checkpoint, tmp_path / "copy")


def resign(path: Path) -> None:
    """Make the manifest agree with the files again."""
    manifest = json.loads((path / "MANIFEST.json").read_text())
    for name, entry in manifest["files"].items():
        content = (path / name).read_bytes()
        entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (path / "MANIFEST.json").write_text(json.dumps(manifest))


def test_it_holds_these_files_and_no_pickle(trained_checkpoint: Path) -> None:
    assert sorted(p.name for p in trained_checkpoint.iterdir()) == sorted(FILES)
    for path in trained_checkpoint.iterdir():
        with pytest.raises(Exception):  # noqa: B017, PT011 (whatever pickle raises)
            pickle.loads(path.read_bytes())  # noqa: S301


def test_what_is_read_is_what_was_written(trained_checkpoint: Path, tmp_path: Path) -> None:
    first = read_checkpoint(trained_checkpoint)
    digest = write_checkpoint(first, tmp_path / "again")
    second = read_checkpoint(tmp_path / "again")
    assert digest == second.digest == first.digest
    assert second.config == first.config
    assert second.contract == first.contract
    assert second.provenance == first.provenance
    for name, tensor in first.weights.items():
        assert torch.equal(second.weights[name], tensor)


def test_provenance_says_where_it_comes_from(
    trained_checkpoint: Path, tiny_config: TrainConfig
) -> None:
    provenance = read_checkpoint(trained_checkpoint).provenance
    assert provenance["optimizer_step"] == provenance["total_steps"] == 6
    assert provenance["tasks"] == ["ReachTheSquare"]
    assert provenance["num_episodes"] == 10
    assert provenance["num_training_episodes"] == 8
    assert provenance["demonstration_seeds"] == list(range(100, 110))
    assert len(provenance["data_sha256"]) == 64
    assert provenance["seed"] == tiny_config.seed
    assert provenance["versions"]["torch"] == torch.__version__
    assert provenance["held_out_action_error"]["position_mm"] > 0


@pytest.mark.parametrize("weights_format", ["float16", "bfloat16"])
def test_half_precision_halves_the_file(
    trained_checkpoint: Path, tmp_path: Path, weights_format
) -> None:
    full = read_checkpoint(trained_checkpoint)
    half = replace(full, config=replace(full.config, weights_format=weights_format))
    write_checkpoint(half, tmp_path / "half")
    read = read_checkpoint(tmp_path / "half")
    size = (tmp_path / "half" / "model.safetensors").stat().st_size
    assert size < 0.6 * (trained_checkpoint / "model.safetensors").stat().st_size
    for name, parameter in read.build_network().named_parameters():
        assert parameter.dtype == torch.float32
        torch.testing.assert_close(parameter, full.weights[name], rtol=0.01, atol=1e-5)


def test_weights_that_are_not_finite_are_not_written(
    trained_checkpoint: Path, tmp_path: Path
) -> None:
    whole = read_checkpoint(trained_checkpoint)
    # Finite in float32, infinite in float16.
    weights = {name: torch.full_like(t, 1e6) for name, t in whole.weights.items()}
    broken = replace(whole, weights=weights, config=replace(whole.config, weights_format="float16"))
    with pytest.raises(CheckpointError, match="not finite"):
        write_checkpoint(broken, tmp_path / "broken")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(copied)


@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_is_refused(copied: Path, name: str) -> None:
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(copied)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_flipped_byte_is_noticed(
    trained_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([n for n in FILES if n != "MANIFEST.json"]))
    content = bytearray((trained_checkpoint / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    folder = shutil.copytree(trained_checkpoint, tmp_path_factory.mktemp("flipped") / "copy")
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="corrupt"):
        read_checkpoint(folder)


def test_the_digest_names_the_weights(copied: Path) -> None:
    whole = read_checkpoint(copied)
    weights = {name: tensor + 1 for name, tensor in whole.weights.items()}
    shutil.rmtree(copied)
    assert write_checkpoint(replace(whole, weights=weights), copied) != whole.digest


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.json", b"{}", "missing configuration keys"),
        ("config.json", b"\xff\xfe", "decode"),
        ("normalization.json", b"{}", "normalization"),
        ("contract.json", b"[]", "contract"),
        ("provenance.json", b"{", "not a checkpoint"),
        ("provenance.json", b"[1]", "provenance.json: expected an object, got "),
        ("provenance.json", b"[" * 100_000, "recursion"),
        ("config.json", b"[" * 100_000, "recursion"),
        ("normalization.json", b"[" * 100_000, "recursion"),
        ("contract.json", b"[" * 60_000, "recursion"),
        ("model.safetensors", b"junk", "not a checkpoint"),
    ],
)
def test_a_signed_file_that_makes_no_sense_is_refused(copied, name, content, told) -> None:
    (copied / name).write_bytes(content)
    resign(copied)
    with pytest.raises(CheckpointError, match=told):
        read_checkpoint(copied)


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        "[" * 100_000,
        "{}",
        '{"format": "assay.checkpoint/1", "files": {}}',
        '{"format": "assay.checkpoint/1", "files": 3}',
        '{"format": "other/9", "files": {}}',
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(copied: Path, manifest: str) -> None:
    (copied / "MANIFEST.json").write_text(manifest)
    with pytest.raises(CheckpointError, match=r"MANIFEST|expected a checkpoint"):
        read_checkpoint(copied)


def test_foreign_places_are_refused_each_in_one_line(
    tmp_path: Path, trained_checkpoint: Path
) -> None:
    run = trained_checkpoint.parent.parent
    a_file = tmp_path / "file"
    a_file.touch()
    for path, told in [
        (tmp_path / "nowhere", "does not exist"),
        (a_file, "is a file"),
        (tmp_path, "no MANIFEST.json"),
        (run, f"did you mean {run}/checkpoints/final"),
    ]:
        with pytest.raises(CheckpointError, match=told) as raised:
            read_checkpoint(path)
        assert "\n" not in str(raised.value)


def test_loading_is_strict(copied: Path) -> None:
    whole = read_checkpoint(copied)
    fewer = dict(list(whole.weights.items())[1:])
    with pytest.raises(CheckpointError, match="do not fit") as raised:
        replace(whole, weights=fewer).build_network()
    assert "\n" not in str(raised.value)
    with pytest.raises(CheckpointError, match="do not fit"):
        replace(whole, weights={**whole.weights, "extra": torch.zeros(1)}).build_network()


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "target"

    def fail_midway() -> None:
        with atomic_directory(target) as directory:
            (directory / "half").write_text("half")
            assert not target.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_midway()
    assert list(tmp_path.iterdir()) == []
    with atomic_directory(target) as directory:
        (directory / "whole").write_text("whole")
    assert [p.name for p in target.iterdir()] == ["whole"]
    with pytest.raises(FileExistsError), atomic_directory(target):
        pass


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    writing = atomic_directory(tmp_path / "target")
    partial = writing.__enter__()
    (partial / "half").write_text("half")
    remove_partial_directories(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_network_is_made_that_the_weights_do_not_fill(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    config["model"]["flow_head"]["width"] = 2**40
    (copied / "config.json").write_text(json.dumps(config))
    resign(copied)
    with pytest.raises(CheckpointError, match="weights do not fit the configuration"):
        read_checkpoint(copied).build_network()

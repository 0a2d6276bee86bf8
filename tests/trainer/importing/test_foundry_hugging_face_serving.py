"""Policies of VLA Foundry on Hugging Face models plan here what they planned there.

data/foundry_hugging_face_served.json holds numbers and settings alone: configurations, seeds of
random weights and pictures, and what VLA Foundry's own code (commit 515b045) made of them with the
processors of transformers 4.57.3 and torchvision 0.28: the prompt's tokens, the observation, the
chunk. How fields are scaled and poses made absolute is the same on every backbone, and compared in
test_foundry_serving.py.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from policy_interface.types import CameraView, Observation, Pose, RobotState
from policy_server.targets import TargetOptions, resolve
from tests.trainer.importing.releases import change_configuration, drawn_tensors
from trainer.checkpoint import CheckpointError, build_reader, read_checkpoint
from trainer.command_line import main
from trainer.models.chunk_policy import integrate_flow
from trainer.models.model_folder import read_model
from trainer.models.policy_network import images_to_input
from trainer.policy_loading import load_policy

pytest.importorskip("transformers")

POLICIES: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data/foundry_hugging_face_served.json").read_text()
)
ARMS = ("left::panda", "right::panda")
CAMERA, SIZE = "scene_right_0", (40, 30)
# Where its numbers (places, then rotations, then grippers) stand in ours, arm by arm.
ORDER = [0, 1, 2, 9, 10, 11, *range(3, 9), *range(12, 18), 18, 19]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def write_release(name: str, folder: Path) -> tuple[Path, Path]:
    """The policy in VLA Foundry's layout, its weights drawn anew from the seed; and the folder of
    the Hugging Face model, as the hub has it but for weights."""
    policy = POLICIES[name]
    source, backbone = folder / "release", folder / "backbone"
    (source / "checkpoints").mkdir(parents=True)
    backbone.mkdir()
    for file, content in policy["files"].items():
        (source / file).write_text(yaml.safe_dump(content))
    (source / "stats.json").write_text("{}")
    (backbone / "config.json").write_text(json.dumps(policy["hugging_face"]))
    if policy["preprocessor"] is not None:
        content = json.dumps(policy["preprocessor"])
        (backbone / "preprocessor_config.json").write_text(content)
    write_words(name, backbone)
    tensors = drawn_tensors(policy, matrices=0.15, vectors=0.1)
    torch.save({"state_dict": tensors}, source / "checkpoints" / "checkpoint_1.pt")
    return source, backbone


def write_words(name: str, folder: Path) -> None:
    """A byte-level tokenizer with a few words longer than a byte, and the chat template: Qwen's in
    the processor's file."""
    policy = POLICIES[name]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "p"), ("Ġp", "u"), ("u", "t"), (":", "Ġ")]
    vocabulary = {word: i for i, word in enumerate([*letters, *map("".join, merges)])}
    tokenizer: Any = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(policy["special"])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = dict(policy["tokenizer_config"])
    template = policy["template"]
    if name == "qwen3_vl":
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    elif template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def arguments(source: Path, backbone: Path, output: Path) -> list[str]:
    folders = ["--output", str(output), "--backbone", str(backbone), "--tokenizer", str(backbone)]
    size = "x".join(map(str, SIZE))
    return ["import", "foundry", str(source), *folders, "--camera-size", size]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Checkpoints, each imported once."""
    root, done = tmp_path_factory.mktemp("foundry"), {}

    def of(name: str) -> Path:
        if name not in done:
            source, backbone = write_release(name, root / f"{name}_files")
            assert main(arguments(source, backbone, root / name)) == 0
            done[name] = root / name
        return done[name]

    return of


def history(name: str) -> list[Observation]:
    rng = np.random.default_rng(POLICIES[name]["picture_seed"])
    state = RobotState(
        poses={arm: Pose.identity() for arm in ARMS},
        gripper_widths_m={f"{arm}_hand": 0.05 for arm in ARMS},
    )
    return [
        Observation(
            actual=state,
            desired=state,
            cameras={
                CAMERA: CameraView(
                    rgb=rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8),
                    intrinsics=np.eye(3),
                    X_TC=Pose.identity(),
                )
            },
            language_instruction=POLICIES[name]["instruction"],
        )
        for _ in range(2)
    ]


@pytest.mark.parametrize("name", POLICIES)
def test_it_is_told_sees_and_plans_the_same(name: str, imported: Callable[[str], Path]) -> None:
    policy, checkpoint = POLICIES[name], read_checkpoint(imported(name))
    prompts: Any = checkpoint.build_prompts()
    prompt = prompts.encode(policy["instruction"])
    assert prompt[prompt >= 0].tolist() == policy["prompt"]
    network: Any = checkpoint.build_network()
    pictures = build_reader(checkpoint).pictures(history(name))
    images = {
        key: images_to_input(torch.from_numpy(each.copy())[None]) for key, each in pictures.items()
    }

    def ours(numbers: list[float]) -> Tensor:
        found = torch.tensor(numbers).reshape(1, -1, 20)
        return torch.zeros_like(found).index_copy(2, torch.tensor(ORDER), found)

    past, noise = ours(policy["past"]), ours(policy["noise"])
    numbers = torch.cat([past.flatten(1), torch.zeros(1, 40)], dim=1)
    with torch.no_grad():
        scene = network.encode(images, numbers, torch.from_numpy(prompt)[None])
        observation = torch.tensor(policy["observation"]).reshape(1, 1, -1)
        torch.testing.assert_close(scene[1], observation, atol=1e-5, rtol=1e-5)
        head = network.chunk_head
        chunk = integrate_flow(head, head.read(*scene), noise[:, 1:], 10, bound=network.bound)
    torch.testing.assert_close(chunk, ours(policy["chunk"])[:, 1:], atol=1e-5, rtol=1e-5)


def test_the_server_serves_it_in_batches_and_in_real_time(
    imported: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = imported("qwen3_vl")
    policy: Any = resolve(str(path), TargetOptions(max_batch_size=2, guided=True))()
    mine = history("qwen3_vl")
    other = [replace(each, language_instruction="stop") for each in reversed(mine)]
    (alone,) = policy.plan([mine], [7])
    together, different = policy.plan([mine, other], [7, 7])
    for one, two, three in zip(alone, together, different, strict=True):
        for arm in ARMS:
            assert (one.poses[arm].matrix() == two.poses[arm].matrix()).all()
            assert (one.poses[arm].matrix() != three.poses[arm].matrix()).any()
    assert main(["inspect", str(path)]) == 0
    assert "foundry_policy" in capsys.readouterr().out


def test_without_a_tokenizer_it_is_a_model_that_reads_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, backbone = write_release("qwen3_vl", tmp_path)
    words = ["import", "foundry", str(source), "--output", str(tmp_path / "model")]
    assert main([*words, "--backbone", str(backbone)]) == 0
    assert "to be served it lacks the tokenizer (--tokenizer FOLDER)" in capsys.readouterr().out
    network = read_model(tmp_path / "model")
    assert not network.config.backbone.normed_outputs
    assert network.config.backbone.prefix_sees_observation


def _release(change: Callable[[Any], Any]) -> Callable[[Path, Path], None]:
    return lambda source, _: _rewrite(source / "config.yaml", yaml, change)


def _data(**fields: Any) -> Callable[[Path, Path], None]:
    return _release(lambda config: config["data"].update(fields))


def _backbone(file: str, **fields: Any) -> Callable[[Path, Path], None]:
    return lambda _, backbone: _rewrite(backbone / file, json, lambda old: old.update(fields))


def _rewrite(path: Path, kind: Any, change: Callable[[Any], Any]) -> None:
    text = path.read_text()
    fields = yaml.safe_load(text) if kind is yaml else json.loads(text)
    change(fields)
    path.write_text((yaml.safe_dump if kind is yaml else json.dumps)(fields))


def _wider(_: Path, backbone: Path) -> None:
    _rewrite(
        backbone / "config.json",
        json,
        lambda config: config["text_config"].update(intermediate_size=25),
    )


def _finer(source: Path, backbone: Path) -> None:
    """19 patches a side, of which the version here takes two for one."""
    _rewrite(
        backbone / "config.json",
        json,
        lambda config: config["vision_config"].update(image_size=76),
    )
    file = source / "checkpoints" / "checkpoint_1.pt"
    tensors = torch.load(file, weights_only=True)["state_dict"]
    (name,) = (key for key in tensors if "vision_model.embeddings.position" in key)
    tensors[name] = torch.zeros(19 * 19, tensors[name].shape[1])
    torch.save({"state_dict": tensors}, file)


@pytest.mark.parametrize(
    ("name", "match", "change"),
    [
        ("qwen3_vl", "processor: expected that of a Hugging", _data(processor="simple_vlm")),
        ("qwen3_vl", "would resample pictures of 16x16", _data(processor_kwargs={})),
        ("qwen3_vl", "min_pixels: expected nothing", _data(processor_kwargs={"min_pixels": 4})),
        ("paligemma", "would resample", _data(processor_kwargs={"size": {"height": 20}})),
        ("paligemma", "img_num_tokens: expected 16", _data(img_num_tokens=4)),
        ("smolvlm", "processor: expected one of 'simple_vlm'", _data(processor="org/smol")),
        (
            "qwen3_vl",
            "crop: expected squares, got 16x24",
            _data(augmentation={"image": {"crop": {"shape": [32, 16]}}}),
        ),
        (
            "qwen3_vl",
            "image_size: expected a multiple of the 8 pixels",
            _data(augmentation={"image": {"crop": {"shape": [12, 12]}}}),
        ),
        (
            "qwen3_vl",
            "image_mean: expected three numbers",
            _backbone("preprocessor_config.json", image_mean=[0.5]),
        ),
        (
            "qwen3_vl",
            "rescale_factor: expected 1/255",
            _backbone("preprocessor_config.json", rescale_factor=1.0),
        ),
        (
            "qwen3_vl",
            "shows 2 times .*image_pad.* and then the instruction once",
            _backbone("chat_template.json", chat_template="{{ messages[0].role }}"),
        ),
        ("qwen3_vl", "qwen3_vl, qwen2_5_vl", _backbone("config.json", model_type="llava")),
        (
            "paligemma",
            "a PaliGemma on 'gemma', got one on 'gemma2'",
            _backbone("config.json", text_config={"model_type": "gemma2"}),
        ),
        (
            "qwen3_vl",
            "num_vlm_layers_to_use: expected 1 to 3, got 4",
            _release(
                lambda c: c["model"]["vision_language_backbone"].update(num_vlm_layers_to_use=4)
            ),
        ),
        ("qwen3_vl", r"mlp.*expected shape \(25, 16\)", _wider),
        ("smolvlm", "a SmolVLM of 19 x 19 patches", _finer),
    ],
)
def test_what_cannot_be_the_same_is_said_in_one_line(
    name: str,
    match: str,
    change: Callable[[Path, Path], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, backbone = write_release(name, tmp_path)
    change(source, backbone)
    assert main(arguments(source, backbone, tmp_path / "out")) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert re.search(match, told), told
    assert not (tmp_path / "out").exists()


def _overrides(**fields: Any) -> Callable[[Any], None]:
    return lambda model: model["backbone"]["overrides"].update(fields)


@pytest.mark.parametrize(
    ("match", "change"),
    [
        ("model_type: expected one of", lambda m: m["backbone"].update(model_type="nope")),
        ("expected a model_type and its overrides", lambda m: m["backbone"].update(path="/etc")),
        ("no such model's", _overrides(text_config=3)),
        ("no such model's", _overrides(vision_config={"patch_size": 0})),
        ("image_std: expected no 0", lambda m: m.update(image_std=[1, 0, 1])),
        ("image_token: expected 264", lambda m: m.update(image_token=2)),
        ("weights do not fit", lambda m: m["expert"].update(num_layers=2)),
    ],
)
def test_a_strangers_checkpoint_does_no_harm(
    match: str,
    change: Callable[[Any], None],
    imported: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(imported("qwen3_vl"), tmp_path / "copy")
    change_configuration(folder, lambda config: change(config["model"]))
    with pytest.raises(CheckpointError, match=match):
        load_policy(folder)


def test_the_folder_of_the_model_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, backbone = write_release("qwen3_vl", tmp_path)
    words = ["import", "foundry", str(source), "--output", str(tmp_path / "out")]
    assert main(words) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert "stands on 'org/qwen3_vl' of Hugging Face: give that model's folder" in told
    _rewrite(
        source / "config.yaml",
        yaml,
        lambda config: config["model"]["vision_language_backbone"].update(type="vit_backbone"),
    )
    assert main([*words, "--backbone", str(backbone)]) == 2
    assert "--backbone: of policies on a Hugging Face" in capsys.readouterr().err

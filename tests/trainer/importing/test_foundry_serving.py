"""Policies of VLA Foundry command here what they commanded there.

data/foundry_served.json holds numbers and settings alone: configurations, statistics, seeds of
random weights and observations, and the poses and widths that VLA Foundry's own serving code, run
on those, commands: pictures resized, prompt made and cut into tokens, states and past actions
normalised, the flow's steps, denormalised, made absolute. Its grippers' debouncing is left out.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from policy_interface.demonstration import (
    Demonstration,
    demonstration_path,
    save_demonstration,
)
from policy_interface.types import CameraView, ChunkGuidance, Observation, Pose, RobotState
from policy_server.targets import TargetOptions, resolve
from tests.trainer.importing.releases import change_configuration, drawn_tensors
from trainer.checkpoint import CheckpointError, read_checkpoint
from trainer.command_line import main
from trainer.inference import Policy
from trainer.policy_loading import load_policy

POLICIES: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data/foundry_served.json").read_text()
)
ARMS = ("left::panda", "right::panda")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def write_release(name: str, folder: Path) -> Path:
    """The policy in VLA Foundry's layout, its weights drawn anew from the seed."""
    policy = POLICIES[name]
    (folder / "checkpoints").mkdir(parents=True)
    for file, content in policy["files"].items():
        write_file(folder / file, content)
    tensors = drawn_tensors(policy, matrices=0.15, vectors=0.1)
    torch.save({"state_dict": tensors}, folder / "checkpoints" / "checkpoint_1.pt")
    return folder


def write_file(path: Path, content: Any) -> None:
    if path.name == "preprocessing_config.yaml":
        content = {int(key): value for key, value in content.items()}
    path.write_text((yaml.safe_dump if path.suffix == ".yaml" else json.dumps)(content))


def write_tokenizer(folder: Path, template: str | None, *, image: str = "<image>") -> Path:
    """A byte-level one, with a few words longer than a byte."""
    folder.mkdir()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "p"), ("Ġp", "u"), ("u", "t"), (":", "Ġ")]
    vocabulary = {word: i for i, word in enumerate([*letters, *map("".join, merges)])}
    tokenizer: Any = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([image, "<|im_start|>", "<end_of_utterance>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|im_start|>"}
    if template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def arguments(name: str, source: Path, output: Path, tokenizer: Path) -> list[str]:
    sizes = [f"{c}={w}x{h}" for c, (w, h) in POLICIES[name]["cameras"].items()]
    words = ["import", "foundry", str(source), "--output", str(output), "--name", "imported"]
    return [*words, "--tokenizer", str(tokenizer), "--camera-size", *sizes]


def random_pose(rng: np.random.Generator) -> Pose:
    quaternion = rng.standard_normal(4)
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return Pose(rotation=rotation, translation_m=rng.uniform(-0.4, 0.4, 3))


def observation(name: str, seed: int) -> Observation:
    policy, rng = POLICIES[name], np.random.default_rng(seed)

    def state() -> RobotState:
        poses = {arm: random_pose(rng) for arm in ARMS}
        return RobotState(
            poses=poses,
            gripper_widths_m={f"{arm}_hand": rng.uniform(0, 0.08) for arm in ARMS},
        )

    actual, desired = state(), state()
    return Observation(
        actual=actual,
        desired=desired,
        cameras={
            camera: CameraView(
                rgb=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
                intrinsics=np.eye(3),
                X_TC=Pose.identity(),
            )
            for camera, (width, height) in policy["cameras"].items()
        },
        language_instruction=policy["instruction"],
    )


def history(name: str) -> list[Observation]:
    return [observation(name, seed) for seed in POLICIES[name]["observation_seeds"]]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Checkpoints, each imported once."""
    root, done = tmp_path_factory.mktemp("foundry"), {}

    def of(name: str) -> Path:
        if name not in done:
            tokenizer = write_tokenizer(root / f"{name}_words", POLICIES[name]["template"])
            source = write_release(name, root / f"{name}_release")
            assert main(arguments(name, source, root / name, tokenizer)) == 0
            done[name] = root / name
        return done[name]

    return of


def served(path: Path, name: str, **options: Any) -> Policy:
    return load_policy(path, num_flow_steps=POLICIES[name]["flow_steps"], **options)


@pytest.mark.parametrize("name", POLICIES)
def test_it_commands_what_the_original_commands(name: str, imported: Callable[[str], Path]) -> None:
    policy = served(imported(name), name)
    (chunk,) = policy.plan([history(name)], [7])
    expected = POLICIES[name]["commanded"]
    assert len(chunk) == len(expected)
    for action, fields in zip(chunk, expected, strict=True):
        for field, numbers in fields.items():
            owner = field.split("__")[3]
            if "grippers" in field:
                got = np.array([action.gripper_widths_m[owner]])
            else:
                pose = action.poses[owner]
                is_place = field.endswith("xyz")
                got = pose.translation_m if is_place else pose.rotation[:2].ravel()
            np.testing.assert_allclose(got, numbers, atol=2e-5, err_msg=f"{name} {field}")


@pytest.mark.parametrize("name", POLICIES)
def test_it_is_told_the_same_prompt(name: str, imported: Callable[[str], Path]) -> None:
    prompts: Any = read_checkpoint(imported(name)).build_prompts()
    prompt = prompts.encode(POLICIES[name]["instruction"])
    assert prompt[prompt >= 0].tolist() == POLICIES[name]["prompt"]
    # What looks like a picture in an instruction is none.
    token = POLICIES[name]["files"]["vlm_config_model.yaml"]["image_token_id"]
    assert (prompts.encode("an <image>") == token).sum() == (prompt == token).sum()
    with pytest.raises(ValueError, match="expected at most 96 tokens, got 97"):
        prompts.encode("x" * 97)


def test_the_server_serves_it_in_batches_and_in_real_time(
    imported: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = "lbm"
    path = imported(name)
    policy: Any = resolve(str(path), TargetOptions(max_batch_size=2, guided=True))()
    assert (policy.num_observations, policy.chunk_length, policy.open_loop_steps) == (2, 4, 4)
    assert policy.num_flow_steps == 10
    mine, other = history(name), [observation(name, seed) for seed in (1, 2)]
    (alone,) = policy.plan([mine], [7])
    together, _ = policy.plan([mine, other], [7, 8])
    for one, two in zip(alone, together, strict=True):
        for arm in ARMS:
            assert (one.poses[arm].matrix() == two.poses[arm].matrix()).all()
    # The picture of a step ago counts, and what was commanded then.
    for changed in ([other[0], mine[1]], [mine[0], replace(mine[1], desired=other[1].desired)]):
        (chunk,) = policy.plan([changed], [7])
        assert any((chunk[0].poses[a].matrix() != alone[0].poses[a].matrix()).any() for a in ARMS)
    (guided,) = policy.plan_guided([mine], [9], [ChunkGuidance(actions=alone, num_frozen=2)])
    for one, two in zip(alone[:2], guided[:2], strict=True):
        for arm in ARMS:
            np.testing.assert_allclose(one.poses[arm].matrix(), two.poses[arm].matrix(), atol=1e-5)

    assert main(["inspect", str(path)]) == 0
    told = capsys.readouterr().out
    assert "foundry_policy" in told
    assert "scene_right_0 40x30, wrist_left_plus 33x50" in told
    assert main(["export", "hf", str(path), "--output", str(tmp_path / "out")]) == 0
    assert "policy-server serve out" in (tmp_path / "out" / "README.md").read_text()


def test_what_is_missing_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_release("lbm", tmp_path / "release")
    tokenizer = write_tokenizer(tmp_path / "words", None)
    (source / "preprocessing_config.yaml").unlink()
    words = ["import", "foundry", str(source), "--output"]
    # Without a tokenizer it is a model; with one, a policy was asked for.
    assert main([*words, str(tmp_path / "model")]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    for part in (
        "--tokenizer",
        "--camera-size",
        "--resize",
        "['scene_right_0', 'wrist_left_plus']",
    ):
        assert part in told
    assert main([*words, str(tmp_path / "out"), "--tokenizer", str(tokenizer)]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert "to be served it lacks the pictures' sizes of ['scene_right_0'" in told
    assert "--tokenizer" not in told
    sizes = ["--camera-size", "20x20", "scene_right_0=40x30", "--resize", "28x24"]
    assert main([*words, str(tmp_path / "out"), "--tokenizer", str(tokenizer), *sizes]) == 0
    assert str(read_checkpoint(tmp_path / "out").contract.cameras["wrist_left_plus"]) == "20x20"


def _data(key: str, value: Any) -> Callable[[Path], None]:
    return _changed("config.yaml", lambda fields: fields["data"].update({key: value}))


def _changed(file: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        fields = json.loads(json.dumps(POLICIES["lbm"]["files"][file]))
        change(fields)
        write_file(folder / file, fields)

    return apply


LEFT = "robot__action__poses__left::panda__xyz_relative"


@pytest.mark.parametrize(
    ("match", "change"),
    [
        ("processor: expected one of 'simple_vlm', got 'org/name'", _data("processor", "org/name")),
        ("img_num_tokens: expected 4", _data("img_num_tokens", 64)),
        ("pose_groups: expected a group with", _data("pose_groups", [{"position_key": 3}])),
        ("fields of relative poses", _data("action_fields", [LEFT.removesuffix("_relative")])),
        ("among them", _data("action_fields", [LEFT])),
        ("each field once", _data("action_fields", [LEFT, LEFT])),
        ("action_fields: expected a list of names", _data("action_fields", {"a": 1})),
        ("fields of measured poses", _data("proprioception_fields", [LEFT])),
        (
            "what is moved alone",
            _data("proprioception_fields", ["robot__actual__grippers__third"]),
        ),
        ("expected fields of 18 numbers", _data("proprioception_fields", [])),
        ("0 to 1000 each", _data("lowdim_future_timesteps", 10**12)),
        ("CAMERA_t0", _data("image_names", ["scene_right_0_t1"])),
        ("image_indices: expected whole", _data("image_indices", ["a"])),
        (
            "shape: expected two numbers",
            _data("augmentation", {"image": {"crop": {"shape": [0.5, 2]}}}),
        ),
        (
            "method: expected one of",
            _changed(
                "config_normalizer.yaml", lambda f: f["field_configs"][LEFT].update(method="median")
            ),
        ),
        (
            "no percentile_1_per_timestep",
            _changed("stats.json", lambda f: f[LEFT].pop("percentile_1_per_timestep")),
        ),
        (f"stats.json.{LEFT}: no", _changed("stats.json", lambda f: f.pop(LEFT))),
        (
            "expected numbers",
            _changed("stats.json", lambda f: f[LEFT].update(percentile_1_per_timestep={"a": 1})),
        ),
        (
            r"expected finite numbers of shape \(5, 3\)",
            _changed(
                "stats.json", lambda f: f[LEFT].update(percentile_1_per_timestep=[[0.0] * 3] * 4)
            ),
        ),
        (
            r"expected finite numbers of shape \(5, 3\)",
            _changed(
                "stats.json",
                lambda f: f[LEFT].update(percentile_1_per_timestep=[[float("nan")] * 3] * 8),
            ),
        ),
        (
            "image_resizing_method: expected one of",
            _changed(
                "preprocessing_config.yaml",
                lambda f: f["0"].update(image_resizing_method="squeeze"),
            ),
        ),
        (
            "image size: expected 1 to 8192",
            _changed(
                "preprocessing_config.yaml", lambda f: f["0"].update(resize_images_size=[9000, 4])
            ),
        ),
    ],
)
def test_a_release_that_cannot_be_served_is_said_in_one_line(
    match: str,
    change: Callable[[Path], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = write_release("lbm", tmp_path / "release")
    tokenizer = write_tokenizer(tmp_path / "words", None)
    change(source)
    assert main(arguments("lbm", source, tmp_path / "out", tokenizer)) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert re.search(match, told), told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("match", "change"),
    [
        ("at most 100000 tokens of them", lambda c: c["model"]["vision"].update(image_size=2**40)),
        ("instruction_tokens: expected", lambda c: c["model"].update(instruction_tokens=10**12)),
        ("past_steps: expected", lambda c: c["model"].update(past_steps=10**12)),
        ("expected cameras", lambda c: c["model"].update(pictures=["other_t0"] * 4)),
        ("weights do not fit", lambda c: c["model"]["expert"].update(num_layers=1)),
        ("unknown configuration key", lambda c: c["model"].update(clam=1.5)),
        ("times <image>", lambda c: c["model"].update(words_before="")),
    ],
)
def test_a_strangers_checkpoint_does_no_harm(
    match: str,
    change: Callable[[Any], None],
    imported: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(imported("lbm"), tmp_path / "copy")
    change_configuration(folder, change)
    with pytest.raises(CheckpointError, match=match):
        load_policy(folder)


@pytest.mark.parametrize(
    ("match", "template", "image"),
    [
        ("<image> and then the instruction once", "{{ messages[0]['role'] }}", "<image>"),
        ("cannot be used", "{% for %}", "<image>"),
        ("cannot be used", "{{ ''.__class__.__mro__[1].__subclasses__() }}", "<image>"),
        ("no special token '<image>'", None, "<picture>"),
    ],
)
def test_a_tokenizer_that_is_not_the_policys_is_refused(
    match: str,
    template: str | None,
    image: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = write_release("lbm", tmp_path / "release")
    tokenizer = write_tokenizer(tmp_path / "words", template, image=image)
    assert main(arguments("lbm", source, tmp_path / "out", tokenizer)) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert match in told


def test_its_plans_on_recordings_are_drawn(
    imported: Callable[[str], Path],
    make_demonstration: Callable[..., Demonstration],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It sees as many recorded steps as it looks back on, and what was commanded before each."""
    path = imported("two_past")
    policy = load_policy(path)
    contract = replace(policy.contract, uses_language=False)
    taught = make_demonstration(0, contract=contract)
    save_demonstration(taught, demonstration_path(tmp_path, 0))
    assert main(["predict", str(path), "--output", str(tmp_path / "plots")]) == 2
    assert "a policy that was imported does not know its data" in capsys.readouterr().err
    told: list[Sequence[Observation]] = []
    plan = Policy.plan

    def plan_and_note(self: Policy, observations: Any, noise: Any) -> Any:
        told.extend(observations)
        return plan(self, observations, noise)

    monkeypatch.setattr(Policy, "plan", plan_and_note)
    words = ["predict", str(path), "--data", str(tmp_path), "--episodes", "0"]
    assert main([*words, "--output", str(tmp_path / "plots")]) == 0
    assert (tmp_path / "plots" / "predictions.html").exists()
    arm, stride = "right::panda", policy.open_loop_steps
    assert len(told) == -(-14 // stride)
    for number, history in enumerate(told):
        assert len(history) == policy.num_observations > 1
        for back, seen in enumerate(reversed(history)):
            step = max(0, number * stride - back)
            actual, commanded = taught.actual.poses[arm], taught.action.poses[arm]
            np.testing.assert_allclose(seen.actual.poses[arm].matrix(), actual[step], atol=1e-9)
            desired = commanded[step - 1] if step else actual[0]
            np.testing.assert_allclose(seen.desired.poses[arm].matrix(), desired, atol=1e-9)

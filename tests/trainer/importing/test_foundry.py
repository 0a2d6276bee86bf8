"""Models of VLA Foundry give here what they gave there.

data/foundry.json holds numbers alone: configurations, names and shapes of tensors, seeds of random
weights, and the outputs that VLA Foundry's own code computed with those weights in float32.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from policy_interface.usage import UsageError
from tests.trainer.importing.releases import drawn_tensors, pattern
from trainer.importing.errors import ImportingError
from trainer.importing.foundry import import_foundry
from trainer.importing.verb import run_import
from trainer.models.backbone import VisionLanguageInput
from trainer.models.model_folder import read_model
from trainer.models.vision_language_action import VisionLanguageAction

MODELS: dict[str, Any] = json.loads((Path(__file__).parent / "data/foundry.json").read_text())
TRANSFORMER = next(name for name in MODELS if name.startswith("transformer"))
POLICIES = [name for name in MODELS if name.startswith("policy")]
IMAGE = 22


def release(name: str, folder: Path) -> Path:
    """The model in VLA Foundry's layout, its weights drawn anew from the seed."""
    model = MODELS[name]
    (folder / "checkpoints").mkdir(parents=True)
    for file, content in model["files"].items():
        write = yaml.safe_dump if file.endswith(".yaml") else json.dumps
        (folder / file).write_text(write(content))
    tensors = drawn_tensors(model, matrices=0.3, vectors=0.2)
    if name in POLICIES:
        tensors["sinusoidal_position_embeddings.emb"] = torch.ones(8)
    save(folder, {model["prefix"] + key: tensor for key, tensor in tensors.items()})
    return folder


def save(folder: Path, tensors: Any) -> None:
    content = {"checkpoint_num": 1, "state_dict": tensors, "datastrings": ["a"], "global_step": 3}
    torch.save(content, folder / "checkpoints" / "checkpoint_1.pt")


def load(folder: Path) -> dict[str, Tensor]:
    return torch.load(folder / "checkpoints" / "checkpoint_1.pt", weights_only=True)["state_dict"]


def images_and_words() -> VisionLanguageInput:
    """Two 16 x 16 images of four tokens each, and three words behind each."""
    token = torch.tensor([[IMAGE] * 4 + [1, 5, 9], [IMAGE] * 4 + [3, 8, 2]])
    return VisionLanguageInput(token_BS=token, images=pattern(2, 3, 16, 16, period=37))


def agree(got: Tensor, expected: Any, scale: float = 1.0) -> None:
    torch.testing.assert_close(got, torch.tensor(expected), atol=1e-5 * scale, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("transformer")])
def test_a_language_model_has_the_same_logits(name: str, tmp_path: Path) -> None:
    network: Any = import_foundry(str(release(name, tmp_path / "model"))).network
    token = torch.tensor([[1, 5, 9, 13, 2, 7], [3, 3, 8, 1, 20, 23]])
    with torch.no_grad():
        agree(network.logits(network(token).hidden_BSD), MODELS[name]["outputs"]["logits"])


def test_a_vision_language_model_has_the_same_logits(tmp_path: Path) -> None:
    network: Any = import_foundry(str(release("vlm", tmp_path / "model"))).network
    with torch.no_grad():
        hidden = network(images_and_words()).hidden_BSD
        agree(network.language.logits(hidden), MODELS["vlm"]["outputs"]["logits"])


@pytest.mark.parametrize("name", [name for name in POLICIES if "own" in name])
def test_a_policy_sees_and_moves_the_same(name: str, tmp_path: Path) -> None:
    network = import_foundry(str(release(name, tmp_path / "model"))).network
    assert isinstance(network, VisionLanguageAction)
    check_policy(network, images_and_words(), MODELS[name]["outputs"])


def check_policy(
    network: VisionLanguageAction, inputs: VisionLanguageInput, expected: dict[str, Any]
) -> None:
    space = network.config.space
    steps, chunk = space.proprioception_steps, (2, space.chunk_length, space.action_size)
    state = None
    if space.proprioception_size:
        state = pattern(2, steps, space.proprioception_size, step=5, period=17)
    with torch.no_grad():
        features = network.observe(inputs)
        agree(features.observation_B1F, expected["observation"])
        conditioning = network.expert.read(features, state)
        noisy = pattern(*chunk, step=7, period=23)
        velocity = network.expert(noisy, torch.tensor([3, 17]) / 20, conditioning)  # pyright: ignore
        agree(velocity, expected["velocity"])
        # The original's own steps: from level 19 of 20 down to 1, noise not clamped at first.
        x = torch.tensor(expected["noise"])
        for level in range(19, 0, -1):
            slope = network.expert(x, torch.full((2,), level / 20), conditioning)  # pyright: ignore
            x = (x - slope / 20).clamp(-1.5, 1.5)
        agree(x, expected["chunk"])


def test_the_verb_writes_a_folder_that_gives_the_same_chunk(tmp_path: Path, capsys: Any) -> None:
    source = release("policy_own_older", tmp_path / "model")
    assert run_import(["foundry", str(source), "--output", str(tmp_path / "ours")]) == 0
    assert "VisionLanguageAction of" in capsys.readouterr().out
    ours = read_model(tmp_path / "ours")
    # The older file's name for it is heeded.
    assert ours.config.expert.time_conditioning == "add"
    assert ours.config.objective.repeats == 8
    noise = pattern(2, 4, 4, period=7)
    other: Any = import_foundry(str(source)).network
    chunk = ours.sample(images_and_words(), noise)
    assert torch.equal(chunk, other.sample(images_and_words(), noise))
    assert json.loads((tmp_path / "ours" / "statistics.json").read_text())
    notes = json.loads((tmp_path / "ours" / "config.json").read_text())["notes"]
    assert notes["data"]["camera_names"] == ["c0"]
    assert notes["normalizer"] == {"method": "std"}
    with pytest.raises(ImportingError, match="already exists"):
        run_import(["foundry", str(source), "--output", str(tmp_path / "ours")])
    with pytest.raises(UsageError, match="unknown system 'fondry'"):
        run_import(["fondry"])


def test_averaged_weights_are_taken_where_the_model_has_them(tmp_path: Path) -> None:
    folder = release("vlm", tmp_path / "model")
    averaged = {key: tensor + 1 for key, tensor in load(folder).items() if "inv_freq" not in key}
    torch.save({"ema_state_dict": averaged}, folder / "checkpoints" / "ema_1.pt")
    raw: Any = import_foundry(str(folder)).network
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"ema": {"enabled": True}}))
    network: Any = import_foundry(str(folder)).network
    difference = network.connector.projection.weight - raw.connector.projection.weight
    torch.testing.assert_close(difference, torch.ones_like(difference))


class Anything:
    """What a pickle could hold besides tensors."""


def test_what_cannot_be_imported_is_said_in_one_line(tmp_path: Path) -> None:
    def refused(match: str, **fields: Any) -> None:
        config = yaml.safe_load(written)
        config["model"] |= fields
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(ImportingError, match=match) as caught:
            import_foundry(str(folder))
        assert "\n" not in str(caught.value)

    folder = release("policy_own", tmp_path / "model")
    written = (folder / "config.yaml").read_text()
    refused("'clip_hf' cannot be imported; expected transformer", type="clip_hf")
    refused("attn_name: expected one of", transformer={"attn_name": "custom_attn"})
    refused("use_flow_matching_scheduler: expected one of True", use_flow_matching_scheduler=False)
    refused(r"clamp_range: expected equal bounds", noise_scheduler={"clamp_range": [-1, 2]})
    refused("backbone.type: expected one of", vision_language_backbone={"type": "vit_backbone"})
    refused("action_dim is missing", action_dim=None)
    refused(r"expert\.from_actions\.weight: expected shape \(16, 5\)", action_dim=5)
    refused("missing expert.from_proprioception|unexpected expert", proprioception_dim=0)
    tensors = load(folder)
    prefix = MODELS["policy_own"]["prefix"]
    save(folder, {k: t for k, t in tensors.items() if k != f"{prefix}action_encode.bias"})
    refused("missing expert.from_actions.bias, unexpected none")
    save(folder, tensors | {f"{prefix}transformer.extra": torch.ones(2)})
    refused("unexpected tensor 'transformer.extra'")
    save(folder, Anything())
    refused("holds more than tensors")
    (folder / "checkpoints" / "checkpoint_1.pt").write_bytes(b"PK no zip")
    refused(r"checkpoint_1\.pt: ")
    (folder / "checkpoints" / "checkpoint_1.pt").unlink()
    refused("no checkpoint_N.pt")
    (folder / "config.yaml").write_text("a: [")
    with pytest.raises(ImportingError, match="not YAML"):
        import_foundry(str(folder))
    with pytest.raises(ImportingError, match="no such folder"):
        import_foundry(str(tmp_path / "nowhere"))


# Ten lists of ten, eleven times over.
BOMB = "a0: &a0 [0]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("match", "change"),
    [
        ("hidden_dim: expected of type int, got 'wide'", "model: {hidden_dim: wide}"),
        ("hidden_dim: expected of type int, got 8.5", "model: {hidden_dim: 8.5}"),
        ("width: expected a positive number, got -4", "model: {hidden_dim: -4}"),
        (r"expected shape \(24, 100000000\)", "model: {hidden_dim: 100000000}"),
        (r"expected shape \(1000000000000, 16\)", "model: {vocab_size: 1000000000000}"),
        ("no model can be made of it", f"model: {{vocab_size: {2**62}}}"),
        ("vocab_size: expected a number of 64 bits", f"model: {{vocab_size: {10**30}}}"),
        ("norm_eps: expected a number, got 'x'", "model: {norm_eps: x}"),
        ("more than 100000 values", f"{BOMB}data: {{x: *a11}}"),
        ("more than 100000 values", f"{BOMB}model: {{ffn_type: *a11}}"),
        ("more than 100000 values", "data: &me {x: *me}"),
        ("not YAML: maximum recursion", f"data: {'[' * 5000}{']' * 5000}"),
        ("not YAML: could not determine", "data: !!python/object/apply:os.getcwd []"),
        ("expected plain values, got b'hello'", "data: {x: !!binary aGVsbG8=}"),
    ],
)
def test_a_strangers_configuration_does_no_harm(match: str, change: str, tmp_path: Path) -> None:
    folder = release(TRANSFORMER, tmp_path / "model")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    lines = change.splitlines()
    key, _, fields = lines.pop().partition(": ")
    if key == "model":
        rest = ", ".join(f"{k}: {json.dumps(v)}" for k, v in config["model"].items())
        # The last of two equal keys is the one that counts.
        fields = f"{{{rest}, {fields[1:]}"
        lines.append(f"data: {json.dumps(config['data'])}")
    else:
        lines.append(f"model: {json.dumps(config['model'])}")
    (folder / "config.yaml").write_text("\n".join([*lines, f"{key}: {fields}"]))
    with pytest.raises(ImportingError, match=match):
        import_foundry(str(folder))


def test_a_day_in_a_configuration_stays_text(tmp_path: Path) -> None:
    folder = release(TRANSFORMER, tmp_path / "model")
    with (folder / "config_normalizer.yaml").open("w") as file:
        file.write("computed: 2026-01-02\n")
    run_import(["foundry", str(folder), "--output", str(tmp_path / "ours")])
    notes = json.loads((tmp_path / "ours" / "config.json").read_text())["notes"]
    assert notes["normalizer"] == {"computed": "2026-01-02"}


EMBEDDING = "transformer.embeddings.weight"
POSITIONS = "vit.patch_embedding.position_embedding"
HEAD = "transformer.output.weight"


@pytest.mark.parametrize(
    ("match", "change"),
    [
        ("state_dict of dense tensors", lambda t: {**t, 3: torch.ones(1)}),
        ("state_dict of dense tensors", lambda t: t | {HEAD: t[HEAD].to_sparse()}),
        ("state_dict of dense tensors", lambda t: t | {HEAD: t[HEAD].to(torch.complex64)}),
        (
            r"expected shape \(24, 16\), got \(1000000000000,\)",
            lambda t: t | {HEAD: torch.zeros(1, dtype=torch.bfloat16).expand(10**12)},
        ),
        (
            "embeddings.weight is missing, or is no matrix",
            lambda t: t | {EMBEDDING: torch.ones(())},
        ),
        (r"positions: expected shape .* got \(256,\)", lambda t: t | {POSITIONS: torch.ones(256)}),
        (
            "missing language.head.weight",
            lambda t: {k: v for k, v in t.items() if k != HEAD} | {EMBEDDING: torch.ones(25, 16)},
        ),
    ],
)
def test_a_strangers_tensors_do_no_harm(
    match: str, change: Callable[[dict[Any, Tensor]], dict[Any, Tensor]], tmp_path: Path
) -> None:
    folder = release("vlm", tmp_path / "model")
    save(folder, change(load(folder)))
    with pytest.raises(ImportingError, match=match):
        import_foundry(str(folder))


@pytest.mark.parametrize("content", [b"\x80\x02.", b"\x80\x02h\x05.", b"\x80\x02K"])
def test_a_damaged_pickle_is_said_in_one_line(content: bytes, tmp_path: Path) -> None:
    folder = release(TRANSFORMER, tmp_path / "model")
    with zipfile.ZipFile(folder / "checkpoints" / "checkpoint_1.pt", "w") as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/version", "3")
    with pytest.raises(ImportingError, match="no file that torch.save wrote whole"):
        import_foundry(str(folder))

"""A checkpoint becomes a repository that others load, and that says what it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from policy_interface.types import Observation
from policy_server.targets import TargetOptions, resolve
from trainer.checkpoint import read_checkpoint, write_checkpoint
from trainer.command_line import main
from trainer.data.text.tokenizer import TextTokenizer, train_tokenizer
from trainer.exporting.errors import ExportError
from trainer.exporting.evaluation import read_evaluation
from trainer.exporting.hugging_face import export_checkpoint
from trainer.exporting.markdown import code, escaped
from trainer.language_checkpoint import LanguageCheckpoint, write_language_checkpoint
from trainer.language_configuration import LanguageTrainConfig
from trainer.models.language.language_model import LanguageModel
from trainer.policy_loading import load_policy

HOSTILE = "x|y\n---\n# [z](http://a.b) <script>`\"'{{ }}: !!python ![i](j) \u202e *k*"


def files(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture
def digest(trained_checkpoint: Path) -> str:
    found = read_checkpoint(trained_checkpoint).digest
    assert found is not None
    return found


def record(scenario: int, outcome: str, **fields: Any) -> str:
    known = {"version": 2, "policy": "tiny@6", "task": "ReachTheSquare"}
    return json.dumps(known | {"scenario_index": scenario, "outcome": outcome} | fields) + "\n"


@pytest.fixture
def ledger(digest: str, tmp_path: Path) -> Path:
    """Three successes of four, one episode that never ran, one that did in its second attempt."""
    folder = tmp_path / "rollouts"
    folder.mkdir()
    design = {
        "version": 1,
        "policy_digest": digest,
        "num_episodes": 6,
        "station": {"simulator": "drake", "shift": "", "latency_ms": 100.0},
    }
    (folder / "evaluation.json").write_text(json.dumps(design))
    outcomes = ["success", "error", "failure", "success", "error", "success"]
    lines = [record(scenario, outcome) for scenario, outcome in enumerate(outcomes)]
    lines[5:] = [record(4, "error"), record(5, "success")]
    torn = record(7, "failure")[:-9]
    (folder / "ledger.jsonl").write_text("".join([*lines, record(1, "success"), torn]))
    return folder / "ledger.jsonl"


def test_a_policy_is_exported_served_and_told_of(
    trained_checkpoint: Path,
    ledger: Path,
    digest: str,
    make_observation: Callable[..., Observation],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "my box"
    output.mkdir()
    words = ["export", "hf", str(trained_checkpoint), "--output", str(output)]
    assert main([*words, "--evaluation", str(ledger), "--license", "apache-2.0"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == f"hf upload OWNER/my-box '{output}' ."
    assert "tensors are equal" in told[0]

    exported = files(output)
    card = exported.pop("README.md").decode()
    assert exported == files(trained_checkpoint)
    for expected in (
        "pip install '.[serve]'  # in Assay's checkout",
        "policy-server serve my-box",
        "| camera `scene.right` | 48x40 pixels |",
        "| arms | `right::panda`, `left::panda` |",
        "| control rate | 10 Hz |",
        f"`{digest}`",
        "of them trained on | 8 |",
        "| ReachTheSquare | 4 | 5 | 80.0 % (37.6 to 96.4 %, Wilson 95 %) | 1 | 1 |",
        "In the simulation drake, latency_ms 100.0.".replace("_", r"\_"),
    ):
        assert expected in card
    known = read_checkpoint(trained_checkpoint).provenance["held_out_action_error"]
    assert f"position {known['position_mm']:.4g} mm" in card

    told_to_the_hub: Any = ModelCard.load(output / "README.md").data
    assert told_to_the_hub.license == "apache-2.0"
    assert told_to_the_hub.library_name == "assay"
    (result,) = told_to_the_hub.eval_results or []
    assert (result.task_name, result.metric_type) == ("ReachTheSquare", "success_rate")
    assert result.metric_value == 0.8

    assert main(["inspect", str(output)]) == 0
    assert digest in capsys.readouterr().out
    served: Any = resolve(str(output), TargetOptions(max_batch_size=1))()
    original = load_policy(trained_checkpoint)
    history = [[make_observation(3)]]
    (ours,), (theirs,) = served.plan(history, [5]), original.plan(history, [5])
    for one, other in zip(ours, theirs, strict=True):
        for arm, pose in one.poses.items():
            assert (pose.matrix() == other.poses[arm].matrix()).all()


def test_a_report_of_step_analysis_counts_as_its_ledger_does(
    trained_checkpoint: Path, digest: str, ledger: Path, tmp_path: Path
) -> None:
    bounds = [0.2836, 0.9950]
    row = {"successes": 4, "num_counted": 5, "clopper_pearson": bounds}
    rows = [
        row | {"policy": policy, "num_errors": 1, "num_missing": 1} for policy in ("other", "mine")
    ]
    report = {
        "version": 2,
        "confidence": 0.95,
        "panels": [
            {"tasks": ["A", "ReachTheSquare"], "rates": []},
            {"tasks": ["ReachTheSquare"], "rates": rows},
        ],
        "shared_facts": [["Station: simulator", "drake"]],
        "provenance": [
            {"policy": "other", "facts": [["Checkpoint digest", "0" * 64]]},
            {"policy": "mine", "facts": [["Checkpoint digest", digest]]},
        ],
    }
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report))
    told = read_evaluation(file, name="tiny@6", digest=digest)
    of_ledger = read_evaluation(ledger.parent, name="tiny@6", digest=digest)
    assert [replace(each, interval=None) for each in told.tasks] == [
        replace(each, interval=None) for each in of_ledger.tasks
    ]
    assert told.tasks[0].interval == tuple(bounds)
    assert told.interval == "Clopper-Pearson"
    assert told.setting == {"simulator": "drake"}
    export_checkpoint(trained_checkpoint, tmp_path / "out", evaluation=file)
    assert (
        "80.0 % (28.4 to 99.5 %, Clopper-Pearson 95 %)"
        in (tmp_path / "out" / "README.md").read_text()
    )
    report["provenance"] = report["provenance"][:1]
    file.write_text(json.dumps(report))
    with pytest.raises(ExportError, match="expected one policy that is this checkpoint, tiny@6"):
        read_evaluation(file, name="tiny@6", digest=digest)


def test_an_evaluation_of_another_checkpoint_is_refused(
    trained_checkpoint: Path, ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    design = ledger.parent / "evaluation.json"
    design.write_text(json.dumps(json.loads(design.read_text()) | {"policy_digest": "0" * 64}))
    words = ["export", "hf", str(trained_checkpoint), "--output", str(tmp_path / "out")]
    assert main([*words, "--evaluation", str(ledger)]) == 2
    assert "expected one policy that is this checkpoint, tiny@6" in complaint(capsys)
    assert not (tmp_path / "out").exists()
    # Without a design its name is all there is, and the card says so.
    design.unlink()
    assert main([*words, "--evaluation", str(ledger)]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "does not tell the checkpoint's digest" in card
    assert "| 1 | unknown |" in card


@pytest.mark.parametrize(
    ("match", "content"),
    [
        ("no ledger or report.json", b"\xff\n"),
        ("no ledger or report.json", b"[" * 100_000 + b"\n"),
        ("no ledger or report.json", record(0, "triumph").encode()),
        ("no ledger or report.json", record(0, "success", version=9).encode()),
        ("no ledger or report.json", record(0, "success", scenario_index=None).encode()),
        ("no ledger or report.json", record(0, "success").encode().replace(b"0", b"1e999")),
        ("two outcomes", 2 * record(0, "success").encode()),
        ("empty ledger", record(0, "success").encode()[:-1]),
        (r"expected one policy that is", record(0, "success", policy="other").encode()),
    ],
)
def test_a_ledger_that_is_none_is_said_in_one_line(
    match: str, content: bytes, digest: str, tmp_path: Path
) -> None:
    file = tmp_path / "ledger.jsonl"
    file.write_bytes(content)
    with pytest.raises(ExportError, match=match) as caught:
        read_evaluation(file, name="tiny@6", digest=digest)
    assert "\n" not in str(caught.value)


def test_text_of_a_checkpoint_stays_text(trained_checkpoint: Path, tmp_path: Path) -> None:
    known = read_checkpoint(trained_checkpoint)
    provenance = {
        **known.provenance,
        "tasks": [HOSTILE, "b"],
        "git_sha": HOSTILE,
        "created": HOSTILE,
        "versions": {HOSTILE: [HOSTILE]},
        "held_out_action_error": {HOSTILE: HOSTILE},
        "training_s": {"deep": [[HOSTILE]]},
        "num_frames": 10**400,
    }
    config = replace(known.config, name=HOSTILE)
    write_checkpoint(replace(known, config=config, provenance=provenance), tmp_path / "hostile")
    digest = read_checkpoint(tmp_path / "hostile").digest
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text(record(0, "success", policy=f"{HOSTILE}@6", task=HOSTILE))
    design = {"version": 1, "policy_digest": digest, "num_episodes": 1}
    (tmp_path / "evaluation.json").write_text(
        json.dumps(design | {"station": {"simulator": HOSTILE}})
    )
    export_checkpoint(tmp_path / "hostile", tmp_path / "out", evaluation=ledger)
    text = (tmp_path / "out" / "README.md").read_text()
    head, _, body = text.removeprefix("---\n").partition("\n---\n")
    fields = yaml.safe_load(head)
    assert set(fields) == {"library_name", "pipeline_tag", "tags", "model-index"}
    assert fields["model-index"][0]["name"].startswith("x|y\\n---")
    huggingface_hub.metadata_load(tmp_path / "out" / "README.md")
    assert "<script" not in body
    assert "](" not in body.replace(r"\](", "")
    assert "://" not in body
    assert "\u202e" not in text
    titles = [line for line in body.splitlines() if line.startswith("#")]
    assert len(titles) == 7
    rows = [line for line in body.splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in rows} == {3, 7}


def test_escaped_text_keeps_its_characters() -> None:
    assert escaped("scene_right <b> a|b") == r"scene\_right &lt;b> a\|b"
    assert code("a_b") == "`a_b`"
    assert code("a`b") == r"a\`b"
    assert len(escaped("a" * 10_000)) < 400


@pytest.fixture
def language_checkpoint(tmp_path: Path) -> Path:
    tokenizer = tmp_path / "tokenizer.json"
    train_tokenizer(["the mug stands on the shelf"], 300, tokenizer)
    config = LanguageTrainConfig(data="texts", num_steps=2, name="words")
    network = LanguageModel(config.model)
    checkpoint = LanguageCheckpoint(
        weights=dict(network.named_parameters()),
        config=config,
        tokenizer=TextTokenizer(tokenizer).content(),
        provenance={"optimizer_step": 2, "held_out": {"loss": 2.0, "perplexity": 7.389}},
    )
    write_language_checkpoint(checkpoint, tmp_path / "words")
    return tmp_path / "words"


def test_a_language_model_is_exported_and_speaks(
    language_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "hf", str(language_checkpoint), "--output", str(tmp_path / "out")]
    assert main([*words, "--evaluation", "x"]) == 2
    assert "of policies alone" in complaint(capsys)
    assert main(words) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "pip install '.[train]'  # in Assay's checkout" in card
    assert "trainer sample out 'The robot'" in card
    assert "loss 2, perplexity 7.389" in card
    assert "license" not in card
    capsys.readouterr()
    assert main(["sample", str(tmp_path / "out"), "the mug", "--max-new-tokens", "2"]) == 0
    assert capsys.readouterr().out.startswith("the mug")


def test_nothing_is_overwritten_and_nothing_is_left(
    trained_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        assert main(["export", "hf", *words]) == 2
        return complaint(capsys)

    full = tmp_path / "full"
    full.mkdir()
    (full / "kept").write_text("mine")
    source = str(trained_checkpoint)
    assert "not an empty folder" in refused(source, "--output", str(full))
    assert "--license" in refused(source, "--output", str(tmp_path / "o"), "--license", "a\nb: c")
    assert "does not exist" in refused(str(tmp_path / "no"), "--output", str(tmp_path / "o"))
    copied = shutil.copytree(trained_checkpoint, tmp_path / "copied")
    os.truncate(copied / "model.safetensors", 1000)
    assert "corrupt" in refused(str(copied), "--output", str(tmp_path / "o"))
    # Whole files whose weights are of another network.
    known = read_checkpoint(trained_checkpoint)
    weights = {name: torch.stack([tensor, tensor]) for name, tensor in known.weights.items()}
    write_checkpoint(replace(known, weights=weights), tmp_path / "other")
    told = refused(str(tmp_path / "other"), "--output", str(tmp_path / "o"))
    assert "weights do not fit the configuration" in told
    shutil.rmtree(copied)
    shutil.rmtree(tmp_path / "other")
    assert [each.name for each in tmp_path.iterdir()] == ["full"]
    assert main(["export", "hub", source, "--output", "x"]) == 2
    assert "unknown destination 'hub'" in complaint(capsys)

"""`trainer inspect`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from policy_interface.printable import printable
from trainer.checkpoint import Checkpoint, read_checkpoint
from trainer.checkpoint_files import checkpoint_kind
from trainer.language_checkpoint import LanguageCheckpoint, read_language_checkpoint
from trainer.language_configuration import LanguageTrainConfig
from trainer.verbs.arguments import parse_arguments
from trainer.vision_language_checkpoint import read_vision_language_checkpoint
from trainer.vision_language_configuration import VisionLanguageTrainConfig


@dataclass(frozen=True, kw_only=True)
class InspectArguments:
    """Say what a checkpoint is, after verifying every file of it.

    Attributes:
        checkpoint: Its folder, such as runs/box/checkpoints/final.
        json: Print JSON.
    """

    checkpoint: tyro.conf.Positional[Path]
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def main(arguments: Sequence[str]) -> None:
    """Print what a checkpoint is, in words or as JSON."""
    parsed = parse_arguments(
        InspectArguments,
        arguments,
        program="trainer inspect",
        description="Say what a checkpoint is, after verifying every file of it.\n\n"
        "example: trainer inspect runs/box/checkpoints/final",
    )
    kind = checkpoint_kind(parsed.checkpoint)
    if kind == LanguageTrainConfig.kind:
        facts = describe_language_checkpoint(read_language_checkpoint(parsed.checkpoint))
    elif kind == VisionLanguageTrainConfig.kind:
        seeing = read_vision_language_checkpoint(parsed.checkpoint)
        facts = describe_language_checkpoint(seeing)
        facts["tokens_per_image"] = seeing.config.tokens_per_image
        facts["init"] = seeing.provenance.get("init") or None
    else:
        facts = describe_checkpoint(read_checkpoint(parsed.checkpoint))
    if parsed.json:
        print(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(printable(f"{name.replace('_', ' '):<{width}}  {_in_words(value)}"))


def describe_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """The facts that `trainer inspect` prints."""
    provenance, config, contract = checkpoint.provenance, checkpoint.config, checkpoint.contract
    return {
        **_identity(checkpoint),
        "tasks": provenance.get("tasks"),
        "held_out_action_error": provenance.get("held_out_action_error"),
        "cameras": {name: str(size) for name, size in contract.cameras.items()},
        "arms": list(contract.arms),
        "control_rate_hz": contract.control_rate_hz,
        "chunk_length": config.chunk_length,
        **_action_words(checkpoint),
        "serving": asdict(config.serving),
        "num_parameters": sum(tensor.numel() for tensor in checkpoint.weights.values()),
        "weights_format": config.weights_format,
        "num_bytes": checkpoint.num_bytes,
        "num_episodes": provenance.get("num_episodes"),
        **_origin(checkpoint),
    }


def _action_words(checkpoint: Checkpoint) -> dict[str, Any]:
    """Of a policy that tells actions in words."""
    tokenizer = checkpoint.action_tokenizer
    if tokenizer is None:
        return {}
    return {
        "action_words": {
            "known": tokenizer.vocabulary_size,
            "longest_fitted": tokenizer.longest,
            "most_in_a_chunk": tokenizer.most_words,
        }
    }


def describe_language_checkpoint(checkpoint: LanguageCheckpoint[Any]) -> dict[str, Any]:
    """The facts that `trainer inspect` prints of a model of text."""
    provenance, config = checkpoint.provenance, checkpoint.config
    model, shape = config.language, config.language.transformer
    return {
        **_identity(checkpoint),
        "held_out": provenance.get("held_out"),
        "shape": {"width": shape.width, "depth": shape.depth, "heads": shape.num_heads},
        "context_length": model.context_length,
        "vocabulary_size": model.vocabulary_size,
        "tokenizer_vocabulary_size": checkpoint.build_tokenizer().vocabulary_size,
        "num_parameters": sum(tensor.numel() for tensor in checkpoint.weights.values()),
        "weights_format": config.weights_format,
        "num_bytes": checkpoint.num_bytes,
        "data": provenance.get("data"),
        "num_documents": provenance.get("num_documents"),
        "num_tokens_of_data": provenance.get("num_tokens_of_data"),
        **_origin(checkpoint),
    }


def _identity(checkpoint: Checkpoint | LanguageCheckpoint[Any]) -> dict[str, Any]:
    return {
        "name": checkpoint.config.name,
        "kind": checkpoint.config.kind,
        "sha256": checkpoint.digest,
        "optimizer_step": checkpoint.provenance.get("optimizer_step"),
        "total_steps": checkpoint.provenance.get("total_steps"),
    }


def _origin(checkpoint: Checkpoint | LanguageCheckpoint[Any]) -> dict[str, Any]:
    return {
        "data_sha256": checkpoint.provenance.get("data_sha256"),
        "seed": checkpoint.provenance.get("seed"),
        "created": checkpoint.provenance.get("created"),
        "training_s": checkpoint.provenance.get("training_s"),
        "git_sha": checkpoint.provenance.get("git_sha"),
        "git_dirty": checkpoint.provenance.get("git_dirty"),
        "versions": checkpoint.provenance.get("versions"),
    }


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return "unknown" if value is None else str(value)

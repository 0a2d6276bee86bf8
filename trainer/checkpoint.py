"""A policy's checkpoint: a directory that explains itself and needs nothing else to be loaded.

    model.safetensors    the averaged (EMA) weights
    config.json          the resolved training configuration
    normalization.json   how robot states and actions are scaled
    contract.json        what the policy needs of a station
    provenance.json      code, data, seeds, versions, time, metrics
    tokenizer.json       of a policy that is told what to do: text to tokens
    MANIFEST.json        the size and SHA-256 of each file above

It is written aside and renamed, so nobody sees half of one. It holds no pickle: loading a
stranger's checkpoint runs none of its code. Its digest is the SHA-256 of its manifest.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from policy_interface.contract import Contract
from trainer.checkpoint_files import (
    CheckpointError,
    checkpoint_kind,
    encode_weights,
    json_object,
    read_checkpoint_files,
    reading,
    write_checkpoint_files,
)
from trainer.checkpoint_weights import network_of
from trainer.configuration import PolicyConfig, TrainConfig
from trainer.configuration_json import config_to_json, policy_config_from_json
from trainer.data.errors import DataError
from trainer.data.robot_transform import RobotTransform
from trainer.data.text.prompts import Prompts
from trainer.data.text.tokenizer import TextTokenizer
from trainer.models.chunk_policy import ChunkPolicy
from trainer.models.policy_network import PolicyNetwork
from trainer.models.vision_language_policy import VisionLanguagePolicy
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_NORMALIZATION, _CONTRACT, _PROVENANCE = "normalization.json", "contract.json", "provenance.json"
_TOKENIZER = "tokenizer.json"
_FILES = (_WEIGHTS, _CONFIG, _NORMALIZATION, _CONTRACT, _PROVENANCE)
_POLICY_KINDS = (TrainConfig.kind, VisionLanguageActionTrainConfig.kind)


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """All that a checkpoint holds. digest, num_bytes: None before it is written.

    tokenizer: the content of its file, of a policy that is told what to do.
    """

    weights: Mapping[str, Tensor]
    config: PolicyConfig
    transform: RobotTransform
    contract: Contract
    provenance: Mapping[str, Any]
    digest: str | None = None
    num_bytes: int | None = None
    tokenizer: Mapping[str, Any] | None = None

    def build_prompts(self) -> Prompts | None:
        """How an instruction is told, if it is. Raises CheckpointError for a tokenizer that is
        none, or not of such a policy."""
        if not isinstance(self.config, VisionLanguageActionTrainConfig):
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / _TOKENIZER
            path.write_text(json.dumps(self.tokenizer))
            try:
                return prompts_of(self.config, self.contract, TextTokenizer(path))
            except DataError as error:
                raise CheckpointError(str(error).replace(str(path), _TOKENIZER)) from error

    def build_network(self) -> ChunkPolicy:
        """The network with these weights, in float32, in evaluation mode. Loading is strict."""
        prompts = self.build_prompts()
        return network_of(
            lambda: build_network(self.config, self.contract, self.transform, prompts), self.weights
        )


def prompts_of(
    config: VisionLanguageActionTrainConfig, contract: Contract, tokenizer: TextTokenizer
) -> Prompts:
    """Raises DataError for a tokenizer without our special tokens."""
    return Prompts(
        tokenizer,
        num_images=len(contract.cameras),
        tokens_per_image=config.model.tokens_per_image,
        most_words=config.model.instruction_tokens,
    )


def build_network(
    config: PolicyConfig,
    contract: Contract,
    transform: RobotTransform,
    prompts: Prompts | None = None,
) -> ChunkPolicy:
    """A freshly initialised network of the shape that these call for.

    prompts: of a policy that is told what to do.
    """
    if isinstance(config, VisionLanguageActionTrainConfig):
        assert prompts is not None
        return VisionLanguagePolicy(
            config.model,
            cameras=tuple(contract.cameras),
            chunk_length=transform.chunk_length,
            action_size=transform.num_numbers,
            proprioception_size=transform.num_numbers,
            image_token=prompts.image_token,
        )
    assert isinstance(config, TrainConfig)
    return PolicyNetwork(
        config.model,
        cameras={name: (size.height, size.width) for name, size in contract.cameras.items()},
        chunk_length=transform.chunk_length,
        action_size=transform.num_numbers,
        proprioception_size=transform.num_numbers,
    )


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> str:
    """Write atomically and return the digest. Raises FileExistsError, OSError."""
    contents = {
        _WEIGHTS: encode_weights(checkpoint.weights, checkpoint.config.weights_format),
        _CONFIG: config_to_json(checkpoint.config).encode(),
        _NORMALIZATION: checkpoint.transform.to_json().encode(),
        _CONTRACT: (checkpoint.contract.to_json() + "\n").encode(),
        _PROVENANCE: (json.dumps(dict(checkpoint.provenance), indent=2) + "\n").encode(),
    }
    if checkpoint.tokenizer is not None:
        tokenizer = json.dumps(checkpoint.tokenizer, ensure_ascii=False)
        contents[_TOKENIZER] = (tokenizer + "\n").encode()
    return write_checkpoint_files(contents, path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify every file. Raises CheckpointError, one line that names what is wrong."""
    kind = checkpoint_kind(path)
    if kind not in _POLICY_KINDS:
        what = "a language model; `trainer sample` lets it speak"
        what = what if kind == "language" else repr(kind)
        raise CheckpointError(f"{path}: expected a policy's checkpoint, got that of {what}")
    has_tokenizer = kind != TrainConfig.kind
    files = read_checkpoint_files(path, (*_FILES, _TOKENIZER) if has_tokenizer else _FILES)
    contents = files.contents
    with reading(path):
        return Checkpoint(
            weights=safetensors.torch.load(contents[_WEIGHTS]),
            config=policy_config_from_json(contents[_CONFIG].decode()),
            transform=RobotTransform.from_json(contents[_NORMALIZATION].decode()),
            contract=Contract.from_json(contents[_CONTRACT].decode()),
            provenance=json_object(contents, _PROVENANCE),
            digest=files.digest,
            num_bytes=files.num_bytes,
            tokenizer=json_object(contents, _TOKENIZER) if has_tokenizer else None,
        )

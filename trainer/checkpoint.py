"""A policy's checkpoint: a directory that explains itself and needs nothing else to be loaded.

    model.safetensors    the averaged (EMA) weights
    config.json          the resolved training configuration
    normalization.json   how robot states and actions are scaled
    contract.json        what the policy needs of a station
    provenance.json      code, data, seeds, versions, time, metrics
    MANIFEST.json        the size and SHA-256 of each file above

It is written aside and renamed, so nobody sees half of one. It holds no pickle: loading a
stranger's checkpoint runs none of its code. Its digest is the SHA-256 of its manifest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
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
from trainer.configuration import TrainConfig
from trainer.configuration_json import config_to_json, policy_config_from_json
from trainer.data.robot_transform import RobotTransform
from trainer.models.policy_network import PolicyNetwork

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_NORMALIZATION, _CONTRACT, _PROVENANCE = "normalization.json", "contract.json", "provenance.json"
_FILES = (_WEIGHTS, _CONFIG, _NORMALIZATION, _CONTRACT, _PROVENANCE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """All that a checkpoint holds. digest, num_bytes: None before it is written."""

    weights: Mapping[str, Tensor]
    config: TrainConfig
    transform: RobotTransform
    contract: Contract
    provenance: Mapping[str, Any]
    digest: str | None = None
    num_bytes: int | None = None

    def build_network(self) -> PolicyNetwork:
        """The network with these weights, in float32, in evaluation mode. Loading is strict."""
        try:
            # Nothing of the claimed size is made before the weights are known to have it.
            with torch.device("meta"):
                shapes = build_network(self.config, self.contract, self.transform)
                shapes.load_state_dict(self.weights, strict=True, assign=True)
            network = build_network(self.config, self.contract, self.transform)
            weights = {name: tensor.float() for name, tensor in self.weights.items()}
            network.load_state_dict(weights, strict=True)
        except RuntimeError as error:
            raise CheckpointError(
                f"weights do not fit the configuration: {' '.join(str(error).split())}"
            ) from error
        return network.eval().requires_grad_(False)


def build_network(
    config: TrainConfig, contract: Contract, transform: RobotTransform
) -> PolicyNetwork:
    """A freshly initialised network of the shape that these three call for."""
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
    return write_checkpoint_files(contents, path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify every file. Raises CheckpointError, one line that names what is wrong."""
    kind = checkpoint_kind(path)
    if kind != TrainConfig.kind:
        what = "a language model; `trainer sample` lets it speak"
        what = what if kind == "language" else repr(kind)
        raise CheckpointError(f"{path}: expected a policy's checkpoint, got that of {what}")
    files = read_checkpoint_files(path, _FILES)
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
        )

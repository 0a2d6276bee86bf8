"""A checkpoint: a directory that explains itself and needs nothing else to be loaded.

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

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from policy_interface.contract import Contract, ContractError
from trainer.atomic_directory import atomic_directory
from trainer.configuration import ConfigurationError, TrainConfig, WeightsFormat
from trainer.configuration_json import config_from_json, config_to_json
from trainer.data.normalization import NormalizationError
from trainer.data.robot_transform import RobotTransform
from trainer.models.policy_network import PolicyNetwork

CHECKPOINT_FORMAT = "assay.checkpoint/1"

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_NORMALIZATION, _CONTRACT, _PROVENANCE = "normalization.json", "contract.json", "provenance.json"
_MANIFEST = "MANIFEST.json"
_FILES = (_WEIGHTS, _CONFIG, _NORMALIZATION, _CONTRACT, _PROVENANCE)

_DTYPES: Mapping[WeightsFormat, torch.dtype] = MappingProxyType(
    {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
)


class CheckpointError(ValueError):
    """A directory that is not a whole checkpoint of the format known here."""


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
        network = build_network(self.config, self.contract, self.transform)
        weights = {name: tensor.float() for name, tensor in self.weights.items()}
        try:
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
    dtype = _DTYPES[checkpoint.config.weights_format]
    weights = {
        name: tensor.detach().to(device="cpu", dtype=dtype).contiguous()
        for name, tensor in checkpoint.weights.items()
    }
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"weight {name!r}: not finite as {dtype}; nothing written")
    contents = {
        _WEIGHTS: safetensors.torch.save(weights),
        _CONFIG: config_to_json(checkpoint.config).encode(),
        _NORMALIZATION: checkpoint.transform.to_json().encode(),
        _CONTRACT: (checkpoint.contract.to_json() + "\n").encode(),
        _PROVENANCE: (json.dumps(dict(checkpoint.provenance), indent=2) + "\n").encode(),
    }
    manifest = {
        "format": CHECKPOINT_FORMAT,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }
    contents[_MANIFEST] = (json.dumps(manifest, indent=2) + "\n").encode()
    with atomic_directory(path) as directory:
        for name, content in contents.items():
            (directory / name).write_bytes(content)
    return hashlib.sha256(contents[_MANIFEST]).hexdigest()


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify every file. Raises CheckpointError, one line that names what is wrong."""
    manifest_text, files = _read_manifest(path)
    contents = {name: _read_verified(path / name, files[name]) for name in _FILES}
    try:
        return Checkpoint(
            weights=safetensors.torch.load(contents[_WEIGHTS]),
            config=config_from_json(contents[_CONFIG].decode()),
            transform=RobotTransform.from_json(contents[_NORMALIZATION].decode()),
            contract=Contract.from_json(contents[_CONTRACT].decode()),
            provenance=json.loads(contents[_PROVENANCE]),
            digest=hashlib.sha256(manifest_text).hexdigest(),
            num_bytes=sum(map(len, contents.values())) + len(manifest_text),
        )
    except (
        ConfigurationError,
        ContractError,
        NormalizationError,
        UnicodeDecodeError,
        json.JSONDecodeError,
        safetensors.SafetensorError,
    ) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint that this version reads: {error}"
        ) from error


def _read_manifest(path: Path) -> tuple[bytes, Mapping[str, Any]]:
    """Its bytes, and its entry for each file."""
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise CheckpointError(f"{path}: {what}; expected the folder of a checkpoint")
    try:
        text = (path / _MANIFEST).read_bytes()
    except FileNotFoundError:
        final = path / "checkpoints" / "final"
        hint = f"; did you mean {final}?" if final.is_dir() else ""
        raise CheckpointError(f"{path}: not a checkpoint: it has no {_MANIFEST}{hint}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    try:
        manifest = json.loads(text)
        found, files = manifest["format"], manifest["files"]
        known = {(entry["bytes"], entry["sha256"]) for entry in files.values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: {_MANIFEST} is malformed: {error!r}") from error
    if found != CHECKPOINT_FORMAT or not known or set(files) != set(_FILES):
        raise CheckpointError(
            f"{path}: expected a checkpoint of {CHECKPOINT_FORMAT!r} with files {sorted(_FILES)}, "
            f"got {found!r} with {sorted(files)}"
        )
    return text, files


def _read_verified(path: Path, entry: Mapping[str, Any]) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: listed in {_MANIFEST}, cannot be read: {error}") from error
    if len(content) != entry["bytes"]:
        raise CheckpointError(
            f"{path}: corrupt: expected {entry['bytes']} bytes, got {len(content)}"
        )
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise CheckpointError(f"{path}: corrupt: its SHA-256 is not that of {_MANIFEST}")
    return content

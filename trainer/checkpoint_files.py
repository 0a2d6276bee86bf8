"""The files of a checkpoint of any kind: written whole or not at all, read and verified.

MANIFEST.json holds the size and SHA-256 of each other file. A checkpoint's digest is the SHA-256
of its manifest. None of the files is a pickle: loading a stranger's checkpoint runs none of its
code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from trainer.atomic_directory import atomic_directory
from trainer.policy_configuration import TrainConfig
from trainer.training_configuration import WeightsFormat

CHECKPOINT_FORMAT = "assay.checkpoint/1"
CONFIG_FILE = "config.json"
MANIFEST_FILE = "MANIFEST.json"

_DTYPES: Mapping[WeightsFormat, torch.dtype] = MappingProxyType(
    {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
)


class CheckpointError(ValueError):
    """A directory that is not a whole checkpoint of the format known here."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckpointFiles:
    """contents: by name, without the manifest. num_bytes: of all, the manifest included."""

    contents: Mapping[str, bytes]
    digest: str
    num_bytes: int


def encode_weights(weights: Mapping[str, Tensor], weights_format: WeightsFormat) -> bytes:
    """Raises CheckpointError for a weight that is not finite in that format."""
    dtype = _DTYPES[weights_format]
    converted = {
        name: tensor.detach().to(device="cpu", dtype=dtype).contiguous()
        for name, tensor in weights.items()
    }
    for name, tensor in converted.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"weight {name!r}: not finite as {dtype}; nothing written")
    return safetensors.torch.save(converted)


def write_checkpoint_files(contents: Mapping[str, bytes], path: Path) -> str:
    """Write atomically and return the digest. Raises FileExistsError, OSError."""
    manifest = {
        "format": CHECKPOINT_FORMAT,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }
    text = (json.dumps(manifest, indent=2) + "\n").encode()
    with atomic_directory(path) as directory:
        for name, content in {**contents, MANIFEST_FILE: text}.items():
            (directory / name).write_bytes(content)
    return hashlib.sha256(text).hexdigest()


def read_checkpoint_files(path: Path, names: Sequence[str]) -> CheckpointFiles:
    """Read and verify every file. Raises CheckpointError where they are not exactly these."""
    text, files = _read_manifest(path)
    if set(files) != set(names):
        raise CheckpointError(
            f"{path}: expected a checkpoint of {CHECKPOINT_FORMAT!r} with files {sorted(names)}, "
            f"got one with {sorted(files)}"
        )
    contents = {name: _read_verified(path / name, files[name]) for name in names}
    return CheckpointFiles(
        contents=contents,
        digest=hashlib.sha256(text).hexdigest(),
        num_bytes=sum(map(len, contents.values())) + len(text),
    )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What a file's content makes a reader raise becomes a CheckpointError of one line."""
    try:
        yield
    except (ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint that this version reads: {error}"
        ) from error


def json_object(contents: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """Raises ValueError, RecursionError for what is none."""
    fields = json.loads(contents[name].decode())
    if not isinstance(fields, dict):
        raise CheckpointError(f"{name}: expected an object, got {fields!r:.80}")
    return fields


def checkpoint_kind(path: Path) -> str:
    """What its configuration says that it is. Raises CheckpointError where it has none."""
    _, files = _read_manifest(path)
    if CONFIG_FILE not in files:
        raise CheckpointError(f"{path}: its manifest lists no {CONFIG_FILE}")
    content = _read_verified(path / CONFIG_FILE, files[CONFIG_FILE])
    with reading(path):
        # Once there were policies alone, and nothing said so.
        return str(json_object({CONFIG_FILE: content}, CONFIG_FILE).get("kind", TrainConfig.kind))


def file_names(path: Path) -> tuple[str, ...]:
    """Those of its manifest, which is not one of them. Raises CheckpointError."""
    return tuple(_read_manifest(path)[1])


def _read_manifest(path: Path) -> tuple[bytes, Mapping[str, Any]]:
    """Its bytes, and its entry for each file."""
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise CheckpointError(f"{path}: {what}; expected the folder of a checkpoint")
    try:
        text = (path / MANIFEST_FILE).read_bytes()
    except FileNotFoundError:
        final = path / "checkpoints" / "final"
        hint = f"; did you mean {final}?" if final.is_dir() else ""
        raise CheckpointError(
            f"{path}: not a checkpoint: it has no {MANIFEST_FILE}{hint}"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    try:
        manifest = json.loads(text)
        found, files = manifest["format"], manifest["files"]
        known = {(entry["bytes"], entry["sha256"]) for entry in files.values()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: {MANIFEST_FILE} is malformed: {error!r}") from error
    if found != CHECKPOINT_FORMAT or not known:
        raise CheckpointError(
            f"{path}: expected a checkpoint of {CHECKPOINT_FORMAT!r}, got {found!r} "
            f"with files {sorted(files)}"
        )
    return text, files


def _read_verified(path: Path, entry: Mapping[str, Any]) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path}: listed in {MANIFEST_FILE}, cannot be read: {error}"
        ) from error
    if len(content) != entry["bytes"]:
        raise CheckpointError(
            f"{path}: corrupt: expected {entry['bytes']} bytes, got {len(content)}"
        )
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise CheckpointError(f"{path}: corrupt: its SHA-256 is not that of {MANIFEST_FILE}")
    return content

"""The checkpoint of a model of text: a directory that explains itself, as a policy's does.

    model.safetensors    the averaged (EMA) weights, or the last ones where there is no average
    config.json          the resolved training configuration
    tokenizer.json       text to tokens, in the layout of Hugging Face's `tokenizers`
    provenance.json      code, data, seeds, versions, time, held-out loss
    MANIFEST.json        the size and SHA-256 of each file above

It is written aside and renamed, and holds no pickle.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import safetensors.torch
from torch import Tensor

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
from trainer.configuration_json import config_from_json, config_to_json
from trainer.data.text.tokenizer import TextTokenizer
from trainer.language_configuration import LanguageTrainConfig, TextTrainConfig
from trainer.models.language.language_model import LanguageModel

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_TOKENIZER, _PROVENANCE = "tokenizer.json", "provenance.json"
_FILES = (_WEIGHTS, _CONFIG, _TOKENIZER, _PROVENANCE)


_Config = TypeVar("_Config", bound=TextTrainConfig)


@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageCheckpoint(Generic[_Config]):
    """All that it holds. digest, num_bytes: None before it is written."""

    weights: Mapping[str, Tensor]
    config: _Config
    tokenizer: Mapping[str, Any]
    provenance: Mapping[str, Any]
    digest: str | None = None
    num_bytes: int | None = None

    def build_model(self: LanguageCheckpoint[LanguageTrainConfig]) -> LanguageModel:
        """The model with these weights, in float32, in evaluation mode. Loading is strict."""
        return network_of(lambda: LanguageModel(self.config.model), self.weights)

    def build_tokenizer(self) -> TextTokenizer:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / _TOKENIZER
            path.write_text(json.dumps(self.tokenizer))
            return TextTokenizer(path)


def write_language_checkpoint(checkpoint: LanguageCheckpoint[Any], path: Path) -> str:
    """Write atomically and return the digest. Raises FileExistsError, OSError."""
    tokenizer = json.dumps(checkpoint.tokenizer, ensure_ascii=False)
    contents = {
        _WEIGHTS: encode_weights(checkpoint.weights, checkpoint.config.weights_format),
        _CONFIG: config_to_json(checkpoint.config).encode(),
        _TOKENIZER: (tokenizer + "\n").encode(),
        _PROVENANCE: (json.dumps(dict(checkpoint.provenance), indent=2) + "\n").encode(),
    }
    return write_checkpoint_files(contents, path)


def read_language_checkpoint(path: Path) -> LanguageCheckpoint[LanguageTrainConfig]:
    """Read and verify every file. Raises CheckpointError, one line that names what is wrong."""
    return read_text_checkpoint(path, LanguageTrainConfig, "a language model")


def read_text_checkpoint(path: Path, kind: type[_Config], what: str) -> LanguageCheckpoint[_Config]:
    """As read_language_checkpoint, of any model of text. what: its kind in words."""
    found = checkpoint_kind(path)
    if found != kind.kind:
        raise CheckpointError(f"{path}: expected {what}, got a checkpoint of kind {found!r}")
    files = read_checkpoint_files(path, _FILES)
    contents = files.contents
    with reading(path):
        config = config_from_json(contents[_CONFIG].decode())
        assert isinstance(config, kind)
        return LanguageCheckpoint(
            weights=safetensors.torch.load(contents[_WEIGHTS]),
            config=config,
            tokenizer=json_object(contents, _TOKENIZER),
            provenance=json_object(contents, _PROVENANCE),
            digest=files.digest,
            num_bytes=files.num_bytes,
        )

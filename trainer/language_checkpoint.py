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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from trainer.checkpoint_files import (
    CheckpointError,
    checkpoint_kind,
    encode_weights,
    json_object,
    read_checkpoint_files,
    reading,
    write_checkpoint_files,
)
from trainer.configuration_json import config_from_json, config_to_json
from trainer.data.text.tokenizer import TextTokenizer
from trainer.language_configuration import LanguageTrainConfig, TextTrainConfig
from trainer.models.language.language_model import LanguageModel

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_TOKENIZER, _PROVENANCE = "tokenizer.json", "provenance.json"
_FILES = (_WEIGHTS, _CONFIG, _TOKENIZER, _PROVENANCE)


_Config = TypeVar("_Config", bound=TextTrainConfig)
_Network = TypeVar("_Network", bound=nn.Module)


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
        return self.filled(lambda: LanguageModel(self.config.model))

    def filled(self, build: Callable[[], _Network]) -> _Network:
        """A network with these weights, in evaluation mode. Raises CheckpointError where they are
        not its own."""
        try:
            # Nothing of the claimed size is made before the weights are known to have it.
            with torch.device("meta"):
                shapes = build()
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise CheckpointError(
                f"no model has the shape of the configuration: {reason}"
            ) from error
        # A head that is the embedding has no weight of its own, here as in the file.
        expected = dict(shapes.named_parameters())
        differing = sorted(expected.keys() ^ self.weights.keys())
        differing += [
            f"{name} {tuple(self.weights[name].shape)}, not {tuple(parameter.shape)}"
            for name, parameter in expected.items()
            if name in self.weights and self.weights[name].shape != parameter.shape
        ]
        if differing:
            raise CheckpointError(
                f"weights do not fit the configuration: missing, unexpected or of another shape "
                f"are {', '.join(differing)}"
            )
        network = build()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(self.weights[name])
        return network.eval().requires_grad_(False)

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

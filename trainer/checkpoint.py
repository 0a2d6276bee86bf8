"""A policy's checkpoint: a directory that explains itself and needs nothing else to be loaded.

    model.safetensors    the averaged (EMA) weights
    config.json          the resolved training configuration
    normalization.json   how robot states and actions are scaled
    contract.json        what the policy needs of a station
    provenance.json      code, data, seeds, versions, time, metrics
    tokenizer.json       of a policy that is told what to do: text to tokens
    action_tokenizer.json  of a policy that tells actions in words: chunks to words
    MANIFEST.json        the size and SHA-256 of each file above

It is written aside and renamed, so nobody sees half of one. It holds no pickle: loading a
stranger's checkpoint runs none of its code. Its digest is the SHA-256 of its manifest.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import safetensors.torch
from torch import Tensor

from policy_interface.contract import Contract
from trainer.action_token_configuration import ActionTokenShape
from trainer.checkpoint_files import (
    CheckpointError,
    checkpoint_kind,
    encode_weights,
    file_names,
    json_object,
    read_checkpoint_files,
    reading,
    write_checkpoint_files,
)
from trainer.checkpoint_weights import network_of
from trainer.configuration_json import config_to_json, policy_config_from_json
from trainer.data.errors import DataError
from trainer.data.robot_transform import RobotTransform
from trainer.data.text.prompts import Prompts
from trainer.data.text.tokenizer import TextTokenizer
from trainer.foundry.configuration import FoundryPolicyConfig
from trainer.foundry.network import FoundryPolicy
from trainer.foundry.pictures import prepared
from trainer.foundry.prompts import FoundryPrompts
from trainer.history_configuration import HistoryConfig
from trainer.models.action.action_token_file import (
    ActionTokenFileError,
    action_tokenizer_from_json,
    action_tokenizer_to_json,
)
from trainer.models.action.action_tokens import ActionTokenConfig, ActionTokenizer
from trainer.models.action_token_policy import ActionTokenPolicy
from trainer.models.chunk_policy import ChunkPolicy
from trainer.models.policy_network import PolicyNetwork
from trainer.models.vision_language_policy import VisionLanguagePolicy
from trainer.observation_reading import ObservationReader
from trainer.policy_configuration import PolicyConfig, TrainConfig
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_NORMALIZATION, _CONTRACT, _PROVENANCE = "normalization.json", "contract.json", "provenance.json"
_TOKENIZER, _ACTION_TOKENIZER = "tokenizer.json", "action_tokenizer.json"
_FILES = (_WEIGHTS, _CONFIG, _NORMALIZATION, _CONTRACT, _PROVENANCE)
_TOLD_KINDS = (VisionLanguageActionTrainConfig.kind, FoundryPolicyConfig.kind)
_POLICY_KINDS = (TrainConfig.kind, *_TOLD_KINDS)


class InstructionPrompts(Protocol):
    def encode(self, instruction: str) -> npt.NDArray[np.int64]:
        """Tokens (S,), padded in front. Raises DataError for one that cannot be told."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """All that a checkpoint holds. digest, num_bytes: None before it is written.

    tokenizer: the content of its file, of a policy that is told what to do. action_tokenizer: of a
    policy that tells actions in words.
    """

    weights: Mapping[str, Tensor]
    config: PolicyConfig | FoundryPolicyConfig
    transform: RobotTransform
    contract: Contract
    provenance: Mapping[str, Any]
    digest: str | None = None
    num_bytes: int | None = None
    tokenizer: Mapping[str, Any] | None = None
    action_tokenizer: ActionTokenizer | None = None

    def build_prompts(self) -> InstructionPrompts | None:
        """How an instruction is told, if it is. Raises CheckpointError for a tokenizer that is
        none, or not of such a policy."""
        config = self.config
        if config.kind not in _TOLD_KINDS:
            return None
        tokenizer = self.build_tokenizer()
        try:
            if isinstance(config, FoundryPolicyConfig):
                return FoundryPrompts(tokenizer, config.model)
            assert isinstance(config, VisionLanguageActionTrainConfig)
            return prompts_of(config, self.contract, tokenizer)
        except DataError as error:
            raise CheckpointError(str(error).replace(str(tokenizer.path), _TOKENIZER)) from error

    def build_tokenizer(self) -> TextTokenizer:
        """Of a policy that is told what to do. Raises CheckpointError for none."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / _TOKENIZER
            path.write_text(json.dumps(self.tokenizer))
            try:
                return TextTokenizer(path)
            except DataError as error:
                raise CheckpointError(str(error).replace(str(path), _TOKENIZER)) from error

    def build_network(self) -> ChunkPolicy:
        """The network with these weights, in float32, in evaluation mode. Loading is strict."""
        config, transform = self.config, self.transform
        if isinstance(config, FoundryPolicyConfig):
            return network_of(lambda: build_foundry_network(config, transform), self.weights)
        prompts = self.build_prompts()
        assert prompts is None or isinstance(prompts, Prompts)
        return network_of(
            lambda: build_network(config, self.contract, transform, prompts, self.action_tokenizer),
            self.weights,
        )


def prompts_of(
    config: VisionLanguageActionTrainConfig, contract: Contract, tokenizer: TextTokenizer
) -> Prompts:
    """Raises DataError for a tokenizer without our special tokens."""
    return Prompts(
        tokenizer,
        num_images=len(config.history.pictures(contract.cameras)),
        tokens_per_image=config.model.tokens_per_image,
        most_words=config.model.instruction_tokens,
        chat=config.model.chat,
    )


def build_network(
    config: PolicyConfig,
    contract: Contract,
    transform: RobotTransform,
    prompts: Prompts | None = None,
    action_tokenizer: ActionTokenizer | None = None,
    *,
    pretrained: bool = False,
) -> ChunkPolicy:
    """A freshly initialised network of the shape that these call for.

    prompts: of a policy that is told what to do. action_tokenizer: of one that tells actions in
    words. pretrained: what is of Hugging Face's has the
    weights of its folder.
    """
    if isinstance(config, VisionLanguageActionTrainConfig):
        assert prompts is not None
        if isinstance(config.model, ActionTokenShape):
            assert action_tokenizer is not None
            return ActionTokenPolicy(
                config.model,
                action_tokenizer,
                cameras=tuple(contract.cameras),
                proprioception_size=transform.num_numbers,
                image_token=prompts.image_token,
                pretrained=pretrained,
            )
        return VisionLanguagePolicy(
            config.model,
            cameras=tuple(contract.cameras),
            chunk_length=transform.chunk_length,
            action_size=transform.num_numbers,
            image_token=prompts.image_token,
            history=config.history,
            pretrained=pretrained,
        )
    assert isinstance(config, TrainConfig)
    return PolicyNetwork(
        config.model,
        cameras={name: (size.height, size.width) for name, size in contract.cameras.items()},
        chunk_length=transform.chunk_length,
        action_size=transform.num_numbers,
        proprioception_size=transform.num_numbers,
    )


def build_foundry_network(config: FoundryPolicyConfig, transform: RobotTransform) -> FoundryPolicy:
    return FoundryPolicy(
        config.model, chunk_length=transform.chunk_length, action_size=transform.num_numbers
    )


def build_reader(checkpoint: Checkpoint) -> ObservationReader:
    """How observations become what the checkpoint's network is given. Raises CheckpointError."""
    config, contract, transform = checkpoint.config, checkpoint.contract, checkpoint.transform
    if isinstance(config, FoundryPolicyConfig):
        missing = sorted(set(config.model.cameras) - set(contract.cameras))
        if missing:
            raise CheckpointError(
                f"contract.json: expected cameras {missing}, which pictures are of"
            )
        shape = config.model
        return ObservationReader(
            contract,
            transform,
            pictures=dict(zip(shape.pictures, shape.places, strict=True)),
            past_steps=shape.past_steps,
            prepare=partial(prepared, config=shape.picture),
        )
    history = history_of(config)
    return ObservationReader(
        contract,
        transform,
        pictures=history.pictures(contract.cameras),
        past_steps=history.past_steps,
    )


def history_of(config: PolicyConfig) -> HistoryConfig:
    """What a policy sees and knows of past control steps."""
    told = isinstance(config, VisionLanguageActionTrainConfig)
    return config.history if told else HistoryConfig()


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
    if checkpoint.action_tokenizer is not None:
        contents[_ACTION_TOKENIZER] = action_tokenizer_to_json(checkpoint.action_tokenizer).encode()
    return write_checkpoint_files(contents, path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify every file. Raises CheckpointError, one line that names what is wrong."""
    kind = checkpoint_kind(path)
    if kind not in _POLICY_KINDS:
        what = {
            "language": "a language model; `trainer sample` lets it speak",
            "vision_language": "a vision-language model, which does not act: `trainer sample` asks "
            "it, and a policy begins with it (--init)",
        }.get(kind, repr(kind))
        raise CheckpointError(f"{path}: expected a policy's checkpoint, got that of {what}")
    has_tokenizer = kind in _TOLD_KINDS
    tells = has_tokenizer and _ACTION_TOKENIZER in file_names(path)
    names = (*_FILES, _TOKENIZER) if has_tokenizer else _FILES
    files = read_checkpoint_files(path, (*names, _ACTION_TOKENIZER) if tells else names)
    contents = files.contents
    with reading(path):
        config = policy_config_from_json(contents[_CONFIG].decode())
        transform = RobotTransform.from_json(contents[_NORMALIZATION].decode())
        return Checkpoint(
            weights=safetensors.torch.load(contents[_WEIGHTS]),
            config=config,
            transform=transform,
            contract=Contract.from_json(contents[_CONTRACT].decode()),
            provenance=json_object(contents, _PROVENANCE),
            digest=files.digest,
            num_bytes=files.num_bytes,
            tokenizer=json_object(contents, _TOKENIZER) if has_tokenizer else None,
            action_tokenizer=_action_tokenizer(contents.get(_ACTION_TOKENIZER), config, transform),
        )


def _action_tokenizer(
    content: bytes | None,
    config: PolicyConfig | FoundryPolicyConfig,
    transform: RobotTransform,
) -> ActionTokenizer | None:
    """Raises CheckpointError where there has to be another, or none."""
    model = config.model if isinstance(config, VisionLanguageActionTrainConfig) else None
    tells = isinstance(model, ActionTokenShape)
    if tells != (content is not None):
        expected = "an" if tells else "no"
        raise CheckpointError(f"expected {expected} {_ACTION_TOKENIZER}, as {_CONFIG} has it")
    if content is None or not isinstance(model, ActionTokenShape):
        return None
    try:
        tokenizer = action_tokenizer_from_json(content.decode())
    except ActionTokenFileError as error:
        raise CheckpointError(f"{_ACTION_TOKENIZER}: {error}") from error
    got = (tokenizer.config, tokenizer.space.chunk_length, tokenizer.space.action_size)
    expected = (model.tokens, transform.chunk_length, transform.num_numbers)
    if got != expected:
        raise CheckpointError(
            f"{_ACTION_TOKENIZER}: expected {_tokens_in_words(*expected)}, as {_CONFIG} and "
            f"{_NORMALIZATION} have it, got {_tokens_in_words(*got)}"
        )
    return tokenizer


def _tokens_in_words(config: ActionTokenConfig, chunk_length: int, action_size: int) -> str:
    return (
        f"scale {config.scale:g}, max_level {config.max_level}, vocabulary_size "
        f"{config.vocabulary_size}, chunk_length {chunk_length}, action_size {action_size}"
    )

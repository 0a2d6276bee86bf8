"""Policies that begin with a policy: with its weights, its shape and its scales.

What a network has learnt, it has learnt in numbers of one scale, of images in one order, for one
pair of arms: all of these go on as they were, whatever the new demonstrations are.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from policy_interface.contract import Contract
from trainer.atomic_file import atomic_file
from trainer.backbone_configuration import BackboneShape
from trainer.checkpoint import Checkpoint, read_checkpoint
from trainer.checkpoint_files import CheckpointError, checkpoint_kind
from trainer.configuration_json import config_from_json
from trainer.data.normalization import NormalizationError
from trainer.data.robot_transform import RobotTransform
from trainer.hugging_face_configuration import AnyVision
from trainer.initialization import load_part
from trainer.models.action.action_token_file import action_tokenizer_to_json
from trainer.models.chunk_policy import ChunkPolicy
from trainer.models.vision.configuration import ConvolutionalTowerConfig
from trainer.policy_configuration import PolicyConfig
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunDirectory, RunError
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig
from trainer.vision_language_configuration import VisionLanguageTrainConfig

_Policy = TypeVar("_Policy", bound=PolicyConfig)

# What a policy hands on to one that begins with it, as far as its kind has it.
_HANDED_ON = ("model", "chunk_length", "history", "normalization")

# What may be added to it, if it is asked for by name.
_MODULATED = "model.vision.modulated_views"


@dataclass(frozen=True, kw_only=True)
class PolicyBeginning:
    """checkpoint: None where the run has weights of its own by now. transform: its scales."""

    config: PolicyConfig
    checkpoint: Checkpoint | None
    transform: RobotTransform

    def give_weights(self, network: ChunkPolicy) -> None:
        """Raises ConfigurationError that names what does not fit."""
        if self.checkpoint is not None:
            load_part(
                network,
                self.checkpoint.weights,
                source=self.config.init,
                exceptions=self.config.init_except,
            )

    def keep_scales(self, run: RunDirectory) -> RobotTransform:
        """In the run's folder, which then needs the checkpoint no more; and return them."""
        if self.checkpoint is not None:
            with atomic_file(run.normalization) as file:
                file.write(self.transform.to_json().encode())
            if self.checkpoint.action_tokenizer is not None:
                with atomic_file(run.action_tokenizer) as file:
                    file.write(action_tokenizer_to_json(self.checkpoint.action_tokenizer).encode())
        return self.transform


def begins_with_a_policy(config: PolicyConfig) -> bool:
    """And not with a vision-language model, or with nothing.

    Raises CheckpointError for anything else.
    """
    if not config.init:
        return False
    kind = checkpoint_kind(_path(config))
    if kind == config.kind:
        return True
    expected = "a policy that is told nothing"
    if isinstance(config, VisionLanguageActionTrainConfig):
        if kind == VisionLanguageTrainConfig.kind:
            return False
        expected = "a vision-language model, or a policy that is told what to do,"
    raise CheckpointError(
        f"{_path(config)}: expected {expected} to begin with, got a checkpoint of kind {kind!r}"
    )


def shaped_like_a_policy(
    config: _Policy, run: RunDirectory | None, asked: Collection[str]
) -> _Policy | None:
    """With the shape of the policy that it begins with, or that the run began with; None where
    that is none.

    Raises CheckpointError, ConfigurationError.
    """
    if run is not None and run.has_state():
        if not run.normalization.exists():
            return None
        before = config_from_json(run.config_path.read_text())
        if before.kind != config.kind:
            return None
        assert isinstance(before, PolicyConfig)
        cameras = config.cameras if "cameras" in asked else before.cameras
        return replace(config, **_handed_on(before), cameras=cameras)
    if not begins_with_a_policy(config):
        return None
    beginning = read_checkpoint(_path(config))
    assert isinstance(beginning.config, PolicyConfig)
    cameras = tuple(beginning.contract.cameras)
    if config.cameras is not None and "cameras" in asked:
        _require_as_many(config.cameras, cameras, config.init)
        cameras = config.cameras
    handed_on = _handed_on(beginning.config)
    own = handed_on["model"]
    if (
        _MODULATED in asked
        and isinstance(config, VisionLanguageActionTrainConfig)
        and isinstance(config.model, BackboneShape)
        and isinstance(own, BackboneShape)
    ):
        vision = modulated_as(own.vision, config.model.vision)
        handed_on["model"] = replace(own, vision=vision)
    return replace(config, **handed_on, cameras=cameras)


def modulated_as(vision: AnyVision, asked: AnyVision) -> AnyVision:
    """A beginning's tower, with what this run lets the words decide of it.

    A modulation changes nothing at first, so that one can be added to what was learnt without it.
    """
    if not isinstance(vision, ConvolutionalTowerConfig):
        return vision
    if vision.modulated_views or not isinstance(asked, ConvolutionalTowerConfig):
        return vision
    return replace(
        vision, modulated_views=asked.modulated_views, modulation_width=asked.modulation_width
    )


def policy_beginning(
    config: PolicyConfig, run: RunDirectory, contract: Contract
) -> PolicyBeginning | None:
    """contract: of the demonstrations.

    Raises CheckpointError, ConfigurationError for other arms than the policy's, RunError.
    """
    if run.has_state():
        if not run.normalization.exists():
            return None
        checkpoint = None
        try:
            transform = RobotTransform.from_json(run.normalization.read_text())
        except (NormalizationError, UnicodeDecodeError) as error:
            raise RunError(f"{run.normalization}: {error}; choose another --output") from error
    elif begins_with_a_policy(config):
        checkpoint = read_checkpoint(_path(config))
        transform = checkpoint.transform
    else:
        return None
    for what in ("arms", "grippers"):
        expected, got = getattr(transform, what), getattr(contract, what)
        if expected != got:
            raise ConfigurationError(
                f"init: {config.init} is of {what} {list(expected)}, in this order; the "
                f"demonstrations have {list(got)}"
            )
    return PolicyBeginning(config=config, checkpoint=checkpoint, transform=transform)


def kept_scales(begun: PolicyBeginning | None, run: RunDirectory) -> RobotTransform | None:
    """Those of what the run began with; None for scales of the data."""
    if begun is not None:
        return begun.keep_scales(run)
    if not run.has_state():
        # Of a run in this folder that was killed before it had learnt anything, and began with a
        # policy, as this one does not.
        run.normalization.unlink(missing_ok=True)
    return None


def _handed_on(config: PolicyConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in _HANDED_ON if hasattr(config, name)}


def _require_as_many(asked: Collection[str], own: Collection[str], init: str) -> None:
    if len(asked) != len(own):
        raise ConfigurationError(
            f"cameras: expected {len(own)}, in the place of {', '.join(own)} of {init}, got "
            f"{', '.join(asked)}"
        )


def _path(config: PolicyConfig) -> Path:
    return Path(config.init).expanduser()
